"""Folders of processes that were killed go; those of processes that live stay."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from tests.registry.conftest import MakeBundle

from shopfit.registry import Registry, garbage
from shopfit.registry.temp_folders import STAGING, Space, owned_folder, remove, sweep, sweep_folder
from shopfit.settings import Settings
from shopfit.tune.bundle_writer import staging

OWNER = (
    "import sys, time; from pathlib import Path; from shopfit.tune.bundle_writer import staging\n"
    "with staging(Path(sys.argv[1])) as folder:\n"
    "    (folder / 'weights').write_bytes(b'weights'); print(folder, flush=True); time.sleep(600)\n"
)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def owner(home: Path) -> tuple["subprocess.Popen[str]", Path]:
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(home)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(home: Path, how: signal.Signals) -> None:
    dead, left = owner(home)
    alive, used = owner(home)
    assert sweep(home) == Space()
    os.kill(dead.pid, how)
    dead.wait()
    assert left.is_dir()
    assert sweep(home, dry_run=True) == Space(1, len(b"weights"))
    assert sweep(home) == Space(1, len(b"weights"))
    assert not left.exists()
    assert (used / "weights").read_bytes() == b"weights"
    alive.kill()
    alive.wait()
    with staging(home) as folder:  # the next one to start sweeps, too
        assert [path.name for path in home.glob(f"{STAGING}*")] == [folder.name]
    assert list(home.glob(".*")) == []


def test_nothing_else_goes(home: Path) -> None:
    outside = home.parent / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    (home / ".staging-link").symlink_to(outside)
    (home / ".staging-file").write_text("no folder")
    (home / "staging-mine").mkdir()
    sweep(home)
    assert (outside / "file").exists()
    assert {path.name for path in home.iterdir()} >= {".staging-link", ".staging-file", "staging-mine"}


def test_a_folder_is_gone_afterwards_unless_it_was_renamed(empty: Path) -> None:
    with owned_folder(empty, ".x-") as folder:
        (folder / "deep").mkdir()
    assert list(empty.iterdir()) == []
    with owned_folder(empty, ".x-") as folder:
        folder.rename(empty / "kept")
    assert [path.name for path in empty.iterdir()] == ["kept"]
    with pytest.raises(RuntimeError), owned_folder(empty, ".x-"):
        raise RuntimeError
    assert [path.name for path in empty.iterdir()] == ["kept"]


def test_a_folder_that_never_got_an_owner(empty: Path) -> None:
    for name in (".new-.x-old", ".new-.x-young", ".new-.y-old"):
        (empty / name).mkdir()
    for name in (".new-.x-old", ".new-.y-old"):
        os.utime(empty / name, (0, 0))
    sweep_folder(empty, ".x-")
    assert sorted(path.name for path in empty.iterdir()) == [".new-.x-young", ".new-.y-old"]


def test_removing_tells_what_went(empty: Path) -> None:
    (empty / "folder" / "deep").mkdir(parents=True)
    (empty / "folder" / "deep" / "file").write_bytes(b"12345")
    (empty / "link").symlink_to(empty / "folder")
    assert remove(empty / "link").count == 1
    assert remove(empty / "folder", dry_run=True) == Space(1, 5)
    assert remove(empty / "folder") == Space(1, 5)
    assert remove(empty / "folder") == Space()
    assert list(empty.iterdir()) == []


def test_garbage_of_this_machine(registry: Registry, place: Settings, make_bundle: MakeBundle) -> None:
    kept = registry.publish(make_bundle(), promote=True, actor="ada")
    gone = registry.publish(make_bundle(seed=1), promote=False, refused="worse", actor="ada")
    for version in (kept, gone):
        registry.fetch(version, place.cache)
    registry.remove(gone.name, actor="ada")
    (place.home / ".staging-dead").mkdir()
    (place.cache / ".unfinished-dead").mkdir()
    (place.cache / "notes").mkdir()
    would = garbage.collect(registry, place, grace=timedelta(0), dry_run=True)
    assert (would.blobs, would.cache, would.leavings) == (Space(), Space(1, gone.size), Space(2, 0))
    assert garbage.collect(registry, place, grace=timedelta(0)) == would
    assert {path.name for path in place.cache.iterdir()} == {kept.digest, "notes"}
    assert garbage.collect(registry, place, grace=timedelta(0)) == garbage.Garbage(Space(), Space(), Space())
    assert registry.fetch(kept, place.cache).digest == kept.digest


def test_trainings_that_nobody_went_on_with_are_removed_after_two_weeks(home: Path) -> None:
    for run, days in (("gone/old", 15), ("gone/new", 13), ("other/written-lately", 15)):
        folder = home / "checkpoints" / run
        folder.mkdir(parents=True)
        (folder / "a.safetensors").write_text("weights")
        then = time.time() - days * 24 * 3600
        for path in (folder / "a.safetensors", folder):
            os.utime(path, (then, then))
    os.utime(home / "checkpoints" / "other" / "written-lately" / "a.safetensors")
    assert sweep(home) == Space(1, len("weights"))
    left = {str(path.relative_to(home / "checkpoints")) for path in (home / "checkpoints").glob("*/*")}
    assert left == {"gone/new", "other/written-lately"}


def test_a_folder_of_trainings_that_leads_elsewhere_is_left_alone(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "photos").mkdir(parents=True)
    then = time.time() - 100 * 24 * 3600
    os.utime(elsewhere / "photos", (then, then))
    (home / "checkpoints").mkdir(parents=True)
    (home / "checkpoints" / "acme").symlink_to(elsewhere)
    assert sweep(home) == Space()
    assert (elsewhere / "photos").is_dir()
