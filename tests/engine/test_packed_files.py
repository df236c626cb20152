"""Adapters that are kept on disk as slots hold them answer as their bundles do, and nothing else is taken for them."""

import logging
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.engine.test_versions import soon

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base, load_base
from shopfit.engine import ChooseRequest, Engine
from shopfit.errors import BundleError, UnknownReference
from shopfit.registry import Registry
from shopfit.registry.garbage import collect
from shopfit.settings import Settings

QuickBundle = Callable[..., Bundle]
TEXT = {"text": "lovely crema"}
FIELDS = {"choose": TEXT, "rank": {"query": "keep warm"}, "generate": {"input": "see at night"}, "rate": TEXT}


@pytest.fixture
def registry(settings: Settings) -> Iterator[Registry]:
    with Registry.open(settings) as registry:
        yield registry


@pytest.fixture
def start(base: Base, registry: Registry, settings: Settings) -> Callable[..., Engine]:
    def start(base: Base = base, **options: Any) -> Engine:
        return Engine(base, **({"registry": registry, "cache": settings.cache, "slots": 2} | options))

    return start


def asked(engine: Engine, reference: str = "acme/r") -> dict[str, float]:
    answer = engine.choose([ChooseRequest(reference, TEXT)])[0]
    return dict(answer.probabilities)


def once(start: Callable[..., Engine], reference: str = "acme/r", **options: Any) -> dict[str, float]:
    """The answer of an engine that had nothing in memory; what it keeps on disk is there afterwards."""
    with start(**options) as engine:
        engine.ask(reference, TEXT)  # loads on this thread
        return asked(engine, reference)


def kept(settings: Settings) -> list[Path]:
    folder = settings.cache / "packed"
    return sorted(folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize("task", FIELDS)
@pytest.mark.parametrize(("method", "switch"), [("lora", ""), ("lora", "dora"), ("adalora", "")])
def test_the_same_answers_bit_for_bit_without_a_look_at_the_blobs(
    start: Callable[..., Engine],
    registry: Registry,
    settings: Settings,
    make_bundle: QuickBundle,
    task: str,
    method: str,
    switch: str,
) -> None:
    registry.publish(make_bundle("acme", task=task, method=method, switch=switch), promote=True, actor="test")
    answers = []
    for _ in range(2):
        with start() as engine:
            answers.append(engine.ask("acme/r", FIELDS[task]))
        assert len(kept(settings)) == 1
        shutil.rmtree(settings.blobs)
        Path(settings.blobs).mkdir()
    assert answers[0] == answers[1]


def test_a_prefix_is_read_from_its_bundle(
    start: Callable[..., Engine], registry: Registry, settings: Settings, make_bundle: QuickBundle
) -> None:
    registry.publish(make_bundle("acme", method="prefix"), promote=True, actor="test")
    assert once(start) == once(start)
    assert kept(settings) == []


def test_a_rank_above_what_an_engine_takes_is_refused_as_ever(
    start: Callable[..., Engine], registry: Registry, quick_bundle: QuickBundle
) -> None:
    registry.publish(quick_bundle("acme", rank=4), promote=True, actor="test")
    once(start)
    with pytest.raises(BundleError, match="has rank 4"):
        once(start, max_rank=2)


def flipped(place: float) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= 1
        path.write_bytes(content)

    return flip


def cut(by: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, max(0, path.stat().st_size - by))


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, Callable[[Path], None]] = {
    **{f"a bit at {place}": flipped(place) for place in (0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 1.0)},
    **{f"cut by {by}": cut(by) for by in (1, 1000, 1 << 40)},
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0") and None,
    "text": lambda path: path.write_text("not an adapter") and None,
    "sizes": lambda path: path.write_bytes(b"shopfit-packed-1 " + b"0" * 32 + b" 999999999999\n{}") and None,
    "a link": linked,
    "a pipe": piped,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_what_is_damaged_is_noticed_and_made_anew(
    start: Callable[..., Engine],
    registry: Registry,
    settings: Settings,
    quick_bundle: QuickBundle,
    damage: Callable[[Path], None],
) -> None:
    registry.publish(quick_bundle("acme", seed=1), promote=True, actor="test")
    wanted = once(start)
    [path] = kept(settings)
    whole = path.read_bytes()
    damage(path)
    assert once(start) == wanted
    assert path.read_bytes() == whole
    assert not path.is_symlink()


def test_another_adapters_file_under_its_name_is_noticed_and_made_anew(
    start: Callable[..., Engine], registry: Registry, settings: Settings, quick_bundle: QuickBundle
) -> None:
    mine = registry.publish(quick_bundle("acme", seed=1), promote=True, actor="test")
    registry.publish(quick_bundle("beta", seed=2), promote=True, actor="test")
    wanted, others = once(start), once(start, "beta/r")
    assert wanted != others
    own, other = sorted(kept(settings), key=lambda path: not path.name.startswith(mine.digest))
    whole = own.read_bytes()
    shutil.copy(other, own)
    assert once(start) == wanted
    assert own.read_bytes() == whole
    shutil.copy(own, other)  # and the other way round
    assert once(start, "beta/r") == others


def test_a_file_for_another_layout_of_the_base_is_noticed_and_made_anew(
    start: Callable[..., Engine],
    registry: Registry,
    settings: Settings,
    quick_bundle: QuickBundle,
    tiny_base: Path,
    home: Path,
) -> None:
    registry.publish(quick_bundle("acme", seed=1), promote=True, actor="test")
    wanted = once(start)
    [own] = kept(settings)
    whole = own.read_bytes()
    half = load_base(str(tiny_base), home, dtype="bfloat16")
    once(start, base=half)
    [other] = {*kept(settings)} - {own}
    shutil.copy(other, own)
    assert once(start) == wanted
    assert own.read_bytes() == whole


def test_what_is_not_its_bundles_own_is_noticed_even_if_the_file_is_whole(
    start: Callable[..., Engine], registry: Registry, settings: Settings, quick_bundle: QuickBundle
) -> None:
    """A file that says the right digest, with a right checksum, around the manifest of another bundle."""
    from shopfit.adapter.packed_files import PackedFiles

    mine = registry.publish(quick_bundle("acme", seed=1), promote=True, actor="test")
    other = registry.publish(quick_bundle("beta", seed=2), promote=True, actor="test")
    wanted = once(start)
    once(start, "beta/r")
    layout = kept(settings)[0].name.partition("-")[2]
    files = PackedFiles(settings.cache, layout, 1 << 30)
    strange = files.read(other.digest)
    assert strange is not None
    files.write(mine.digest, strange)
    assert once(start) == wanted


@pytest.mark.parametrize("ends", ["erased", "removed"])
def test_engines_leave_nothing_of_what_is_gone(
    start: Callable[..., Engine],
    registry: Registry,
    settings: Settings,
    quick_bundle: QuickBundle,
    tmp_path: Path,
    ends: str,
) -> None:
    """On the machine where it is erased, and where another engine served it that had it no more in memory."""
    registry.publish(quick_bundle("acme", seed=1), promote=False, actor="test")
    registry.publish(quick_bundle("acme", seed=2), promote=True, actor="test")
    registry.publish(quick_bundle("beta", seed=3), promote=True, actor="test")
    there = Settings(tmp_path / "there", settings.registry, settings.blobs)
    once(start, "acme/r@1")
    with start(cache=there.cache, memory=1) as engine:
        for reference in ("acme/r@1", "acme/r", "beta/r"):
            engine.ask(reference, TEXT)
        assert engine.status().loaded == 1
        assert len(kept(there)) == 3
        registry.promote("acme/r@2", alias="candidate", actor="test")
        if ends == "erased":
            receipt = registry.erase("acme", settings, actor="test")
            assert receipt.local["cache"].count == 1
            assert kept(settings) == []
        else:
            registry.remove("acme/r@1", actor="test")
        assert soon(lambda: len(kept(there)) == (1 if ends == "erased" else 2))
        engine.ask("beta/r", TEXT)


def test_what_went_while_no_engine_ran_goes_with_the_first_that_packs(
    start: Callable[..., Engine], registry: Registry, settings: Settings, quick_bundle: QuickBundle, tmp_path: Path
) -> None:
    gone = registry.publish(quick_bundle("acme", seed=1), promote=True, actor="test")
    registry.publish(quick_bundle("beta", seed=2), promote=True, actor="test")
    once(start)
    elsewhere = Settings(tmp_path / "there", settings.registry, settings.blobs)
    registry.erase("acme", elsewhere, actor="test")
    assert [path.name[:64] for path in kept(settings)] == [gone.digest]
    with pytest.raises(UnknownReference):
        once(start)
    once(start, "beta/r")
    assert gone.digest not in {path.name[:64] for path in kept(settings)}
    assert len(kept(settings)) == 1


def test_garbage_collection_removes_it_too(
    start: Callable[..., Engine], registry: Registry, settings: Settings, quick_bundle: QuickBundle, tmp_path: Path
) -> None:
    registry.publish(quick_bundle("acme", seed=1), promote=True, actor="test")
    registry.publish(quick_bundle("beta", seed=2), promote=True, actor="test")
    once(start)
    once(start, "beta/r")
    registry.erase("acme", Settings(tmp_path / "there", settings.registry, settings.blobs), actor="test")
    assert collect(registry, settings, grace=timedelta(0), dry_run=True).cache.count == 1
    assert collect(registry, settings, grace=timedelta(0)).cache.count == 1
    assert len(kept(settings)) == 1


def test_two_processes_share_the_folder(
    start: Callable[..., Engine], registry: Registry, settings: Settings, quick_bundle: QuickBundle, tiny_base: Path
) -> None:
    registry.publish(quick_bundle("acme", seed=1), promote=True, actor="test")
    program = (
        "import sys\n"
        "from shopfit.engine import ChooseRequest, Engine\n"
        "from shopfit.settings import Settings\n"
        "with Engine.load(sys.argv[1], settings=Settings.from_environment(), encoder=None) as engine:\n"
        "    engine.ask('acme/r', {'text': 'lovely crema'})\n"
        "    print(engine.choose([ChooseRequest('acme/r', {'text': 'lovely crema'})])[0].probabilities)\n"
    )
    environment = os.environ | {
        "SHOPFIT_HOME": str(settings.home),
        "SHOPFIT_REGISTRY": settings.registry,
        "SHOPFIT_BLOBS": settings.blobs,
    }
    command = [sys.executable, "-c", program, str(tiny_base)]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[0].splitlines()[-1] for process in both]
    assert len(kept(settings)) == 1
    shutil.rmtree(settings.blobs)
    assert {*said, str(once(start))} == {said[0]}


def test_a_folder_that_cannot_be_written_costs_no_answer(
    start: Callable[..., Engine],
    registry: Registry,
    settings: Settings,
    quick_bundle: QuickBundle,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry.publish(quick_bundle("acme", seed=1), promote=True, actor="test")
    registry.publish(quick_bundle("beta", seed=2), promote=True, actor="test")
    settings.cache.mkdir(parents=True)
    (settings.cache / "packed").write_text("no folder")
    with caplog.at_level(logging.WARNING), start() as engine:
        first = engine.ask("acme/r", TEXT)
        engine.ask("beta/r", TEXT)
    assert [record for record in caplog.messages if "loaded slowly" in record][1:] == []
    (settings.cache / "packed").unlink()
    with start() as engine:
        assert engine.ask("acme/r", TEXT) == first


def test_a_full_disk_costs_no_answer_and_leaves_no_parts(
    start: Callable[..., Engine], registry: Registry, settings: Settings, quick_bundle: QuickBundle
) -> None:
    registry.publish(quick_bundle("acme", seed=1, rank=32), promote=True, actor="test")
    wanted = once(start, cache=settings.home / "elsewhere")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        assert once(start) == wanted
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert kept(settings) == []
    assert once(start) == wanted
    assert [path.stat().st_size > 100_000 for path in kept(settings)] == [True]


def test_the_least_recently_used_go_first(
    start: Callable[..., Engine], registry: Registry, settings: Settings, quick_bundle: QuickBundle
) -> None:
    bundles = [quick_bundle(f"m{number}", seed=number) for number in range(4)]
    versions = [registry.publish(bundle, promote=True, actor="test") for bundle in bundles]
    once(start, "m0/r")
    size = kept(settings)[0].stat().st_size
    once(start, "m1/r")
    for age, version in ((10, 0), (20, 1)):
        path = next(path for path in kept(settings) if path.name.startswith(versions[version].digest))
        os.utime(path, (path.stat().st_atime - age, path.stat().st_mtime - 100 - age))
    once(start, "m1/r")  # used again, and so the younger
    once(start, "m2/r", disk=int(size * 2.4))
    left = {path.name[:64] for path in kept(settings)}
    assert left == {versions[1].digest, versions[2].digest}
    once(start, "m3/r", disk=1)
    assert {path.name[:64] for path in kept(settings)} == left
