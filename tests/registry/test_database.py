import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from tests.registry.conftest import MakeBundle, at_once

from shopfit.adapter.bundle import Bundle
from shopfit.errors import RegistryError
from shopfit.registry import Registry
from shopfit.registry.schema import HEAD
from shopfit.settings import Settings


@contextmanager
def connected(url: str) -> Iterator[object]:
    engine = create_engine(url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def test_sqlite_is_set_up_for_many_processes(local: Registry) -> None:
    with local._database.reading() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        }
    assert pragmas == {"journal_mode": "wal", "busy_timeout": 30_000, "foreign_keys": 1, "synchronous": 2}


def test_an_up_to_date_registry_opens_without_alembic(settings: Settings) -> None:
    Registry.open(settings).close()
    script = (
        "import sys; from shopfit.registry import Registry; from shopfit.settings import Settings\n"
        "Registry.open(Settings(*map(str, sys.argv[1:]))).close()\n"
        "print('alembic' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(settings.home), settings.registry, settings.blobs]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "False\n"


def test_naming_a_reference_needs_no_database_library() -> None:
    script = "import sys; from shopfit.registry import Reference, Version; print('sqlalchemy' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout == "False\n"
    )


def test_threads_open_an_empty_registry_at_once(durable: Settings) -> None:
    def open_it(_: int) -> None:
        with Registry.open(durable) as registry:
            assert registry.versions() == []

    at_once(8, open_it)


def test_a_registry_of_a_newer_release(durable: Settings) -> None:
    Registry.open(durable).close()
    with connected(durable.registry) as connection:
        connection.execute(text("UPDATE shopfit_schema SET version_num = '9999'"))
    with pytest.raises(
        RegistryError, match=rf"newer release \(schema 9999; this release knows up to {HEAD}\)"
    ) as caught:
        Registry.open(durable)
    assert "pip install --upgrade shopfit" in caught.value.next_step
    with connected(durable.registry) as connection:
        assert connection.execute(text("SELECT version_num FROM shopfit_schema")).scalar() == "9999"


def test_a_writer_waits_and_then_gives_up(durable: Settings, make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    with Registry.open(durable, patience=0.2) as registry:
        registry.publish(bundle, promote=True, actor="ada")
        with connected(durable.registry) as connection:
            if durable.registry.startswith("sqlite"):
                connection.exec_driver_sql("UPDATE shopfit_adapters SET last_number = last_number")
            else:
                connection.exec_driver_sql("SELECT * FROM shopfit_adapters FOR UPDATE")
            with pytest.raises(RegistryError, match="lock") as caught:
                registry.publish(bundle, promote=True, actor="bob")
            assert "in a moment" in caught.value.next_step
            assert registry.resolve("acme/review-sentiment").number == 1  # readers do not wait
        assert registry.publish(bundle, promote=True, actor="bob").number == 2


@pytest.mark.parametrize(
    "url",
    [
        "mysql://ada:s3cret@host/db",
        "no url s3cret",
        "sqlite+aiosqlite:///x.db?password=s3cret",
        "postgresql+psycopg2://a:s3cret@h/d",
    ],
)
def test_a_url_of_another_kind(settings: Settings, url: str) -> None:
    with pytest.raises(RegistryError, match=r"allowed: sqlite:///path or postgresql\+psycopg://") as caught:
        Registry.open(replace(settings, registry=url))
    assert "s3cret" not in str(caught.value) or url.startswith("no url")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_sqlite_in_memory_is_no_registry(settings: Settings, url: str) -> None:
    with pytest.raises(RegistryError, match="keeps nothing on disk"):
        Registry.open(replace(settings, registry=url))


def test_a_server_that_does_not_answer(settings: Settings, tmp_path: Path) -> None:
    url = f"postgresql+psycopg://ada:s3cret@/shop?host={tmp_path}"
    with pytest.raises(RegistryError) as caught:
        Registry.open(replace(settings, registry=url))
    assert f"the registry postgresql+psycopg://ada:***@/shop?host={tmp_path} failed: connection" in str(caught.value)
    assert "SHOPFIT_REGISTRY" in caught.value.next_step
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_no_database(settings: Settings) -> None:
    (settings.home / "registry.db").write_text("groceries: milk, eggs, bread, and more\n" * 100)
    with pytest.raises(RegistryError, match="file is not a database") as caught:
        Registry.open(settings)
    assert "another file" in caught.value.next_step


def test_a_folder_that_cannot_be_made(settings: Settings) -> None:
    (settings.home / "file").write_text("x")
    with pytest.raises(RegistryError, match=r"making the folder .*file/deeper failed: Not a directory"):
        Registry.open(replace(settings, registry=f"sqlite:///{settings.home}/file/deeper/registry.db"))


def test_the_folder_is_made(settings: Settings, tmp_path: Path) -> None:
    Registry.open(replace(settings, registry=f"sqlite:///{tmp_path}/new/er/registry.db")).close()
    assert (tmp_path / "new" / "er" / "registry.db").exists()


def fill(file: Path) -> None:
    with suppress(OSError), file.open("wb", buffering=0) as opened:
        while True:
            opened.write(b"\0" * 4096)


def publish_often(registry: Registry, bundle: Bundle) -> None:
    """Often enough to use up the pages that SQLite's log has free."""
    for _ in range(50):
        registry.publish(bundle, promote=True, actor="bob")


def test_a_full_disk_registers_nothing(settings: Settings, make_bundle: MakeBundle, small_disk: Path) -> None:
    url = f"sqlite:///{small_disk}/registry.db"
    bundle = make_bundle()
    with Registry.open(replace(settings, registry=url)) as registry:
        registry.publish(bundle, promote=True, actor="ada")
        filler = small_disk / "filler"
        fill(filler)
        with pytest.raises(RegistryError, match=r"full|disk I/O"):
            publish_often(registry, bundle)
        done = len(registry.versions())
        filler.unlink()
        assert registry.publish(bundle, promote=True, actor="bob").number == done + 1
        assert [v.number for v in registry.versions()] == list(range(1, done + 2))
        assert registry.verify() == []
    check = sqlite3.connect(small_disk / "registry.db")
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


def test_blobs_that_do_not_fit_register_nothing(settings: Settings, make_bundle: MakeBundle, small_disk: Path) -> None:
    bundle = make_bundle()
    (small_disk / "filler").write_bytes(b"\0" * 506 * 1024)
    with Registry.open(replace(settings, blobs=str(small_disk / "blobs"))) as registry:
        with pytest.raises(RegistryError, match="No space left on device"):
            registry.publish(bundle, promote=True, actor="ada")
        assert registry.versions() == registry.audit() == []
        (small_disk / "filler").unlink()
        assert registry.publish(bundle, promote=True, actor="ada").number == 1
        assert registry.verify() == []


def test_a_limit_on_file_sizes_registers_nothing(settings: Settings, make_bundle: MakeBundle) -> None:
    Registry.open(settings).close()
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from shopfit.adapter.bundle import Bundle; from shopfit.registry import Registry\n"
        "from shopfit.settings import Settings; from shopfit.errors import RegistryError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with Registry.open(Settings(*map(str, sys.argv[1:4]))) as registry:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))\n"
        "    try:\n"
        "        registry.publish(Bundle.open(Path(sys.argv[4])), promote=True, actor='ada')\n"
        "    except RegistryError as error:\n"
        "        print(error)\n"
    )
    arguments = [str(settings.home), settings.registry, settings.blobs, str(make_bundle().folder)]
    done = subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True)
    assert "File too large" in done.stdout
    with Registry.open(settings) as registry:
        assert registry.versions() == registry.audit() == []
    assert not list((Path(settings.blobs) / "unfinished").iterdir())
