"""A registry, its blobs and a home that may only be read: what is there is served, and nothing is written."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from tests.registry.conftest import MakeBundle

from shopfit.adapter.bundle import Bundle
from shopfit.errors import KeyRefused, RegistryError
from shopfit.registry import Feedback, KeyCache, Limits, Reference, Registry, garbage
from shopfit.registry.schema import HEAD
from shopfit.settings import Settings, sqlite_url

IMPORTED_BEFORE_BECOMING_ANOTHER = (garbage, Reference)
NOBODY = 65534
AsAReader = Callable[[Path, Callable[[], None]], None]


def place(home: Path) -> Settings:
    return Settings(home, sqlite_url(home / "registry.db"), str(home / "blobs"))


def filled(home: Path, bundle: Bundle) -> None:
    with Registry.open(place(home)) as registry:
        registry.publish(bundle, promote=True, actor="ada")


def everything(home: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in home.rglob("*")}


def read_all(home: Path) -> None:
    """What serving does."""
    with Registry.open(place(home)) as registry:
        version = registry.resolve("acme/review-sentiment")
        assert registry.versions("acme") == [version]
        assert registry.read(version, set, home / "cache").manifest.merchant == "acme"
        assert registry.identities([Reference.parse(version.name)])
        assert registry.verify() == []
        assert registry.audit("acme")
        assert registry.revision() == registry.revision()
        assert (registry.releases(), registry.limits(), registry.catalogs()) == ([], {}, {})
        assert registry.catalog("acme") is None
        assert registry.feedback("acme") == []


@pytest.fixture
def as_a_reader() -> AsAReader:
    """Runs something as a user who may read a folder and not write there."""

    def run(folder: Path, action: Callable[[], None]) -> None:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        pid = os.fork()
        if pid == 0:
            try:
                if os.geteuid() == 0:
                    os.setgroups([])
                    os.setgid(NOBODY)
                    os.setuid(NOBODY)
                action()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)

    return run


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can reach; pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="shopfit-read-only-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def mounted(small_disk: Path, make_bundle: MakeBundle) -> Path:
    """A filled home on a filesystem that is mounted read-only."""
    filled(small_disk, make_bundle())
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    return small_disk


def test_a_read_only_filesystem_is_read(mounted: Path) -> None:
    before = everything(mounted)
    read_all(mounted)
    assert everything(mounted) == before


def test_a_user_who_may_only_read(open_folder: Path, make_bundle: MakeBundle, as_a_reader: AsAReader) -> None:
    filled(open_folder, make_bundle())
    before = everything(open_folder)
    as_a_reader(open_folder, lambda: read_all(open_folder))
    assert everything(open_folder) == before


def test_a_reader_beside_a_writer(open_folder: Path, make_bundle: MakeBundle, as_a_reader: AsAReader) -> None:
    """The writer has its log open: what it has committed is read, also what is only in the log yet."""
    with Registry.open(place(open_folder)) as writer:
        writer.publish(make_bundle(), promote=True, actor="ada")
        assert (open_folder / "registry.db-wal").stat().st_size
        before = everything(open_folder)
        as_a_reader(open_folder, lambda: read_all(open_folder))
        assert everything(open_folder).keys() == before.keys()
        writer.publish(make_bundle(seed=1), promote=True, actor="ada")
        assert writer.resolve("acme/review-sentiment").number == 2


def test_a_reader_sees_what_a_writer_elsewhere_does(
    open_folder: Path, make_bundle: MakeBundle, as_a_reader: AsAReader
) -> None:
    """The writer comes and goes; a reader that stays open must not go on with what it once read."""
    filled(open_folder, make_bundle())
    second = make_bundle(seed=1)
    ask, answer = os.pipe(), os.pipe()

    def reader() -> None:
        with Registry.open(place(open_folder)) as registry:
            assert registry.resolve("acme/review-sentiment").number == 1
            os.write(ask[1], b"x")
            os.read(answer[0], 1)
            assert registry.resolve("acme/review-sentiment").number == 2

    pid = os.fork()
    if pid == 0:  # the writer, as root or owner: chmod does not bind it, or it sets the modes itself
        os.read(ask[0], 1)
        for path in [open_folder, *open_folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        filled(open_folder, second)
        for path in [open_folder, *open_folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        os.write(answer[1], b"x")
        os._exit(0)
    as_a_reader(open_folder, reader)
    assert os.waitpid(pid, 0)[1] == 0


def test_what_would_write_says_that_it_cannot(mounted: Path, make_bundle: MakeBundle) -> None:
    bundle, home = make_bundle(seed=1), place(mounted)
    with Registry.open(home) as registry:
        version = registry.resolve("acme/review-sentiment")
        changes: list[Callable[[], object]] = [
            lambda: registry.promote(version.name, alias="candidate", actor="ada"),
            lambda: registry.rollback("acme/review-sentiment", actor="ada"),
            lambda: registry.unalias("acme/review-sentiment", actor="ada"),
            lambda: registry.remove(version.name, actor="ada"),
            lambda: registry.erase("acme", home, actor="ada"),
            registry.collect_garbage,
            lambda: registry.create_key("acme", ["infer"], actor="ada"),
            lambda: registry.revoke_key("0" * 12, actor="ada"),
            lambda: registry.start_release(version.name, kind="canary", share=0.1, actor="ada"),
            lambda: registry.end_release("acme/review-sentiment", kind="canary", actor="ada"),
            lambda: registry.set_limits("acme", Limits(), actor="ada"),
            lambda: registry.add_usage({"acme": 1}, date(2027, 1, 31)),
            lambda: registry.add_feedback([Feedback("acme", "ans_1", "click", datetime.now(UTC))]),
            lambda: registry.drop_catalog("acme", actor="ada"),
        ]
        for change in changes:
            with pytest.raises(
                RegistryError, match=r"the registry .* is read-only here, and cannot be changed"
            ) as told:
                change()
            assert "run the command where it can be written" in told.value.next_step
        with pytest.raises(RegistryError, match="Read-only file system"):
            registry.publish(bundle, promote=True, actor="ada")
        with pytest.raises(RegistryError, match=r"writing to the cache .* failed: Read-only file system"):
            registry.fetch(version, home.cache)
        assert garbage.collect(registry, home, grace=timedelta(0), dry_run=True).blobs.count == 0
        assert registry.erase("acme", home, actor="ada", dry_run=True).blobs.count > 0


def test_keys_are_checked_where_nothing_may_be_written(small_disk: Path) -> None:
    with Registry.open(place(small_disk)) as registry:
        issued, revoked = (registry.create_key("acme", ["infer"], new=True, actor="ada") for _ in range(2))
        registry.revoke_key(revoked.key.id, actor="ada")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    before = everything(small_disk)
    with Registry.open(place(small_disk)) as registry:
        assert KeyCache(registry).check(issued.token).merchant == "acme"
        with pytest.raises(KeyRefused):
            KeyCache(registry).check(revoked.token)
        assert len(registry.keys("acme")) == 2
    assert everything(small_disk) == before


def test_tables_from_before_keys_are_told(small_disk: Path, make_bundle: MakeBundle) -> None:
    filled(small_disk, make_bundle())
    with closing(sqlite3.connect(small_disk / "registry.db")) as database:
        database.executescript("UPDATE shopfit_schema SET version_num = '0001'")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(RegistryError, match=f"its tables are those of schema 0001; this release has {HEAD}") as caught:
        Registry.open(place(small_disk))
    assert "where it can be written" in caught.value.next_step


def test_a_registry_that_is_not_there(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(RegistryError, match=r"there is no registry in .*, and none can be made there"):
        Registry.open(place(small_disk))
    with pytest.raises(RegistryError, match=r"making the folder .*/deeper failed: Read-only file system"):
        Registry.open(place(small_disk / "deeper"))


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ("VACUUM", "its tables are not made yet"),
        (
            "CREATE TABLE shopfit_schema (version_num); INSERT INTO shopfit_schema VALUES ('0000')",
            "its tables are those of schema 0000; this release has",
        ),
    ],
)
def test_tables_that_would_have_to_be_made_or_migrated(small_disk: Path, tables: str, message: str) -> None:
    with closing(sqlite3.connect(small_disk / "registry.db")) as database:
        database.executescript(tables)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(RegistryError, match=f"is read-only here, and {message}") as caught:
        Registry.open(place(small_disk))
    assert "where it can be written" in caught.value.next_step


def test_a_copied_log_that_cannot_be_read_is_told(small_disk: Path, make_bundle: MakeBundle, tmp_path: Path) -> None:
    """A copy of a live registry without its index: reading only the main file would miss what was committed."""
    live = place(tmp_path / "live")
    with Registry.open(live) as writer:
        writer.publish(make_bundle(), promote=True, actor="ada")
        for name in ("registry.db", "registry.db-wal"):
            shutil.copy(live.home / name, small_disk / name)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(RegistryError, match=r"registry\.db-wal holds changes to .* that cannot be read") as caught:
        Registry.open(place(small_disk))
    assert "where it can be written" in caught.value.next_step


def test_the_command_line_on_a_read_only_home(mounted: Path) -> None:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "shopfit", *arguments]
        environment = os.environ | {"SHOPFIT_HOME": str(mounted)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    for command in (["ls"], ["show", "acme/review-sentiment"], ["verify"], ["audit"], ["gc", "--dry-run"]):
        done = run("registry", *command)
        assert done.returncode == 0, done.stderr
    assert run("merchant", "erase", "acme", "--dry-run").returncode == 0
    refused = run("registry", "rollback", "acme/review-sentiment")
    assert refused.returncode == 2
    assert "is read-only here" in refused.stderr
