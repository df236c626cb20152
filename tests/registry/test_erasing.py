"""Erasing a merchant: nothing of it stays, nobody else loses anything, and it can be killed at any step."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from tests.registry.conftest import MakeBundle
from tests.registry.publisher import child, die_at

from shopfit.adapter.bundle import Bundle, seal
from shopfit.errors import KeyRefused, RegistryError, UnknownReference
from shopfit.registry import Feedback, Limits, Reference, Registry
from shopfit.registry.erasing import Receipt
from shopfit.settings import Settings

SECRET = "SECRET-CUSTOMER-TITLE-4711"
NAME = "gone/review-sentiment"


def with_secret(bundle: Bundle) -> Bundle:
    (bundle.folder / "catalog.jsonl").write_text(json.dumps({"id": "a", "title": SECRET}) + "\n")
    return seal(bundle.folder, bundle.manifest)


def fill(registry: Registry, place: Settings, make_bundle: MakeBundle) -> None:
    """Merchant gone has three versions, everything that tuning keeps, and the same weights as merchant stays."""
    for seed in range(3):
        version = registry.publish(with_secret(make_bundle("gone", seed=seed)), promote=True, actor="ada")
        registry.fetch(version, place.cache)
    registry.promote(f"{NAME}@1", alias="candidate", actor="ada")
    other = registry.publish(make_bundle("stays", seed=2), promote=True, actor="ada")
    registry.fetch(other, place.cache)
    registry.publish(make_bundle("gone-not", seed=2), promote=True, actor="ada")
    for name in (
        "studies/gone/review-sentiment/1.db",
        "fleets/gone/review-sentiment.json",
        "curves/gone.review-sentiment.png",
        "rewrites/gone/1.json",
        "rewrites/1.json",
        "checkpoints/gone/review-sentiment/1.safetensors",
        "indexes/gone/0-1.safetensors",
        "runs/gone/20261129-000000-abcdef/events.jsonl",
        "merchants/gone/reviews.jsonl",
        ".staging-dead/bundle/catalog.jsonl",
        "studies/gone-not/review-sentiment/1.db",
        "fleets/gone-not/review-sentiment.json",
        "curves/gone-not.review-sentiment.png",
        "rewrites/gone-not/1.json",
        "checkpoints/gone-not/review-sentiment/1.safetensors",
        "indexes/gone-not/0-1.safetensors",
        "runs/gone-not/20261129-000000-abcdef/events.jsonl",
        "merchants/gone-not/reviews.jsonl",
    ):
        path = place.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not" if "gone-not" in name else SECRET)


def holding(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def files(home: Path) -> set[Path]:
    return {path.relative_to(home) for path in home.rglob("*") if path.is_file()}


def test_nothing_of_it_stays(registry: Registry, place: Settings, make_bundle: MakeBundle) -> None:
    fill(registry, place, make_bundle)
    watched = [Reference.parse(name) for name in (NAME, f"{NAME}@1", f"{NAME}@candidate", "stays/review-sentiment")]
    kept = registry.resolve("stays/review-sentiment")
    digests = {version.name: version.digest for version in registry.versions("gone")}

    planned = registry.erase("gone", place, actor="eve", dry_run=True)
    assert len(registry.identities(watched)) == 4
    receipt = registry.erase("gone", place, actor="eve")

    for told in (planned, receipt):
        assert (told.merchant, told.actor, told.versions) == ("gone", "eve", digests)
        assert set(told.aliases) == {f"{NAME}@{alias}" for alias in ("candidate", "previous", "production")}
        assert told.blobs.count == 2 + 3 + 2  # weights but one, manifests, card and catalog; others have the rest, too
        assert told.shared_blobs == 3
        assert told.local["cache"].count == 3 * 8
        assert {name: space.count for name, space in told.local.items() if name != "cache"} == {
            "checkpoints": 1,
            "indexes": 1,
            "studies": 1,
            "fleets": 1,
            "curves": 1,
            "rewrites": 2,
            "runs": 1,
            "data": 1,
            "leavings": 1,
        }
        assert told.blobs.bytes > 0
    assert planned.blobs == receipt.blobs
    assert registry.identities(watched) == {watched[3]: (1, kept.digest)}
    assert registry.versions("gone") == []
    assert registry.collect_garbage(grace=timedelta(0)).count == 0
    assert registry.verify() == []
    assert registry.fetch(kept, place.cache).digest == kept.digest
    assert len(list(place.home.rglob("*gone-not*"))) == 8
    assert holding(place.home / "cache") == holding(place.home / "blobs") == []
    if not place.blobs.startswith("memory"):
        assert holding(place.home) == []


def test_its_keys_go_and_nobody_elses(registry: Registry, place: Settings, make_bundle: MakeBundle) -> None:
    fill(registry, place, make_bundle)
    before = registry.create_key("gone", ["infer"], name=SECRET, actor="ada")
    registry.revoke_key(registry.create_key("gone", ["admin"], actor="ada").key.id, actor="ada")
    others = [registry.create_key(who, ["infer"], actor="ada") for who in ("stays", "gone-not", None)]
    assert registry.erase("gone", place, actor="eve", dry_run=True).keys == 2
    assert registry.check_key(before.token).merchant == "gone"
    receipt = registry.erase("gone", place, actor="eve")
    assert receipt.keys == 2
    assert registry.receipts("gone") == [receipt]
    with pytest.raises(KeyRefused) as caught:
        registry.check_key(before.token)
    assert caught.value.why == "unknown"
    assert [registry.check_key(other.token).key for other in others] == [other.key.id for other in others]
    assert registry.keys("gone") == []
    assert SECRET not in str(registry.audit())


def test_a_merchant_of_keys_alone_is_erased(registry: Registry, place: Settings) -> None:
    for _ in range(2):
        token = registry.create_key("gone", ["infer"], new=True, actor="ada").token
        receipt = registry.erase("gone", place, actor="eve")
        assert (receipt.keys, receipt.versions) == (1, {})
        with pytest.raises(KeyRefused):
            registry.check_key(token)
        assert registry.erase("gone", place, actor="eve") == receipt


def test_receipts_and_begun_erasures_from_before_keys_are_read(
    registry: Registry, place: Settings, make_bundle: MakeBundle
) -> None:
    fill(registry, place, make_bundle)
    receipt = registry.erase("gone", place, actor="eve")
    engine = create_engine(place.registry)
    with engine.begin() as connection:  # as an earlier release wrote them, the second one not at its end
        for row in connection.execute(text("SELECT id, action, detail FROM shopfit_audit WHERE action LIKE 'erase%'")):
            detail = {name: value for name, value in json.loads(row.detail).items() if name != "keys"}
            change = {"id": row.id, "detail": json.dumps(detail)}
            connection.execute(text("UPDATE shopfit_audit SET detail = :detail WHERE id = :id"), change)
    engine.dispose()
    assert registry.receipts("gone") == [receipt]
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM shopfit_audit WHERE action = 'erase'"))
    engine.dispose()
    registry.create_key("gone", ["infer"], new=True, actor="ada")
    receipt = registry.erase("gone", place, actor="eve")
    assert (receipt.keys, len(receipt.versions), len(receipt.ends)) == (1, 3, 2)


def test_the_receipt_is_kept_under_the_merchant(registry: Registry, place: Settings, make_bundle: MakeBundle) -> None:
    fill(registry, place, make_bundle)
    receipt = registry.erase("gone", place, actor="eve")
    begun, ended = registry.audit("gone")[-2:]
    assert (begun.actor, begun.action, begun.reference) == ("eve", "erase-begun", "gone")
    assert (ended.actor, ended.action, ended.reference) == ("eve", "erase", "gone")
    assert Receipt.from_json(ended.detail) == receipt
    assert registry.receipts("gone") == [receipt]
    assert registry.receipts("gone-not") == []
    assert SECRET not in ended.detail + begun.detail


def test_erasing_again_tells_the_receipt_again(registry: Registry, place: Settings, make_bundle: MakeBundle) -> None:
    fill(registry, place, make_bundle)
    receipt = registry.erase("gone", place, actor="eve")
    audit = registry.audit()
    assert registry.erase("gone", place, actor="bob") == receipt
    assert registry.audit() == audit
    with pytest.raises(UnknownReference, match="there is nothing of a merchant 'nobody'"):
        registry.erase("nobody", place, actor="bob")


def test_another_machine_that_served_it(durable: Settings, make_bundle: MakeBundle, tmp_path: Path) -> None:
    there = Settings(tmp_path / "there", durable.registry, durable.blobs)
    with Registry.open(durable) as registry:
        fill(registry, durable, make_bundle)
        removed = registry.publish(make_bundle("gone", seed=9), promote=False, refused="worse", actor="ada")
        for version in registry.versions("gone"):
            registry.fetch(version, there.cache)
        registry.remove(removed.name, actor="ada")
        registry.erase("gone", durable, actor="eve")
        receipt = registry.erase("gone", there, actor="eve")
        assert receipt.versions == {}
        assert receipt.local["cache"].count == 3 * 8 + 7
        assert list(there.cache.iterdir()) == []
        assert len(registry.receipts("gone")) == 2


def test_its_name_can_be_used_anew_and_numbers_never_come_back(
    registry: Registry, place: Settings, make_bundle: MakeBundle
) -> None:
    fill(registry, place, make_bundle)
    old = registry.resolve(f"{NAME}@2")
    registry.erase("gone", place, actor="eve")
    with pytest.raises(UnknownReference):
        registry.fetch(old, place.cache)
    new = registry.publish(make_bundle("gone", seed=1), promote=True, actor="ada")
    assert (new.name, new.aliases) == (f"{NAME}@4", ("production",))
    with pytest.raises(UnknownReference, match="@2 was removed"):
        registry.resolve(f"{NAME}@2")
    assert registry.verify() == []
    assert list(registry.erase("gone", place, actor="eve").versions) == [f"{NAME}@4"]


def test_blobs_of_versions_removed_before_go_too(local: Registry, settings: Settings, make_bundle: MakeBundle) -> None:
    version = local.publish(with_secret(make_bundle("gone")), promote=False, refused="worse", actor="ada")
    local.publish(make_bundle("gone", seed=1), promote=True, actor="ada")
    engine = create_engine(settings.registry)
    with engine.begin() as connection:  # as an earlier release removed it
        connection.execute(text("DELETE FROM shopfit_files WHERE number = 1"))
        connection.execute(text("DELETE FROM shopfit_versions WHERE number = 1"))
    engine.dispose()
    assert holding(settings.home)
    receipt = local.erase("gone", settings, actor="eve")
    assert receipt.orphans.count == 3  # weights, manifest, catalog
    assert holding(settings.home) == []
    assert version.name not in receipt.versions


def test_starters_that_learned_from_it_are_named(local: Registry, settings: Settings, make_bundle: MakeBundle) -> None:
    def starter(seed: int, *donors: str) -> Bundle:
        bundle = make_bundle("house", seed=seed)
        return seal(bundle.folder, bundle.manifest.model_copy(update={"donors": list(donors)}))

    local.publish(make_bundle("gone"), promote=True, actor="ada")
    local.publish(starter(1, "gone", "stays"), promote=True, actor="ada")
    local.publish(starter(2, "gone-not", "stays"), promote=True, actor="ada")
    broken = local.publish(starter(3, "stays"), promote=True, actor="ada")
    (manifest,) = (file for file in local._files(broken) if file.path == "bundle.json")
    (Path(settings.blobs) / manifest.sha256[:2] / manifest.sha256).write_bytes(b"{}")
    receipt = local.erase("gone", settings, actor="eve")
    assert receipt.starters == ("house/review-sentiment@1",)
    assert receipt.unreadable == ("house/review-sentiment@3",)
    with pytest.raises(RegistryError, match="house is no merchant"):
        local.erase("house", settings, actor="eve")


@pytest.mark.parametrize("name", ["", "../stays", "Gone", "gone\n", "gone\0", "*", "a" * 64, None, 7])
def test_a_name_that_is_none(local: Registry, settings: Settings, make_bundle: MakeBundle, name: str) -> None:
    local.publish(make_bundle("stays"), promote=True, actor="ada")
    before = files(settings.home)
    with pytest.raises(UnknownReference, match="is not the name of a merchant"):
        local.erase(name, settings, actor="eve")
    assert files(settings.home) == before


def test_a_link_in_its_place_goes_and_what_it_leads_to_stays(
    local: Registry, settings: Settings, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    local.publish(make_bundle("gone"), promote=True, actor="ada")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    (settings.home / "studies").mkdir()
    (settings.home / "studies" / "gone").symlink_to(precious)
    local.erase("gone", settings, actor="eve")
    assert (precious / "file").exists()
    assert not (settings.home / "studies" / "gone").is_symlink()


def test_a_store_that_is_another_registrys_too(settings: Settings, make_bundle: MakeBundle, tmp_path: Path) -> None:
    second = Settings(tmp_path / "second", f"sqlite:///{tmp_path}/second/registry.db", settings.blobs)
    with Registry.open(settings) as one, Registry.open(second) as two:
        one.publish(make_bundle("gone"), promote=True, actor="ada")
        assert one.collect_garbage(grace=timedelta(0)).count == 0
        two.publish(make_bundle("stays", seed=0), promote=True, actor="ada")
        refused = [
            lambda: one.collect_garbage(grace=timedelta(0)),
            lambda: one.erase("gone", settings, actor="eve"),
            lambda: two.collect_garbage(grace=timedelta(0), dry_run=True),
        ]
        for action in refused:
            with pytest.raises(RegistryError, match="is another registry's, too"):
                action()
        one.unalias("gone/review-sentiment", actor="ada")
        one.remove("gone/review-sentiment@1", actor="ada")
        assert one.verify() == two.verify() == []
        assert [version.name for version in two.versions()] == ["stays/review-sentiment@1"]


def test_killed_at_every_step(durable: Settings, make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Whatever the step: others are whole, and erasing again leaves what erasing at once leaves."""
    with Registry.open(durable) as registry:
        kept = registry.publish(make_bundle("stays", seed=1), promote=True, actor="ada")

    def erase_until(step: int) -> None:
        with Registry.open(durable) as registry:
            die_at(step, str(durable.home), also=("os.remove", "os.rmdir", "shutil.rmtree"))
            registry.erase("gone", durable, actor="eve")

    step, lived, numbers = 0, False, 0
    while not lived:
        step += 5  # odd, so that it hits both what is before and what is after a statement
        with Registry.open(durable) as registry:
            registry.publish(with_secret(make_bundle("gone", seed=1)), promote=True, actor="ada")
            registry.fetch(registry.resolve(NAME), durable.cache)
            registry.create_key("gone", ["infer"], actor="ada")
            numbers += 1
        study = durable.home / "studies" / "gone" / "1.db"
        study.parent.mkdir(parents=True, exist_ok=True)
        study.write_text(SECRET)
        lived = child(lambda: erase_until(step))  # noqa: B023 - runs at once
        with Registry.open(durable) as registry:
            assert registry.verify() == []
            assert registry.resolve(kept.name) == kept
            receipt = registry.erase("gone", durable, actor="eve")
            assert list(receipt.versions.values()) == list(dict.fromkeys(receipt.versions.values()))
            assert holding(durable.home) == []
            assert registry.versions() == [kept]
            assert registry.keys() == []
            assert registry.collect_garbage(grace=timedelta(0)).count == 0
    assert step > 30
    with Registry.open(durable) as registry:
        told = [name for receipt in registry.receipts("gone") for name in receipt.versions]
        assert told == [f"{NAME}@{number}" for number in range(1, numbers + 1)]  # each in one receipt, and none missing
        assert sum(receipt.keys for receipt in registry.receipts("gone")) == numbers


def test_what_servers_shared_of_it_goes_and_nobody_elses(
    registry: Registry, place: Settings, make_bundle: MakeBundle
) -> None:
    fill(registry, place, make_bundle)
    for name in ("gone", "stays"):
        registry.publish(make_bundle(name, seed=7), promote=True, actor="ada")
        registry.start_release(f"{name}/review-sentiment@1", kind="canary", share=0.1, actor="ada")
        registry.start_release(f"{name}/review-sentiment@1", kind="shadow", share=1, actor="ada")
        registry.put_catalog(name, [{"id": "a", "title": SECRET if name == "gone" else "Tent"}], actor="ada")
        registry.set_limits(name, Limits(concurrent=1), actor="ada")
        for day in (1, 2, 3):
            registry.add_usage({name: 5}, date(2027, 1, day))
        label = Feedback(name, "ans_1", "correction", datetime.now(UTC), value=SECRET)
        registry.add_feedback([label, label])
    planned = registry.erase("gone", place, actor="eve", dry_run=True)
    receipt = registry.erase("gone", place, actor="eve")
    counts = {"releases": 2, "catalogs": 1, "limits": 1, "usage": 3, "feedback": 2}
    assert planned.rows == receipt.rows == counts
    assert planned.blobs == receipt.blobs
    assert registry.receipts("gone") == [receipt]
    assert SECRET not in str(registry.audit())
    engine = create_engine(place.registry)
    with engine.connect() as connection:
        for table in ("releases", "catalogs", "limits", "usage", "feedback"):
            merchants = connection.execute(text(f"SELECT DISTINCT merchant FROM shopfit_{table}")).scalars()
            assert list(merchants) == ["stays"]
    engine.dispose()
    assert registry.erase("stays", place, actor="eve").rows == counts
    if not place.blobs.startswith("memory"):
        assert holding(place.home / "blobs") == []


def test_receipts_from_before_servers_shared_anything_are_read(
    registry: Registry, place: Settings, make_bundle: MakeBundle
) -> None:
    fill(registry, place, make_bundle)
    receipt = registry.erase("gone", place, actor="eve")
    engine = create_engine(place.registry)
    with engine.begin() as connection:
        for row in connection.execute(text("SELECT id, detail FROM shopfit_audit WHERE action LIKE 'erase%'")):
            detail = {name: value for name, value in json.loads(row.detail).items() if name != "rows"}
            change = {"id": row.id, "detail": json.dumps(detail)}
            connection.execute(text("UPDATE shopfit_audit SET detail = :detail WHERE id = :id"), change)
    engine.dispose()
    assert registry.receipts("gone") == [receipt]


def test_what_was_learned_from_an_erased_merchant_is_not_registered(
    registry: Registry, place: Settings, make_bundle: MakeBundle
) -> None:
    """A training that had its rows may be under way on any machine."""
    fill(registry, place, make_bundle)
    before = registry.erasures(["gone", "stays", "nobody"])
    assert before == {"gone": 0, "stays": 0, "nobody": 0}
    registry.erase("gone", place, actor="eve")
    for learned_from in (["gone"], ["stays", "gone"]):  # an adapter, and a starter of several
        known = {name: before[name] for name in learned_from}
        with pytest.raises(RegistryError, match="gone was erased while this was trained"):
            registry.publish(make_bundle("gone", seed=7), promote=True, actor="ada", erasures=known)
    assert registry.versions("gone") == []

    since = registry.erasures(["gone", "stays"])
    assert since["gone"] > since["stays"] == 0
    again = registry.publish(make_bundle("gone", seed=7), promote=True, actor="ada", erasures=since)
    assert again.name == f"{NAME}@4"
    registry.publish(make_bundle("stays", seed=7), promote=True, actor="ada", erasures={"stays": before["stays"]})
    registry.erase("gone", place, actor="eve")
    with pytest.raises(RegistryError, match="gone was erased"):  # a second erasure is another one
        registry.publish(make_bundle("gone", seed=8), promote=True, actor="ada", erasures=since)
