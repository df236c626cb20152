"""Canaries and shadows: who gets what part of the traffic, until when, and what they forbid."""

import json

import pytest
from tests.registry.conftest import MakeBundle

from shopfit.errors import RegistryError, UnknownReference
from shopfit.registry import Registry, Release
from shopfit.settings import Settings

NAME = "acme/review-sentiment"


@pytest.fixture
def filled(registry: Registry, make_bundle: MakeBundle) -> Registry:
    """acme has @1 as @production, @2 as @candidate, and @3, which the gate refused."""
    registry.publish(make_bundle(), promote=True, actor="ada")
    registry.publish(make_bundle(seed=1), promote=False, actor="ada")
    registry.publish(make_bundle(seed=2), promote=False, refused="worse", actor="ada")
    return registry


def start(registry: Registry, reference: str = f"{NAME}@2", kind: str = "canary", share: float = 0.1) -> Release:
    return registry.start_release(reference, kind=kind, share=share, actor="ada")


def test_a_canary_and_a_shadow(filled: Registry) -> None:
    digest = filled.resolve(f"{NAME}@2").digest
    canary = start(filled, f"{NAME}@candidate")
    assert canary == Release("acme", "review-sentiment", "canary", 2, digest, 0.1)
    assert canary.name == f"{NAME}@2"
    shadow = start(filled, kind="shadow", share=1)
    assert filled.releases() == filled.releases("acme") == [canary, shadow]
    assert filled.releases("other") == []
    assert filled.end_release(NAME, kind="canary", actor="eve") == canary
    assert filled.releases() == [shadow]
    told = [(one.actor, one.action, one.reference, one.detail) for one in filled.audit("acme")[-3:]]
    assert told == [
        ("ada", "release", f"{NAME}@2", "canary, share 0.1"),
        ("ada", "release", f"{NAME}@2", "shadow, share 1"),
        ("eve", "release-end", f"{NAME}@2", "canary"),
    ]


def test_starting_again_replaces(filled: Registry, make_bundle: MakeBundle) -> None:
    start(filled)
    filled.publish(make_bundle(seed=5), promote=False, actor="ada")
    changed = start(filled, f"{NAME}@4", share=0.5)
    assert filled.releases() == [changed]
    assert (changed.number, changed.share) == (4, 0.5)
    assert start(filled, f"{NAME}@4", share=0.7).share == 0.7
    assert filled.remove(f"{NAME}@2", actor="ada").number == 2  # @candidate moved on, and so did the canary


def test_each_merchant_has_its_own(filled: Registry, make_bundle: MakeBundle) -> None:
    for seed in range(2):
        filled.publish(make_bundle("other", seed=seed), promote=seed == 0, actor="ada")
    ours, theirs = start(filled), start(filled, "other/review-sentiment@2", share=0.9)
    assert filled.releases() == [ours, theirs]
    filled.end_release(NAME, kind="canary", actor="ada")
    assert filled.releases() == filled.releases("other") == [theirs]


def test_promoting_it_ends_it(filled: Registry, make_bundle: MakeBundle) -> None:
    start(filled)
    start(filled, kind="shadow")
    filled.publish(make_bundle(seed=5), promote=True, actor="ada")  # another one: both stay beside it
    assert [release.kind for release in filled.releases()] == ["canary", "shadow"]
    filled.promote(f"{NAME}@2", actor="bob")
    assert filled.releases() == []
    ends = [(one.actor, one.detail) for one in filled.audit("acme") if one.action == "release-end"]
    assert ends == [("bob", "canary; in production"), ("bob", "shadow; in production")]


def test_rolling_back_to_it_ends_it(filled: Registry) -> None:
    filled.promote(f"{NAME}@2", actor="ada")
    start(filled, f"{NAME}@1")
    assert filled.rollback(NAME, actor="ada").number == 1
    assert filled.releases() == []


def test_moving_another_alias_changes_nothing(filled: Registry) -> None:
    canary = start(filled, f"{NAME}@candidate")
    filled.promote(f"{NAME}@1", alias="candidate", actor="ada")
    filled.promote(f"{NAME}@2", alias="canary", actor="ada")
    assert filled.releases() == [canary]


def test_without_anything_in_production_nothing_is_beside_it(filled: Registry) -> None:
    start(filled)
    filled.unalias(f"{NAME}@production", actor="ada")
    assert filled.releases() == []
    with pytest.raises(RegistryError, match=f"{NAME} has no @production that {NAME}@2 could be beside") as caught:
        start(filled)
    assert f"shopfit registry promote {NAME}@2" in caught.value.next_step


def test_what_gets_traffic_cannot_be_removed(filled: Registry) -> None:
    start(filled)
    start(filled, kind="shadow")
    filled.unalias(f"{NAME}@candidate", actor="ada")
    with pytest.raises(RegistryError, match=f"{NAME}@2 cannot be removed: it is the canary and the shadow") as caught:
        filled.remove(f"{NAME}@2", actor="ada")
    for kind in ("canary", "shadow"):
        assert f"`shopfit release end {NAME} {kind}`" in caught.value.next_step
    for kind in ("canary", "shadow"):
        filled.end_release(NAME, kind=kind, actor="ada")
    assert filled.remove(f"{NAME}@2", actor="ada").number == 2


@pytest.mark.parametrize(
    ("reference", "error", "said"),
    [
        (f"{NAME}@1", RegistryError, "is @production, and gets all of the traffic"),
        (NAME, RegistryError, "is @production, and gets all of the traffic"),
        (f"{NAME}@3", RegistryError, "was refused by the gate, and gets no traffic: worse"),
        (f"{NAME}@9", UnknownReference, "@9 does not exist"),
        ("other/review-sentiment@1", UnknownReference, "does not exist"),
        ("../x", UnknownReference, "is not a reference"),
    ],
)
def test_versions_that_get_no_traffic(filled: Registry, reference: str, error: type[Exception], said: str) -> None:
    audit = filled.audit()
    with pytest.raises(error, match=said) as caught:
        start(filled, reference)
    assert caught.value.next_step
    assert (filled.releases(), filled.audit()) == ([], audit)


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan"), float("inf"), True, "1", None, [1]])
def test_shares_that_are_none(filled: Registry, share: float) -> None:
    with pytest.raises(RegistryError, match=r"share is .*allowed: above 0, at most 1"):
        start(filled, share=share)
    assert filled.releases() == []


@pytest.mark.parametrize("kind", ["Canary", "blue-green", "", None, 1, ["canary"]])
def test_kinds_that_are_none(filled: Registry, kind: str) -> None:
    for call in (lambda: start(filled, kind=kind), lambda: filled.end_release(NAME, kind=kind, actor="ada")):
        with pytest.raises(RegistryError, match=r"kind is .*allowed: canary or shadow"):
            call()


def test_a_release_that_is_not_there(filled: Registry) -> None:
    with pytest.raises(UnknownReference, match=f"{NAME} has no shadow") as caught:
        filled.end_release(NAME, kind="shadow", actor="ada")
    assert "shopfit release ls" in caught.value.next_step
    with pytest.raises(RegistryError, match=f"a release is of {NAME}, not of {NAME}@2"):
        filled.end_release(f"{NAME}@2", kind="shadow", actor="ada")


def test_erasing_the_merchant_ends_them(filled: Registry, place: Settings, make_bundle: MakeBundle) -> None:
    for seed in range(2):
        filled.publish(make_bundle("other", seed=seed), promote=seed == 0, actor="ada")
    theirs = start(filled, "other/review-sentiment@2")
    start(filled)
    receipt = filled.erase("acme", place, actor="eve")
    assert receipt.rows == {"releases": 1}
    assert json.loads(receipt.to_json())["rows"] == {"releases": 1}
    assert filled.receipts("acme") == [receipt]
    assert filled.releases() == [theirs]
