"""What a registry does, on SQLite, on PostgreSQL, and with blobs that are not on a disk."""

import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from tests.registry.conftest import MakeBundle

from shopfit.adapter.bundle import Bundle, Manifest, seal
from shopfit.errors import BundleError, RegistryError, UnknownReference
from shopfit.registry import Reference, Registry
from shopfit.registry.temp_folders import Space
from shopfit.settings import Settings

NAME = "acme/review-sentiment"


def publish(registry: Registry, bundle: Bundle, *, promote: bool = True, refused: str | None = None) -> str:
    return registry.publish(bundle, promote=promote, refused=refused, actor="ada").name


def aliases(registry: Registry, merchant: str = "acme") -> dict[str, int]:
    return {alias: version.number for version in registry.versions(merchant) for alias in version.aliases}


def test_publish_tells_what_it_registered(registry: Registry, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(accuracy=0.91)
    before = datetime.now(UTC)
    version = registry.publish(bundle, promote=True, actor="ada")
    assert version.name == f"{NAME}@1"
    assert (version.digest, version.size) == (bundle.digest, bundle.size)
    assert (version.status, version.reason, version.aliases) == ("ready", "", ("production",))
    assert (version.base_name, version.base_fingerprint) == ("smollm2-135m", "f" * 64)
    assert (version.method, version.rank, version.metrics) == ("lora", 8, {"accuracy": 0.91})
    assert before <= version.created <= datetime.now(UTC)
    assert version.created.utcoffset() == timedelta(0)
    assert registry.resolve(NAME) == registry.resolve(Reference.parse(f"{NAME}@1")) == version
    assert hash(version) == hash(registry.resolve(NAME))


def test_a_registry_is_still_there_after_reopening(durable: Settings, make_bundle: MakeBundle, tmp_path: Path) -> None:
    with Registry.open(durable) as first:
        version = first.publish(make_bundle(), promote=True, actor="ada")
    with Registry.open(durable) as second:
        assert second.versions() == [version]
        assert second.fetch(version, tmp_path / "cache").digest == version.digest


def test_production_candidate_and_previous(registry: Registry, make_bundle: MakeBundle) -> None:
    assert publish(registry, make_bundle(), promote=False) == f"{NAME}@1"
    assert aliases(registry) == {"candidate": 1}
    publish(registry, make_bundle(seed=1))
    assert aliases(registry) == {"candidate": 1, "production": 2}
    publish(registry, make_bundle(seed=2))
    assert aliases(registry) == {"candidate": 1, "production": 3, "previous": 2}
    publish(registry, make_bundle(seed=3), promote=False)
    assert aliases(registry) == {"candidate": 4, "production": 3, "previous": 2}
    assert registry.promote(f"{NAME}@candidate", actor="bob").aliases == ("candidate", "production")
    assert aliases(registry) == {"candidate": 4, "production": 4, "previous": 3}


def test_promoting_what_is_in_production_changes_nothing(registry: Registry, make_bundle: MakeBundle) -> None:
    publish(registry, make_bundle())
    publish(registry, make_bundle(seed=1))
    audit = registry.audit()
    registry.promote(f"{NAME}@2", actor="bob")
    assert aliases(registry) == {"production": 2, "previous": 1}
    assert registry.audit() == audit


@pytest.mark.parametrize("promote", [True, False])
def test_a_refused_version_gets_no_alias(registry: Registry, make_bundle: MakeBundle, promote: bool) -> None:
    publish(registry, make_bundle())
    version = registry.publish(make_bundle(seed=1), refused="no gain over the prior", promote=promote, actor="ada")
    assert (version.status, version.reason, version.aliases) == ("refused", "no gain over the prior", ())
    assert aliases(registry) == {"production": 1}
    with pytest.raises(RegistryError, match="refused by the gate: no gain over the prior"):
        registry.promote(version.name, actor="bob")
    assert aliases(registry) == {"production": 1}
    assert registry.promote(version.name, actor="bob", force=True).status == "refused"
    assert aliases(registry) == {"production": 2, "previous": 1}
    assert "forced" in registry.audit()[-1].detail


def test_an_alias_of_ones_own(registry: Registry, make_bundle: MakeBundle) -> None:
    publish(registry, make_bundle())
    publish(registry, make_bundle(seed=1))
    registry.promote(f"{NAME}@1", alias="canary-eu", actor="bob")
    assert aliases(registry) == {"canary-eu": 1, "production": 2, "previous": 1}
    assert registry.resolve(f"{NAME}@canary-eu").number == 1
    with pytest.raises(RegistryError, match="cannot be moved by hand"):
        registry.promote(f"{NAME}@2", alias="previous", actor="bob")
    with pytest.raises(UnknownReference, match="is not a reference"):
        registry.promote(f"{NAME}@2", alias="No Alias", actor="bob")


def test_rollback_goes_back_and_forth(registry: Registry, make_bundle: MakeBundle) -> None:
    for seed in range(3):
        publish(registry, make_bundle(seed=seed))
    assert registry.rollback(NAME, actor="bob").number == 2
    assert aliases(registry) == {"production": 2, "previous": 3}
    assert registry.rollback(NAME, actor="bob").number == 3
    assert aliases(registry) == {"production": 3, "previous": 2}


def test_rollback_needs_something_to_go_back_to(registry: Registry, make_bundle: MakeBundle) -> None:
    with pytest.raises(UnknownReference):
        registry.rollback(NAME, actor="bob")
    publish(registry, make_bundle(), promote=False)
    with pytest.raises(UnknownReference, match="@production does not exist"):
        registry.rollback(NAME, actor="bob")
    publish(registry, make_bundle())
    with pytest.raises(RegistryError, match="has no @previous: @2 is the first"):
        registry.rollback(NAME, actor="bob")
    with pytest.raises(RegistryError, match="not of acme/review-sentiment@1"):
        registry.rollback(f"{NAME}@1", actor="bob")
    assert aliases(registry) == {"candidate": 1, "production": 2}


def test_a_removed_number_is_never_given_again(registry: Registry, make_bundle: MakeBundle) -> None:
    publish(registry, make_bundle())
    publish(registry, make_bundle(seed=1), promote=False)
    publish(registry, make_bundle(seed=2), refused="worse")
    with pytest.raises(RegistryError, match=r"@2 cannot be removed: @candidate names it"):
        registry.remove(f"{NAME}@2", actor="bob")
    removed = registry.remove(f"{NAME}@3", actor="bob")
    assert removed.number == 3
    with pytest.raises(UnknownReference, match=r"@3 was removed: there is @2, @1, @candidate \(2\), @production \(1\)"):
        registry.resolve(f"{NAME}@3")
    assert publish(registry, make_bundle(seed=3)) == f"{NAME}@4"
    assert [version.number for version in registry.versions()] == [1, 2, 4]
    assert [(e.actor, e.action) for e in registry.audit() if e.reference == f"{NAME}@3"] == [
        ("ada", "publish"),
        ("bob", "remove"),
    ]


def test_a_removed_version_cannot_be_fetched(registry: Registry, make_bundle: MakeBundle, tmp_path: Path) -> None:
    publish(registry, make_bundle())
    version = registry.publish(make_bundle(seed=1), refused="worse", promote=False, actor="ada")
    registry.remove(version.name, actor="bob")
    with pytest.raises(UnknownReference, match="was removed"):
        registry.fetch(version, tmp_path / "cache")


def test_every_change_is_in_the_audit(registry: Registry, make_bundle: MakeBundle) -> None:
    before = datetime.now(UTC)
    for seed in range(2):
        publish(registry, make_bundle(seed=seed))
    publish(registry, make_bundle(seed=2), refused="worse")
    publish(registry, make_bundle("other"), promote=False)
    registry.rollback(NAME, actor="bob")
    registry.remove(f"{NAME}@3", actor="eve")
    entries = registry.audit("acme")
    assert [(e.actor, e.action, e.reference) for e in entries] == [
        ("ada", "publish", f"{NAME}@1"),
        ("ada", "promote", f"{NAME}@1"),
        ("ada", "publish", f"{NAME}@2"),
        ("ada", "promote", f"{NAME}@2"),
        ("ada", "publish", f"{NAME}@3"),
        ("bob", "rollback", f"{NAME}@1"),
        ("eve", "remove", f"{NAME}@3"),
    ]
    assert entries[1].detail == "@production: none -> 1"
    assert entries[3].detail == "@production: 1 -> 2, @previous: none -> 1"
    assert entries[4].detail.startswith("refused: worse; digest ")
    assert entries[5].detail == "@production: 2 -> 1, @previous: 1 -> 2"
    assert all(before <= entry.time <= datetime.now(UTC) for entry in entries)
    assert len(registry.audit()) == len(entries) + 2
    assert registry.audit("nobody") == []


def test_merchants_whose_names_contain_each_other(registry: Registry, make_bundle: MakeBundle, tmp_path: Path) -> None:
    names = ["a", "ab", "a-b", "b"]
    digests = {}
    for seed, merchant in enumerate(names):
        for recipe in ("r", "r-r"):
            version = registry.publish(make_bundle(merchant, recipe, seed=seed), promote=True, actor=merchant)
            assert version.number == 1
            digests[merchant, recipe] = version.digest
    assert len(set(digests.values())) == len(digests)
    for (merchant, recipe), digest in digests.items():
        version = registry.resolve(f"{merchant}/{recipe}")
        assert (version.merchant, version.recipe, version.digest) == (merchant, recipe, digest)
        assert registry.fetch(version, tmp_path / "cache").manifest.merchant == merchant
        assert registry.versions(merchant, recipe) == [version]
    assert {version.merchant for version in registry.versions("a")} == {"a"}
    assert {version.recipe for version in registry.versions(recipe="r")} == {"r"}
    assert {entry.actor for entry in registry.audit("a-b")} == {"a-b"}
    registry.publish(make_bundle("a", "r", seed=9), promote=True, actor="a")
    registry.rollback("a/r", actor="a")
    with pytest.raises(RegistryError, match="a-b/r has no @previous"):
        registry.rollback("a-b/r", actor="a-b")
    registry.promote("a/r@2", actor="a")
    registry.promote("a/r@2", alias="mine", actor="a")
    assert {v.name for v in registry.versions() if "mine" in v.aliases} == {"a/r@2"}
    assert {v.aliases for v in registry.versions() if v.merchant != "a"} == {("production",)}


def test_fetch_brings_the_bundle_to_the_byte(registry: Registry, make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = make_bundle()
    version = registry.publish(bundle, promote=True, actor="ada")
    fetched = registry.fetch(version, tmp_path / "cache")
    assert fetched.folder == tmp_path / "cache" / version.digest
    assert (fetched.digest, fetched.manifest) == (bundle.digest, bundle.manifest)
    for path in (path for path in bundle.folder.rglob("*") if path.is_file()):
        assert (fetched.folder / path.relative_to(bundle.folder)).read_bytes() == path.read_bytes()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [version.digest]


def test_the_same_bundle_twice_is_two_versions_and_one_set_of_blobs(
    local: Registry, make_bundle: MakeBundle, settings: Settings
) -> None:
    bundle = make_bundle()
    first = local.publish(bundle, promote=True, actor="ada")
    blobs = {path: path.stat().st_mtime_ns for path in Path(settings.blobs).rglob("*") if path.is_file()}
    second = local.publish(bundle, promote=True, actor="ada")
    assert (first.number, second.number, first.digest) == (1, 2, second.digest)
    assert {path: path.stat().st_mtime_ns for path in Path(settings.blobs).rglob("*") if path.is_file()} == blobs
    # native/ and lora/ hold the same weights and config here; and there is the mark of whose store it is
    assert len(blobs) == 5 + 1


def test_an_edited_bundle_is_not_published(registry: Registry, make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    (bundle.folder / "report.json").write_text('{"passed": "of course"}\n')
    with pytest.raises(BundleError, match=r"report\.json"):
        registry.publish(bundle, promote=True, actor="ada")
    assert registry.versions() == []
    assert registry.audit() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"merchant": "../acme"}, r"bundle\.json: merchant: '\.\./acme'"),
        ({"recipe": "Review"}, r"bundle\.json: recipe: 'Review'"),
        ({"metrics": {"loss": float("nan")}}, r"metrics\.loss: nan \(allowed: finite numbers\)"),
    ],
)
def test_a_manifest_that_cannot_be_kept(
    local: Registry, make_bundle: MakeBundle, change: dict[str, object], message: str
) -> None:
    bundle = make_bundle()
    written = seal(bundle.folder, Manifest.model_copy(bundle.manifest, update=change))
    path = bundle.folder / "bundle.json"
    path.write_text(path.read_text().replace('"loss": null', '"loss": NaN'))
    with pytest.raises(BundleError, match=message):
        local.publish(written, promote=True, actor="ada")
    assert local.versions() == []


@pytest.mark.parametrize("name", [".hidden", "a b", "ü.txt", "x" * 252 + ".txt"])
def test_a_file_whose_name_cannot_be_kept(local: Registry, make_bundle: MakeBundle, name: str) -> None:
    bundle = make_bundle()
    folder = bundle.folder / "native"
    (folder / name[:200]).write_text("x")
    if len(name) > 200:
        (folder / ("d" * 100)).mkdir()
        (folder / name[:200]).rename(folder / ("d" * 100) / name[:200])
    with pytest.raises(BundleError, match="this name cannot be kept"):
        local.publish(seal(bundle.folder, bundle.manifest), promote=True, actor="ada")
    assert local.versions() == []


def test_identities_tell_number_and_digest_of_many_references(registry: Registry, make_bundle: MakeBundle) -> None:
    made = [registry.publish(make_bundle(seed=seed), promote=seed != 2, actor="ada") for seed in range(3)]
    other = registry.publish(make_bundle("acme-b"), promote=True, actor="ada")
    asked = {
        Reference.parse(f"{NAME}@1"): made[0],
        Reference.parse(NAME): made[1],
        Reference.parse(f"{NAME}@previous"): made[0],
        Reference.parse(f"{NAME}@candidate"): made[2],
        Reference.parse("acme-b/review-sentiment"): other,
    }
    absent = [Reference.parse(f"{NAME}@{number}") for number in range(4, 1000)]
    absent += [Reference.parse("acme-b/review-sentiment@previous"), Reference.parse("acme/nothing")]
    assert registry.identities([*asked, *absent]) == {
        reference: (version.number, version.digest) for reference, version in asked.items()
    }
    assert registry.identities([]) == {}
    registry.publish(make_bundle(seed=3), promote=False, actor="ada")
    registry.remove(f"{NAME}@3", actor="ada")
    assert registry.identities([Reference.parse(f"{NAME}@3")]) == {}


def test_verify_finds_what_has_changed(local: Registry, make_bundle: MakeBundle, settings: Settings) -> None:
    whole = local.publish(make_bundle(seed=1), promote=True, actor="ada")
    bundle = make_bundle(seed=2)
    broken = local.publish(bundle, promote=True, actor="ada")
    assert local.verify() == []
    digest = bundle.manifest.files["native/adapter_model.safetensors"]
    blob = Path(settings.blobs) / digest[:2] / digest
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    found = local.verify()
    assert [(version.name, problem.where) for version, problem in found] == [
        (broken.name, "lora/adapter_model.safetensors"),
        (broken.name, "native/adapter_model.safetensors"),
    ]
    assert local.verify(whole.name) == []
    assert len(local.verify(f"{NAME}@production")) == 2
    blob.unlink()
    assert "is missing" in str(local.verify()[0][1])
    local.publish(bundle, promote=True, actor="ada")  # the same content heals the blob
    assert local.verify() == []


def test_verify_finds_rows_that_were_edited(durable: Settings, make_bundle: MakeBundle, tmp_path: Path) -> None:
    with Registry.open(durable) as registry:
        version = registry.publish(make_bundle(), promote=True, actor="ada")
        engine = create_engine(durable.registry)
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM shopfit_files WHERE path = 'report.json'"))
        engine.dispose()
        [(found, problem)] = registry.verify()
        assert found == version
        assert "list of files" in problem.what
        with pytest.raises(BundleError, match="do not make up the bundle"):
            registry.fetch(version, tmp_path / "cache")


def test_garbage_is_what_no_version_names_and_is_old(registry: Registry, make_bundle: MakeBundle) -> None:
    kept = registry.publish(make_bundle(seed=1), promote=True, actor="ada")
    assert registry.collect_garbage(grace=timedelta(0)).count == 0
    for content in (b"published by nobody", b"nor this"):
        registry._blobs.put(content, hashlib.sha256(content).hexdigest())
    assert registry.collect_garbage().count == 0
    assert registry.collect_garbage(grace=timedelta(0), dry_run=True) == Space(2, 27)
    assert registry.collect_garbage(grace=timedelta(0)) == Space(2, 27)
    assert registry.collect_garbage(grace=timedelta(0)).count == 0
    assert registry.collect_garbage(grace=timedelta.max).count == 0
    assert registry.verify() == []
    assert registry.versions() == [kept]


def test_removing_a_version_frees_what_only_it_has(
    registry: Registry, place: Settings, make_bundle: MakeBundle
) -> None:
    kept = registry.publish(make_bundle(seed=1), promote=True, actor="ada")
    gone = registry.publish(make_bundle(seed=2), promote=False, refused="worse", actor="ada")
    files = {file.path: file.sha256 for file in registry._files(gone)}
    registry.remove(gone.name, actor="ada")
    assert registry._blobs.missing(files.values()) == {files["bundle.json"], files["lora/adapter_model.safetensors"]}
    assert registry.collect_garbage(grace=timedelta(0)).count == 0
    assert registry.verify() == []
    assert registry.versions() == [kept]
    registry.publish(make_bundle(seed=2), promote=False, actor="ada")
    assert registry.verify() == []


def test_an_alias_is_taken_away_and_then_its_version_can_be_removed(
    registry: Registry, make_bundle: MakeBundle
) -> None:
    for seed in range(3):
        publish(registry, make_bundle(seed=seed))
    with pytest.raises(RegistryError, match="@previous names it") as caught:
        registry.remove(f"{NAME}@2", actor="ada")
    assert f"unalias {NAME}@previous" in caught.value.next_step
    assert registry.unalias(f"{NAME}@previous", actor="bob").aliases == ()
    registry.remove(f"{NAME}@2", actor="ada")
    assert aliases(registry) == {"production": 3}
    assert registry.unalias(NAME, actor="bob").number == 3
    assert aliases(registry) == {}
    assert [(e.actor, e.action, e.reference, e.detail) for e in registry.audit() if e.action == "unalias"] == [
        ("bob", "unalias", f"{NAME}@2", "@previous: 2 -> none"),
        ("bob", "unalias", f"{NAME}@3", "@production: 3 -> none"),
    ]
    with pytest.raises(UnknownReference, match="@production does not exist"):
        registry.unalias(NAME, actor="bob")
    with pytest.raises(UnknownReference, match="@3 is a version, not an alias"):
        registry.unalias(f"{NAME}@3", actor="bob")
    publish(registry, make_bundle(seed=4))
    assert aliases(registry) == {"production": 4}


def test_garbage_collection_leaves_foreign_files_alone(
    local: Registry, make_bundle: MakeBundle, settings: Settings
) -> None:
    local.publish(make_bundle(), promote=True, actor="ada")
    blobs = Path(settings.blobs)
    foreign = [blobs / "notes.txt", blobs / "ab" / "c", blobs / "unfinished" / "notes.txt"]
    abandoned = blobs / "unfinished" / ("0" * 32)
    for path in (*foreign, abandoned):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        os.utime(path, (0, 0))
    going_on = blobs / "unfinished" / ("1" * 32)
    going_on.write_text("x")
    local.collect_garbage(grace=timedelta(0))
    assert all(path.exists() for path in foreign)
    assert not abandoned.exists()
    assert going_on.exists()
