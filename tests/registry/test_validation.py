"""What is no reference, name, actor or time is refused in the registry's words, on every database."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.registry.conftest import MakeBundle

from shopfit.adapter.bundle import Manifest, seal
from shopfit.errors import BundleError, DataError, KeyRefused, RegistryError, ShopfitError, UnknownReference
from shopfit.registry import Limits, Reference, Registry, Version
from shopfit.settings import Settings

NAME = "acme/review-sentiment"
ITEMS = [{"id": "a", "title": "Tent"}]
HOSTILE: list[Any] = [
    None,
    True,
    0,
    -1,
    10**5000,
    1.5,
    float("nan"),
    b"acme/r",
    [],
    {},
    object(),
    "",
    "\0",
    "acme\0",
    "acme/r\0",
    "\ud800",
    "acme/\udcff@1",
    "acme/r@99999999999999999999",
    "acme/r@-1",
    "acme/r@1e3",
    "a" * 100_000,
    "'; DROP TABLE shopfit_versions; --",
    "%",
    "[/x]",
    timedelta.max,
    timedelta.min,
    Reference,
]


def calls(registry: Registry, place: Settings, version: Version, value: Any) -> dict[str, Callable[[], Any]]:
    return {
        "resolve": lambda: registry.resolve(value),
        "identities": lambda: registry.identities([value]),
        "versions": lambda: registry.versions(value if value is not None else 0),
        "versions of a recipe": lambda: registry.versions("acme", value if value is not None else 0),
        "fetch": lambda: registry.fetch(value, place.cache),
        "fetch to": lambda: registry.fetch(version, value),
        "read": lambda: registry.read(value, set),
        "manifest": lambda: registry.manifest(value),
        "promote": lambda: registry.promote(value, actor="ada"),
        "promote as": lambda: registry.promote(NAME, alias=value, actor="ada"),
        "rollback": lambda: registry.rollback(value, actor="ada"),
        "unalias": lambda: registry.unalias(value, actor="ada"),
        "remove": lambda: registry.remove(value, actor="ada"),
        "erase": lambda: registry.erase(value, place, actor="ada"),
        "verify": lambda: registry.verify(value if value is not None else 0),
        "audit": lambda: registry.audit(value if value is not None else 0),
        "receipts": lambda: registry.receipts(value),
        "create_key": lambda: registry.create_key(value if value is not None else 0, ["infer"], actor="ada"),
        "create_key for": lambda: registry.create_key("acme", [value], actor="ada"),
        "create_key with": lambda: registry.create_key("acme", value, actor="ada"),
        "create_key until": lambda: registry.create_key(
            "acme", ["infer"], expires=value if value is not None else 0, actor="ada"
        ),
        "revoke_key": lambda: registry.revoke_key(value, actor="ada"),
        "keys": lambda: registry.keys(value if value is not None else 0),
        "check_key": lambda: registry.check_key(value),
        "publish": lambda: registry.publish(value, promote=True, actor="ada"),
        "start_release": lambda: registry.start_release(value, kind="canary", share=0.1, actor="ada"),
        "start_release as": lambda: registry.start_release(NAME, kind=value, share=0.1, actor="ada"),
        "start_release for": lambda: registry.start_release(NAME, kind="canary", share=value, actor="ada"),
        "end_release": lambda: registry.end_release(value, kind="canary", actor="ada"),
        "end_release of": lambda: registry.end_release(NAME, kind=value, actor="ada"),
        "releases": lambda: registry.releases(value if value is not None else 0),
        "set_limits": lambda: registry.set_limits(value, Limits(concurrent=1), actor="ada"),
        "set_limits to": lambda: registry.set_limits("acme", value, actor="ada"),
        "add_usage": lambda: registry.add_usage({value if not isinstance(value, list | dict) else 0: 1}, date.max),
        "add_usage of": lambda: registry.add_usage({"acme": value if value != 0 else -1}, date.max),
        "add_usage on": lambda: registry.add_usage({"acme": 1}, value),
        "usage": lambda: registry.usage(value),
        "put_catalog": lambda: registry.put_catalog(value, ITEMS, actor="ada"),
        "put_catalog of": lambda: registry.put_catalog("acme", value, actor="ada"),
        "put_catalog of items": lambda: registry.put_catalog("acme", [value], actor="ada"),
        "patch_catalog": lambda: registry.patch_catalog(value, {"a": None}, actor="ada"),
        "patch_catalog with": lambda: registry.patch_catalog("acme", value, actor="ada"),
        "patch_catalog of": lambda: registry.patch_catalog("acme", {"a": value}, actor="ada"),
        "catalog": lambda: registry.catalog(value),
        "stored_catalog": lambda: registry.stored_catalog(value),
        "drop_catalog": lambda: registry.drop_catalog(value, actor="ada"),
        "add_feedback": lambda: registry.add_feedback(value if value != [] else None),
        "add_feedback of": lambda: registry.add_feedback([value]),
        "feedback": lambda: registry.feedback(value),
        "feedback since": lambda: registry.feedback("acme", value if value is not None else 0),
    }


def refusal(call: Callable[[], Any]) -> ShopfitError | None:
    try:
        call()
    except (UnknownReference, RegistryError, KeyRefused, DataError) as error:
        return error
    return None


def test_every_method_refuses_what_it_cannot_take(
    registry: Registry, place: Settings, make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    version = registry.publish(make_bundle(), promote=True, actor="ada")
    audit = registry.audit()
    for value in HOSTILE:
        for name, call in calls(registry, place, version, value).items():
            error = refusal(call)
            if error is None:  # a folder may be called almost anything
                assert (name, type(value), bool(value)) == ("fetch to", str, True)
            else:
                assert error.next_step
                assert len(error.message) < 5000
                error.message.encode()
    assert registry.audit() == audit


@pytest.mark.parametrize(
    "actor", [None, 7, b"ada", "", "a\0", "ada\n", "\x1b[31mada", "\ud800", "a" * 201, "\u2028", ["ada"]]
)
def test_an_actor_that_cannot_be_kept(registry: Registry, place: Settings, make_bundle: MakeBundle, actor: Any) -> None:
    bundle = make_bundle()
    registry.publish(bundle, promote=True, actor="ada")
    registry.publish(bundle, promote=True, actor="Ada Lovelace, 王 (uid 7)")
    changes: list[Callable[[], Any]] = [
        lambda: registry.publish(bundle, promote=True, actor=actor),
        lambda: registry.promote(f"{NAME}@1", actor=actor),
        lambda: registry.rollback(NAME, actor=actor),
        lambda: registry.unalias(NAME, actor=actor),
        lambda: registry.remove(f"{NAME}@1", actor=actor),
        lambda: registry.erase("acme", place, actor=actor),
        lambda: registry.create_key("acme", ["infer"], actor=actor),
        lambda: registry.revoke_key("0" * 12, actor=actor),
    ]
    for change in changes:
        with pytest.raises(RegistryError, match=r"actor is .*allowed: 1-200 characters"):
            change()
    assert len(registry.audit()) == 4


@pytest.mark.parametrize("reason", [7, b"worse", "", "worse\0", "\udfff", "\x1b]0;x\x07", "x" * 10_001])
def test_a_reason_that_cannot_be_kept(registry: Registry, make_bundle: MakeBundle, reason: Any) -> None:
    with pytest.raises(RegistryError, match=r"refused is .*allowed: 1-10000 characters"):
        registry.publish(make_bundle(), refused=reason, promote=False, actor="ada")
    assert registry.versions() == []


def test_what_only_counts_as_true(registry: Registry, make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    with pytest.raises(RegistryError, match="promote is 'no'"):
        registry.publish(bundle, promote="no", actor="ada")
    registry.publish(bundle, promote=False, actor="ada")
    with pytest.raises(RegistryError, match="force is 1"):
        registry.promote(f"{NAME}@1", force=1, actor="ada")


@pytest.mark.parametrize("grace", [timedelta(-1), timedelta.min, 5, None, "day"])
def test_a_grace_that_is_none(local: Registry, grace: Any) -> None:
    with pytest.raises(RegistryError, match="grace is"):
        local.collect_garbage(grace=grace)


@pytest.mark.parametrize("patience", [-1, float("nan"), "long", None, True])
def test_a_patience_that_is_none(durable: Settings, patience: Any) -> None:
    with pytest.raises(RegistryError, match="patience is"):
        Registry.open(durable, patience=patience)


def test_patience_without_end(durable: Settings) -> None:
    for patience in (10**9, float("inf"), 10**400):
        with Registry.open(durable, patience=patience) as registry:
            assert registry.versions() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "[/x]"}, r"method: '\[/x\]' \(allowed: lora, adalora, prefix\)"),
        ({"method": ""}, "method: ''"),
        ({"method": "lora\0"}, r"method: 'lora\\x00'"),
        ({"rank": 0}, r"rank: 0 \(allowed: 1 to"),
        ({"rank": -(10**30)}, "rank: -1000"),
        ({"rank": 2**31}, "rank: 2147483648"),
        ({"metrics": {"auc": float("inf")}}, r"metrics.auc: inf \(allowed: finite numbers\)"),
        ({"base": {"name": "b\n", "fingerprint": "f"}}, r"base.name: 'b\\n'"),
        ({"merchant": "a" * 64}, "merchant: 'aaa"),
    ],
)
def test_a_manifest_that_no_list_could_show(
    registry: Registry, make_bundle: MakeBundle, change: dict[str, Any], message: str
) -> None:
    bundle = make_bundle()
    if isinstance(base := change.get("base"), dict):
        change = {"base": bundle.manifest.base.model_copy(update=base)}
    path = bundle.folder / "bundle.json"
    written = seal(bundle.folder, Manifest.model_copy(bundle.manifest, update=change))
    path.write_text(path.read_text().replace('"auc": null', '"auc": Infinity'))
    with pytest.raises(BundleError, match=message):
        registry.publish(written, promote=True, actor="ada")
    assert registry.versions() == registry.audit() == []


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(), st.binary(), st.integers(), st.floats(), st.none(), st.lists(st.text())))
def test_a_reference_is_one_or_is_refused(local: Registry, value: Any) -> None:
    for ask in (Reference.parse, local.resolve, local.audit, lambda value: Reference("acme", "r", value)):
        try:
            ask(value)
        except UnknownReference as error:
            str(error).encode()


def test_a_version_made_by_hand(registry: Registry, place: Settings, make_bundle: MakeBundle) -> None:
    version = registry.publish(make_bundle(), promote=True, actor="ada")
    for change in (
        {"merchant": "a\0"},
        {"number": "1"},
        {"number": 10**30},
        {"digest": "x"},
        {"digest": "0" * 64},
        {"recipe": "../x"},
    ):
        with pytest.raises((UnknownReference, RegistryError)):
            registry.fetch(replace(version, **change), place.cache)  # type: ignore[arg-type]
