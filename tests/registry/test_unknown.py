import pytest
from tests.registry.conftest import MakeBundle
from tests.registry.test_keys import statements

from shopfit.errors import UnknownReference, UnknownVersion
from shopfit.registry import AliasCache, Reference, Registry


@pytest.fixture
def shop(local: Registry, make_bundle: MakeBundle) -> Registry:
    """acme has reviews (@1 in production, @2 refused) and intents; acme-labs, a stranger, has secrets."""
    local.publish(make_bundle("acme", "review-sentiment"), promote=True, actor="ada")
    local.publish(make_bundle("acme", "review-sentiment", seed=1), promote=False, refused="worse", actor="ada")
    local.publish(make_bundle("acme", "intents"), promote=False, actor="ada")
    local.publish(make_bundle("acme-labs", "secret-project"), promote=True, actor="eve")
    return local


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "acme/review-sentiment@9",
            "acme/review-sentiment@9 does not exist: there is @2 (refused), @1, @production (1)",
        ),
        (
            "acme/review-sentiment@prodction",
            "acme/review-sentiment@prodction does not exist: did you mean @production? "
            "there is @2 (refused), @1, @production (1)",
        ),
        ("acme/intents", "acme/intents@production does not exist: there is @1, @candidate (1)"),
        ("acme/review-sentimnt@1", "acme/review-sentimnt@1 does not exist: did you mean acme/review-sentiment?"),
        ("acme/zzz", "acme/zzz@production does not exist: there is acme/intents, acme/review-sentiment"),
        (
            "acme/secret-projekt",
            "acme/secret-projekt@production does not exist: there is acme/intents, acme/review-sentiment",
        ),
        ("acm/review-sentiment", "acm/review-sentiment@production does not exist: the merchant 'acm' has no versions"),
        (
            "acme-lab/secret-project",
            "acme-lab/secret-project@production does not exist: the merchant 'acme-lab' has no versions",
        ),
    ],
)
def test_what_there_is_instead(shop: Registry, reference: str, message: str) -> None:
    with pytest.raises(UnknownReference) as caught:
        shop.resolve(reference)
    assert caught.value.message == message
    assert "shopfit registry ls" in caught.value.next_step


@pytest.mark.parametrize("reference", ["acme/review-sentiment@9", "acme/review-sentiment@candidat"])
def test_the_versions_there_are_come_with_the_error_and_are_remembered(shop: Registry, reference: str) -> None:
    cache, parsed = AliasCache(shop), Reference.parse(reference)
    for ask in (cache.resolve, cache.known):
        with pytest.raises(UnknownVersion) as caught, statements() as ran:
            ask(parsed)
        assert caught.value.versions == ("@1", "@2 (refused)")
    assert ran == []
    cache.close()


def test_an_adapter_that_is_not_there_has_no_versions(shop: Registry) -> None:
    with pytest.raises(UnknownReference) as caught:
        shop.resolve("acme/secret-project@1")
    assert type(caught.value) is UnknownReference


def test_a_candidate_is_named_where_nothing_is_promoted(shop: Registry) -> None:
    with pytest.raises(UnknownReference) as caught:
        shop.resolve("acme/intents")
    assert "acme/intents@candidate" in caught.value.next_step
    assert "shopfit registry promote acme/intents@1`" in caught.value.next_step
    with pytest.raises(UnknownReference) as caught:
        shop.resolve("acme/intents@previous")
    assert "promote" not in caught.value.next_step


def test_what_can_be_done_where_nothing_is_in_production(shop: Registry, make_bundle: MakeBundle) -> None:
    shop.publish(make_bundle("acme", "refused"), promote=False, refused="worse", actor="ada")
    with pytest.raises(UnknownReference) as caught:
        shop.resolve("acme/refused")
    assert "the gate refused every version" in caught.value.next_step
    assert "`shopfit registry promote acme/refused@1 --force`" in caught.value.next_step
    assert shop.promote("acme/refused@1", actor="ada", force=True).number == 1
    shop.unalias("acme/intents@candidate", actor="ada")
    with pytest.raises(UnknownReference) as caught:
        shop.resolve("acme/intents")
    assert "`shopfit registry promote acme/intents@1`" in caught.value.next_step


@pytest.mark.parametrize(
    "reference", ["acme/nothing", "acme/secret-project", "acm/x", "acme-lab/secret-project@3", "a/b"]
)
def test_no_other_merchants_names(shop: Registry, reference: str) -> None:
    with pytest.raises(UnknownReference) as caught:
        shop.resolve(reference)
    told = str(caught.value).replace(reference, "")
    assert "acme-labs" not in told
    assert "secret-project" not in told


def test_a_long_history_is_not_listed_in_full(local: Registry, make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    for _ in range(23):
        local.publish(bundle, promote=False, actor="ada")
    with pytest.raises(UnknownReference, match=r"there is @23, @22, .*, @4 and 3 more, @candidate \(23\)"):
        local.resolve("acme/review-sentiment")
