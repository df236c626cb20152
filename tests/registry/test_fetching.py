import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from tests.registry.conftest import MakeBundle

from shopfit.errors import BundleError, RegistryError, UnknownReference
from shopfit.registry import Reference, Registry, Version, publishing
from shopfit.registry.fetching import is_path
from shopfit.registry.temp_folders import owned_folder
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


def test_what_is_in_the_cache_needs_no_blobs(
    local: Registry, version: Version, settings: Settings, tmp_path: Path
) -> None:
    fetched = local.fetch(version, tmp_path / "cache")
    inode = fetched.folder.stat().st_ino
    shutil.rmtree(settings.blobs)
    assert local.fetch(version, tmp_path / "cache").folder.stat().st_ino == inode


def test_a_removed_version_does_not_come_from_the_cache(
    local: Registry, version: Version, tmp_path: Path, make_bundle: MakeBundle
) -> None:
    gone = local.publish(make_bundle(seed=1), promote=False, refused="worse", actor="ada")
    local.fetch(gone, tmp_path / "cache")
    local.remove(gone.name, actor="ada")
    for take in (lambda: local.fetch(gone, tmp_path / "cache"), lambda: local.read(gone, set)):
        with pytest.raises(UnknownReference, match="was removed"):
            take()


def test_a_number_that_names_other_weights_after_a_restore(
    local: Registry, version: Version, settings: Settings, tmp_path: Path, make_bundle: MakeBundle
) -> None:
    database = settings.home / "registry.db"
    with closing(sqlite3.connect(database)) as live, closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
        live.backup(backup)
    before = local.publish(make_bundle(seed=1), promote=True, actor="ada")
    local.fetch(before, tmp_path / "cache")
    reference = Reference.parse("acme/review-sentiment@2")
    assert local.identities([reference]) == {reference: (2, before.digest)}
    with closing(sqlite3.connect(database)) as live, closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
        backup.backup(live)
    after = local.publish(make_bundle(seed=2), promote=True, actor="ada")
    assert (after.number, after.digest == before.digest) == (2, False)
    assert local.identities([reference]) == {reference: (2, after.digest)}
    for take in (lambda: local.fetch(before, tmp_path / "cache"), lambda: local.read(before, set)):
        with pytest.raises(UnknownReference, match=f"the number names {after.digest[:12]} now"):
            take()
    assert local.fetch(after, tmp_path / "cache").digest == after.digest


def test_a_database_file_that_is_exchanged_is_seen(
    local: Registry, version: Version, settings: Settings, tmp_path: Path, make_bundle: MakeBundle
) -> None:
    database = settings.home / "registry.db"
    with closing(sqlite3.connect(database)) as live, closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
        live.backup(backup)
    local.publish(make_bundle(seed=1), promote=True, actor="ada")
    assert len(local.versions()) == 2
    for left in ("registry.db-wal", "registry.db-shm"):
        (settings.home / left).unlink(missing_ok=True)
    database.unlink()
    with pytest.raises(RegistryError, match="unable to open"):  # in the middle of a restore; no empty one is made
        local.versions()
    assert not database.exists()
    (tmp_path / "backup.db").rename(database)
    assert local.versions() == [version]
    assert local.publish(make_bundle(seed=2), promote=True, actor="ada").number == 2


def test_read_takes_from_the_cache_only_what_was_published(make_bundle: MakeBundle, home: Path, tmp_path: Path) -> None:
    place = Settings(home, f"sqlite:///{home}/registry.db", f"memory://{tmp_path.name}/far")
    cache, weights = tmp_path / "cache", "lora/adapter_model.safetensors"
    with Registry.open(place) as far:
        version = far.publish(make_bundle(), promote=True, actor="ada")
        needed = {"bundle.json", weights}
        whole = far.read(version, lambda _: needed, cache)
        assert set(whole.contents) == needed
        kept = cache / version.digest / weights
        inode = kept.stat().st_ino
        far._blobs.remove([file.sha256 for file in far._files(version)])
        assert far.read(version, lambda _: needed, cache) == whole  # without the distant store
        assert kept.stat().st_ino == inode
        kept.write_bytes(b"swapped" + whole.contents[weights][7:])
        with pytest.raises(BundleError, match="is missing"):
            far.read(version, lambda _: needed, cache)
        far.publish(make_bundle(), promote=True, actor="ada")
        assert far.read(version, lambda _: needed, cache) == whole
        assert kept.read_bytes() == whole.contents[weights]


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


def test_leavings_of_killed_fetches_go(local: Registry, version: Version, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    left, foreign = cache / ".unfinished-left", cache / "notes"
    for folder in (left, foreign):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    with owned_folder(cache, ".unfinished-") as going_on:
        local.fetch(version, cache)
        assert going_on.is_dir()
    assert not left.exists()
    assert sorted(path.name for path in cache.iterdir()) == sorted([version.digest, "notes"])


def test_a_cache_that_cannot_be_written(local: Registry, version: Version, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RegistryError, match=r"writing to the cache .* failed: File exists\nNext: name a folder"):
        local.fetch(version, tmp_path / "cache")


def test_a_file_larger_than_its_kind_is_not_read(local: Registry, version: Version, settings: Settings) -> None:
    _change_rows(settings, "UPDATE shopfit_files SET size = 67108865 WHERE path = 'README.md'")
    shutil.rmtree(settings.blobs)
    with pytest.raises(BundleError, match=r"list of files: README\.md has 67108865 bytes \(allowed: 67108864\)"):
        local.read(version, lambda _: {"README.md"})
    assert any("README.md has 67108865 bytes" in problem.what for _, problem in local.verify())


def test_no_link_in_the_cache_is_followed(make_bundle: MakeBundle, home: Path, tmp_path: Path) -> None:
    place = Settings(home, f"sqlite:///{home}/registry.db", f"memory://{tmp_path.name}/linked")
    cache, needed = tmp_path / "cache", {"bundle.json", "README.md"}
    with Registry.open(place) as far:
        version = far.publish(make_bundle(), promote=True, actor="ada")
        whole = far.read(version, lambda _: needed, cache)
        kept = cache / version.digest / "README.md"
        kept.rename(tmp_path / "elsewhere.md")
        kept.symlink_to(tmp_path / "elsewhere.md")
        assert far.read(version, lambda _: needed, cache) == whole
        assert not kept.is_symlink()


def test_what_grew_or_became_a_link_since_a_bundle_was_opened_is_not_published(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    os.truncate(bundle.folder / "report.json", 64 * 1024**2 + 1)
    with pytest.raises(BundleError, match=r"report\.json has 67108865 bytes \(allowed: 67108864\)"):
        publishing.contents(bundle)
    bundle = make_bundle()
    (bundle.folder / "README.md").rename(bundle.folder.parent / "elsewhere.md")
    with pytest.raises(BundleError, match=r"changed while it was published: README\.md"):
        publishing.contents(bundle)
    (bundle.folder / "README.md").symlink_to(bundle.folder.parent / "elsewhere.md")
    with pytest.raises(BundleError, match=r"README\.md is not a plain file"):
        publishing.contents(bundle)
