import os
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from tests.registry.conftest import MakeBundle

from shopfit.errors import BundleError, RegistryError
from shopfit.registry import Registry, Version
from shopfit.registry.fetching import is_path
from shopfit.settings import Settings


@pytest.fixture
def version(local: Registry, make_bundle: MakeBundle) -> Version:
    return local.publish(make_bundle(), promote=True, actor="ada")


def _change_rows(settings: Settings, statement: str) -> None:
    engine = create_engine(settings.registry)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.mark.parametrize("path", ["bundle.json", "native/adapter_model.safetensors", "a/b/c-d_e.1", "a..b"])
def test_paths_inside_a_bundle(path: str) -> None:
    assert is_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "..",
        ".",
        "../x",
        "a/../b",
        "a/..",
        "a//b",
        "a/",
        "./a",
        "a\\b",
        "C:\\x",
        "~/x",
        "a\nb",
        "a\n",
        "a\0",
        "ü",
        ".ssh/config",
        "a" * 256,
    ],
)
def test_paths_that_could_lead_out(path: str) -> None:
    assert not is_path(path)


@pytest.mark.parametrize("path", ["/tmp/escaped-bundle-file", "../escaped", "native/../../escaped", "..\\escaped"])
def test_a_path_in_the_database_that_leads_out_is_not_followed(
    local: Registry, version: Version, settings: Settings, tmp_path: Path, path: str
) -> None:
    _change_rows(settings, f"UPDATE shopfit_files SET path = '{path}' WHERE path = 'README.md'")
    before = sorted(tmp_path.rglob("*escaped*"))
    with pytest.raises(BundleError, match="is not a path inside a bundle"):
        local.fetch(version, tmp_path / "outer" / "cache")
    assert sorted(tmp_path.rglob("*escaped*")) == before == []
    assert not Path("/tmp/escaped-bundle-file").exists()
    assert any("is not a path" in problem.what for _, problem in local.verify())


def test_a_blob_name_in_the_database_that_leads_out_is_not_read(
    local: Registry, version: Version, settings: Settings, tmp_path: Path
) -> None:
    _change_rows(settings, "UPDATE shopfit_files SET sha256 = '../../secrets' WHERE path = 'README.md'")
    with pytest.raises(BundleError, match="is not the name of a blob"):
        local.fetch(version, tmp_path / "cache")
    assert any("is not the name of a blob" in problem.what for _, problem in local.verify())


def test_a_digest_in_the_database_that_leads_out_is_not_followed(
    local: Registry, version: Version, settings: Settings, tmp_path: Path
) -> None:
    _change_rows(settings, "UPDATE shopfit_versions SET digest = '../escaped'")
    with pytest.raises(BundleError, match=r"digest: '\.\./escaped'"):
        local.fetch(local.resolve(version.name), tmp_path / "outer" / "cache")


def test_a_damaged_blob_is_told_and_never_kept(
    local: Registry, version: Version, settings: Settings, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    digest = make_bundle().manifest.files["report.json"]
    blob = Path(settings.blobs) / digest[:2] / digest
    whole = blob.read_bytes()
    cache = tmp_path / "cache"
    for damage, message in ((b"{}", f"content of its blob {digest} has changed"), (None, f"blob {digest} is missing")):
        blob.unlink() if damage is None else blob.write_bytes(damage)
        with pytest.raises(BundleError) as caught:
            local.fetch(version, cache)
        assert "acme/review-sentiment@1" in caught.value.message
        assert [problem.where for problem in caught.value.problems] == ["report.json"]
        assert message in str(caught.value)
        assert "publish the adapter again" in caught.value.next_step
        assert list(cache.iterdir()) == []
    blob.write_bytes(whole)
    assert local.fetch(version, cache).digest == version.digest


def test_what_is_in_the_cache_needs_neither_database_nor_blobs(
    local: Registry, version: Version, settings: Settings, tmp_path: Path
) -> None:
    fetched = local.fetch(version, tmp_path / "cache")
    inode = fetched.folder.stat().st_ino
    _change_rows(settings, "DELETE FROM shopfit_files")
    assert local.fetch(version, tmp_path / "cache").folder.stat().st_ino == inode


@pytest.mark.parametrize("damage", ["edited", "missing", "added", "no manifest", "empty"])
def test_a_damaged_cache_is_brought_anew(local: Registry, version: Version, tmp_path: Path, damage: str) -> None:
    folder = local.fetch(version, tmp_path / "cache").folder
    weights = folder / "lora" / "adapter_model.safetensors"
    if damage == "edited":
        weights.write_bytes(b"x" + weights.read_bytes()[1:])
    elif damage == "missing":
        weights.unlink()
    elif damage == "added":
        (folder / "lora" / "more.safetensors").write_bytes(b"x")
    elif damage == "no manifest":
        (folder / "bundle.json").unlink()
    else:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    fetched = local.fetch(version, tmp_path / "cache")
    assert fetched.problems() == []
    assert fetched.digest == version.digest
    assert list((tmp_path / "cache").iterdir()) == [folder]


def test_another_merchants_intact_bundle_does_not_pass_for_ones_own(
    local: Registry, version: Version, settings: Settings, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    other = local.publish(make_bundle("rival", seed=1), promote=True, actor="eve")
    local.fetch(other, tmp_path / "cache")
    _change_rows(settings, f"UPDATE shopfit_versions SET digest = '{other.digest}' WHERE merchant = 'acme'")
    with pytest.raises(BundleError, match="do not make up the bundle"):
        local.fetch(local.resolve(version.name), tmp_path / "cache")


def test_leavings_of_killed_fetches_go_when_they_are_old(local: Registry, version: Version, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    old, young, foreign = cache / ".unfinished-old", cache / ".unfinished-young", cache / "notes"
    for folder in (old, young, foreign):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    os.utime(old, (0, 0))
    os.utime(foreign, (0, 0))
    local.fetch(version, cache)
    assert not old.exists()
    assert young.exists()
    assert foreign.exists()


def test_a_cache_that_cannot_be_written(local: Registry, version: Version, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RegistryError, match=r"writing to the cache .* failed: Not a directory"):
        local.fetch(version, tmp_path / "cache")
