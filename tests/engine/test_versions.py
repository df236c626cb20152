"""References while the registry moves, fails, or keeps them waiting."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.engine import ChooseRequest, Engine
from shopfit.errors import BundleError, DeadlineExceeded, RegistryError, UnknownReference
from shopfit.merchant.catalog import Catalog, Item
from shopfit.registry import Registry
from shopfit.settings import Settings

QuickBundle = Callable[..., Bundle]
TEXT = {"text": "lovely crema"}


@pytest.fixture
def registry(settings: Settings) -> Iterator[Registry]:
    with Registry.open(settings, patience=0.5) as registry:
        yield registry


@pytest.fixture
def engine(base: Base, registry: Registry, settings: Settings) -> Iterator[Engine]:
    with Engine(base, registry=registry, cache=settings.cache, slots=2) as engine:
        yield engine


def positive(engine: Engine, reference: str = "acme/r") -> float:
    return engine.choose([ChooseRequest(reference, TEXT)])[0].probabilities["positive"]


def gone(engine: Engine, reference: str = "acme/r") -> bool:
    try:
        positive(engine, reference)
    except UnknownReference:
        return True
    return False


def soon(check: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it comes true; the limit is only against hanging."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if check():
            return True
        time.sleep(0.05)
    return False


def test_promotion_and_rollback_reach_requests_within_a_second(
    engine: Engine, registry: Registry, quick_bundle: QuickBundle
) -> None:
    registry.publish(quick_bundle("acme", seed=1), promote=True, actor="test")
    first = positive(engine)
    registry.publish(quick_bundle("acme", seed=2), promote=True, actor="test")
    second = positive(engine, "acme/r@2")
    assert second != pytest.approx(first, abs=1e-3)
    assert soon(lambda: positive(engine) == pytest.approx(second, abs=1e-6))
    registry.rollback("acme/r", actor="test")
    assert soon(lambda: positive(engine) == pytest.approx(first, abs=1e-6))
    assert positive(engine, "acme/r@2") == pytest.approx(second, abs=1e-6)


def test_a_registry_that_was_restored_serves_what_it_names_now(
    engine: Engine, registry: Registry, quick_bundle: QuickBundle, settings: Settings, tmp_path: Path
) -> None:
    """The number is the same, the weights are others: in a backup, or in a replica that went its own way."""
    here, there = Path(settings.registry.removeprefix("sqlite:///")), tmp_path / "replica.db"

    def copy(source: Path, target: Path) -> None:
        with sqlite3.connect(source) as a, sqlite3.connect(target) as b:
            a.backup(b)
        a.close()
        b.close()

    registry.publish(quick_bundle("acme", seed=1), promote=True, actor="test")
    copy(here, there)
    with Registry.open(Settings(settings.home, f"sqlite:///{there}", settings.blobs)) as replica:
        other = replica.publish(quick_bundle("acme", seed=3), promote=True, actor="site-b")
    mine = registry.publish(quick_bundle("acme", seed=2), promote=True, actor="site-a")
    assert (mine.number, other.number) == (2, 2)
    before = {reference: positive(engine, reference) for reference in ("acme/r", "acme/r@2", "acme/r@1")}
    copy(there, here)
    for reference in ("acme/r", "acme/r@2"):
        assert soon(lambda: positive(engine, reference) != pytest.approx(before[reference], abs=1e-4))  # noqa: B023
        answer = engine.choose([ChooseRequest(reference, TEXT)])[0]
        assert answer.digest == other.digest
    assert positive(engine, "acme/r@1") == before["acme/r@1"]


def test_a_removed_version_leaves_memory_and_slot(
    engine: Engine, registry: Registry, quick_bundle: QuickBundle
) -> None:
    registry.publish(quick_bundle("acme", seed=1), promote=False, actor="test")
    registry.publish(quick_bundle("acme", seed=2), promote=True, actor="test")
    registry.promote("acme/r@2", alias="candidate", actor="test")
    positive(engine, "acme/r@1")
    positive(engine)
    assert (engine.status().loaded, engine.status().resident) == (2, 2)
    registry.remove("acme/r@1", actor="test")
    assert soon(lambda: (engine.status().loaded, engine.status().resident) == (1, 1))


def test_an_erased_merchant_is_dropped_and_its_name_can_be_used_anew(
    engine: Engine, registry: Registry, quick_bundle: QuickBundle, settings: Settings
) -> None:
    registry.publish(quick_bundle("acme", seed=1), promote=True, actor="test")
    registry.publish(quick_bundle("beta", seed=2), promote=True, actor="test")
    first, other = positive(engine), positive(engine, "beta/r")
    registry.erase("acme", settings, actor="test")

    assert soon(lambda: gone(engine))
    assert soon(lambda: (engine.status().loaded, engine.status().resident) == (1, 1))
    assert positive(engine, "beta/r") == other
    anew = registry.publish(quick_bundle("acme", seed=3), promote=True, actor="test")
    assert anew.number == 2
    assert soon(lambda: not gone(engine))
    assert positive(engine) != pytest.approx(first, abs=1e-4)


def test_a_request_never_mixes_versions(engine: Engine, registry: Registry, quick_bundle: QuickBundle) -> None:
    registry.publish(quick_bundle("acme", seed=1), promote=True, actor="test")
    registry.publish(quick_bundle("acme", seed=2), promote=False, actor="test")
    allowed = [positive(engine, f"acme/r@{number}") for number in (1, 2)]
    done, noticed = threading.Event(), [threading.Event() for _ in allowed]

    def flip() -> None:
        for number in range(12):
            noticed[number % 2].clear()
            registry.promote(f"acme/r@{1 + number % 2}", actor="test")
            if not noticed[number % 2].wait(60):
                break
        done.set()

    thread = threading.Thread(target=flip)
    thread.start()
    seen = set()
    while not done.is_set():
        got = positive(engine)
        which = [number for number, value in enumerate(allowed) if got == pytest.approx(value, abs=1e-6)]
        assert len(which) == 1
        seen.add(which[0])
        noticed[which[0]].set()
    thread.join()
    assert seen == {0, 1}


def test_a_promotion_while_an_adapter_is_loaded_is_no_trouble(
    engine: Engine, registry: Registry, quick_bundle: QuickBundle
) -> None:
    registry.publish(quick_bundle("acme", seed=1), promote=True, actor="test")
    registry.publish(quick_bundle("acme", seed=2), promote=False, actor="test")
    futures = [engine.submit(ChooseRequest("acme/r", TEXT)) for _ in range(4)]
    registry.promote("acme/r@2", actor="test")
    futures += [engine.submit(ChooseRequest("acme/r", TEXT)) for _ in range(4)]
    got = {round(future.result(60).probabilities["positive"], 6) for future in futures}  # type: ignore[union-attr]
    assert got <= {round(positive(engine, f"acme/r@{number}"), 6) for number in (1, 2)}


def test_a_version_that_was_removed_is_not_served_for_long(
    engine: Engine, registry: Registry, quick_bundle: QuickBundle
) -> None:
    registry.publish(quick_bundle("acme", seed=1), promote=False, actor="test")
    registry.publish(quick_bundle("acme", seed=2), promote=True, actor="test")
    registry.promote("acme/r@2", alias="candidate", actor="test")
    positive(engine, "acme/r@1")
    registry.remove("acme/r@1", actor="test")

    assert soon(lambda: gone(engine, "acme/r@1"))


def test_while_the_registry_is_gone_known_adapters_serve_and_others_say_why(
    engine: Engine, registry: Registry, quick_bundle: QuickBundle, settings: Settings
) -> None:
    registry.publish(quick_bundle("acme", seed=1), promote=True, actor="test")
    registry.publish(quick_bundle("beta", seed=2), promote=True, actor="test")
    before = positive(engine)
    database = Path(settings.registry.removeprefix("sqlite:///"))
    with sqlite3.connect(database) as other:
        other.execute("ALTER TABLE shopfit_aliases RENAME TO elsewhere")
    until = time.monotonic() + 1.5  # the engine looks several times
    while time.monotonic() < until:
        assert positive(engine) == before
        with pytest.raises(RegistryError):
            positive(engine, "beta/r")
    with sqlite3.connect(database) as other:
        other.execute("ALTER TABLE elsewhere RENAME TO shopfit_aliases")
    other.close()
    assert positive(engine, "beta/r") != before


def test_while_the_registry_is_locked_known_adapters_serve(
    base: Base, quick_bundle: QuickBundle, postgresql: str, settings: Settings
) -> None:
    import psycopg

    place = Settings(settings.home, postgresql, settings.blobs)
    with Registry.open(place) as registry, Engine(base, registry=registry, cache=settings.cache) as engine:
        registry.publish(quick_bundle("acme", seed=1), promote=True, actor="test")
        registry.publish(quick_bundle("beta", seed=2), promote=True, actor="test")
        before = positive(engine)
        with psycopg.connect(postgresql.replace("+psycopg", "")) as lock:
            lock.execute("LOCK TABLE shopfit_aliases, shopfit_versions IN ACCESS EXCLUSIVE MODE")
            waiting = engine.submit(ChooseRequest("beta/r", TEXT))
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                assert positive(engine) == before
            assert not waiting.done()
            with pytest.raises(DeadlineExceeded):
                engine.submit(ChooseRequest("beta/r", TEXT), timeout=0.2).result(60)
            lock.rollback()
        assert waiting.result(60)


def test_a_corrupt_blob_fails_its_own_requests(
    engine: Engine, registry: Registry, quick_bundle: QuickBundle, settings: Settings
) -> None:
    good, broken = quick_bundle("acme", seed=1), quick_bundle("beta", seed=2)
    for bundle in (good, broken):
        registry.publish(bundle, promote=True, actor="test")
    digest = broken.manifest.files["lora/adapter_model.safetensors"]
    blob = Path(settings.blobs) / digest[:2] / digest
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    futures = [engine.submit(ChooseRequest(reference, TEXT)) for reference in ("acme/r", "beta/r", "acme/r")]
    assert futures[0].result(60) == futures[2].result(60)
    with pytest.raises(BundleError, match="damaged"):
        futures[1].result(60)


def test_names_that_contain_each_other_are_never_mixed_up(
    engine: Engine, registry: Registry, quick_bundle: QuickBundle
) -> None:
    names = ["acme", "acme-too", "acm", "me", "acme-too-2"]
    for seed, name in enumerate(names):
        registry.publish(quick_bundle(name, seed=seed), promote=True, actor="test")
    alone = {name: positive(engine, f"{name}/r") for name in names}
    assert len({round(value, 5) for value in alone.values()}) == len(names)
    answers = engine.choose([ChooseRequest(f"{name}/r", TEXT) for name in names * 5])
    for name, answer in zip(names * 5, answers, strict=True):
        assert answer.probabilities["positive"] == pytest.approx(alone[name], abs=1e-5)


def test_prefetched_adapters_are_there(engine: Engine, registry: Registry, quick_bundle: QuickBundle) -> None:
    for seed, name in enumerate(("acme", "beta")):
        registry.publish(quick_bundle(name, seed=seed), promote=True, actor="test")
    engine.prefetch(["acme/r", "beta/r", "nobody/r"])
    assert soon(lambda: engine.status().loaded == 2)
    assert engine.status().resident == 0
    positive(engine)
    assert engine.status().resident == 1


def test_memory_stays_within_its_budget(
    base: Base, registry: Registry, settings: Settings, quick_bundle: QuickBundle
) -> None:
    for number in range(8):
        registry.publish(quick_bundle(f"m{number}", seed=number), promote=True, actor="test")
    with Engine(base, registry=registry, cache=settings.cache, slots=2) as roomy:
        roomy.choose([ChooseRequest("m0/r", TEXT)])
        one = roomy.status().memory
        want = roomy.choose([ChooseRequest(f"m{number}/r", TEXT) for number in range(8)])
    with Engine(base, registry=registry, cache=settings.cache, slots=2, memory=2 * one) as tight:
        for _ in range(3):
            got = tight.choose([ChooseRequest(f"m{number}/r", TEXT) for number in range(8)])
            for a, b in zip(got, want, strict=True):
                assert a.probabilities == pytest.approx(b.probabilities, abs=1e-5)
            assert tight.status().memory <= 2 * one
            assert tight.status().loaded <= 2


def titles(engine: Engine, reference: str = "acme/r") -> list[str] | None:
    try:
        return [item.title for item in engine.recommend(reference, query="tent").items]
    except UnknownReference:
        return None


@pytest.mark.parametrize("evicted", [False, True])
def test_a_catalog_that_was_set_goes_with_its_merchant_and_not_with_one_version(
    base: Base, registry: Registry, quick_bundle: QuickBundle, settings: Settings, evicted: bool
) -> None:
    for seed in (1, 2, 4):
        registry.publish(quick_bundle("acme", seed=seed, task="rank"), promote=True, actor="test")
    registry.publish(quick_bundle("zeta", seed=3), promote=True, actor="test")
    theirs = Catalog({"s": Item("s", "their tent", {"id": "s", "title": "their tent"})})
    with Engine(base, registry=registry, cache=settings.cache, memory=1 if evicted else 10**9) as engine:
        engine.set_catalog("acme", theirs)
        for reference in ("acme/r@1", "acme/r"):
            engine.recommend(reference, query="tent")
        registry.remove("acme/r@1", actor="test")
        assert soon(lambda: titles(engine, "acme/r@1") is None)
        assert titles(engine) == ["their tent"]
        if evicted:
            positive(engine, "zeta/r")
        registry.erase("acme", settings, actor="test")
        assert soon(lambda: titles(engine) is None)
        time.sleep(2)  # the engine looks at the registry several times a second
        registry.publish(quick_bundle("acme", seed=9, task="rank"), promote=True, actor="test")
        assert soon(lambda: titles(engine) is not None)
        assert titles(engine) != ["their tent"]


def test_a_bundle_that_is_several_versions_answers_as_the_one_that_was_named(
    engine: Engine, registry: Registry, quick_bundle: QuickBundle
) -> None:
    bundle = quick_bundle("acme", seed=1)
    for _ in range(2):
        registry.publish(bundle, promote=True, actor="test")
    for reference, version in (("acme/r@1", "acme/r@1"), ("acme/r@2", "acme/r@2"), ("acme/r", "acme/r@2")):
        assert engine.choose([ChooseRequest(reference, {"text": "x"})])[0].version == version
