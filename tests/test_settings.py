"""Where state lives, whatever the folder is called."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shopfit.errors import ShopfitError
from shopfit.registry import Registry
from shopfit.registry.blobs import BlobStore
from shopfit.settings import Settings, sqlite_url
from shopfit.tune.study import opened
from tests.cli.accounts import held_to_modes, unknown_user
from tests.registry.conftest import MakeBundle, make_bundle

__all__ = ["make_bundle"]

ODD = [
    "plain",
    "a?b",
    "a?mode=memory",
    "a%20b",
    "a%",
    "a::b",
    "memory:::x",
    "memory:",
    "s3:",
    "file:x",
    "a#b",
    "a b",
    "a\nb",
    "a;b",
    "~",
    "~root",
    "a.",
    "a..",
    "{SCHEMA_VERSION}",
    "a@b:c@d",
    "a\\b",
    "a'b\"c",
    "a&b=c",
    "[ab]*",
    "é 店",
    ":memory:",
]


@pytest.mark.parametrize("name", ODD)
def test_state_lives_in_its_home_and_nowhere_else(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_bundle: MakeBundle
) -> None:
    parent = tmp_path / "homes"
    monkeypatch.setenv("SHOPFIT_HOME", str(parent / name))
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment()
    assert settings.home == parent / name
    with Registry.open(settings) as registry:
        version = registry.publish(make_bundle(), promote=True, actor="ada")
        registry.fetch(version, settings.cache)
        assert registry.verify() == []
    with opened(settings.home / "studies" / "acme" / "1.db", prune=False) as study:
        study.enqueue_trial({})
    assert [path.name for path in parent.iterdir()] == [name]
    there = {path.name for path in (parent / name).iterdir()} - {"registry.db-wal", "registry.db-shm"}
    assert there == {"blobs", "cache", "registry.db", "studies"}
    assert (parent / name / "studies" / "acme" / "1.db").is_file()


def test_two_homes_are_two_registries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_bundle: MakeBundle) -> None:
    for name in ODD:
        monkeypatch.setenv("SHOPFIT_HOME", str(tmp_path / "homes" / name))
        with Registry.open(Settings.from_environment()) as registry:
            assert registry.versions() == []
            registry.publish(make_bundle(), promote=True, actor="ada")


@pytest.mark.parametrize("blobs", ["pl::ain", "memory::x", "a?b", "./blobs", "deep/er"])
def test_a_path_of_blobs_is_a_path(
    blobs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_bundle: MakeBundle
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOPFIT_BLOBS", blobs)
    with Registry.open(Settings.from_environment()) as registry:
        registry.publish(make_bundle(), promote=True, actor="ada")
    assert (tmp_path / blobs / "unfinished").is_dir()


def test_explicit_urls_are_taken_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_bundle: MakeBundle
) -> None:
    monkeypatch.setenv("SHOPFIT_REGISTRY", f"sqlite:///{tmp_path}/own/registry.db?timeout=5")
    monkeypatch.setenv("SHOPFIT_BLOBS", f"file://{tmp_path}/far")
    with Registry.open(Settings.from_environment()) as registry:
        registry.publish(make_bundle(), promote=True, actor="ada")
        assert registry.verify() == []
    assert (tmp_path / "own" / "registry.db").is_file()
    assert any((tmp_path / "far").iterdir())
    assert not BlobStore.open("simplecache::memory://far").local


def test_a_registry_of_an_ordinary_home_is_where_it_was() -> None:
    assert sqlite_url(Path("/srv/shop-fit_1/.shopfit/registry.db")) == "sqlite:////srv/shop-fit_1/.shopfit/registry.db"


def read(**environment: str) -> str:
    script = "from shopfit.settings import Settings; print(Settings.from_environment().home)"
    command = [sys.executable, "-c", f"try:\n {script}\nexcept Exception as error: print(type(error).__name__, error)"]
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "PYTHONPATH"}}
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True).stdout


def test_a_home_that_cannot_be_known(tmp_path: Path) -> None:
    assert read(SHOPFIT_HOME="~no-such-user/x").startswith("ShopfitError")
    assert "Next: set SHOPFIT_HOME" in read(SHOPFIT_HOME="~no-such-user/x")
    assert read(HOME=str(tmp_path)) == f"{tmp_path}/.shopfit\n"
    assert read(SHOPFIT_HOME="", HOME=str(tmp_path)) == f"{tmp_path}/.shopfit\n"
    assert read(SHOPFIT_HOME="~/x", HOME=str(tmp_path)) == f"{tmp_path}/x\n"


def test_a_home_whose_name_is_not_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "SHOPFIT_HOME", "/srv/\udcff")
    with pytest.raises(ShopfitError, match=r"'/srv/\\udcff', whose name is not UTF-8"):
        Settings.from_environment()


def test_what_may_be_written_is_what_can_be(tmp_path: Path) -> None:
    """Also below a folder that is closed to the user, and reached all the same by a capability."""
    home = tmp_path / "closed" / "home"
    home.mkdir(parents=True)
    home.parent.chmod(0o700)
    script = "import sys; from shopfit.settings import may_write; print(may_write(sys.argv[1]))"
    for before in (unknown_user(), held_to_modes()):
        for mode, can in ((0o777, True), (0o555, False)):
            home.chmod(mode)
            asked = subprocess.run([*before, sys.executable, "-c", script, str(home)], capture_output=True, text=True)
            assert (asked.stdout, asked.stderr) == (f"{can}\n", "")
            tried = subprocess.run([*before, "touch", str(home / "file")], capture_output=True, check=False)
            (home / "file").unlink(missing_ok=True)
            assert (tried.returncode == 0) is can
