"""Keys as values: tokens, what a grant allows, and times of expiry."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from shopfit.errors import KeyRefused, RegistryError
from shopfit.registry import Grant
from shopfit.registry.grant import SCOPES, Scope, new_token, read_expiry, read_id, read_token


def test_tokens_are_256_random_bits_that_are_one_word() -> None:
    tokens = {new_token() for _ in range(2000)}
    assert len(tokens) == 2000
    assert len({token[:15] for token in tokens}) == 2000
    assert all(re.fullmatch(r"sf_[0-9a-z]{12}_[0-9A-Za-z]{43}", token) for token in tokens)
    assert 62**43 > 2**256 > 62**42
    for place in range(16, 58):  # every digit, everywhere but at the end, where the largest are rare
        assert len({token[place] for token in tokens}) == 62


@pytest.mark.parametrize("change", ["{}x", " {}", "{}\n", "Bearer {}", "S{}", "", "{}\0"])
def test_only_a_whole_token_is_read(change: str) -> None:
    token = new_token()
    assert read_token(token).key == read_id(token) == token[3:15]
    with pytest.raises(KeyRefused) as caught:
        read_token(change.format(token))
    assert caught.value.why == "malformed"
    assert token[16:] not in str(caught.value)
    with pytest.raises(RegistryError, match="this is not the id of a key") as told:
        read_id(change.format(token))
    assert token[16:] not in str(told.value)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_merchants_key_reaches_nobody_else(scope: Scope) -> None:
    """Whatever its scopes; and it makes no difference whether another merchant exists, since none is looked up."""
    grant = Grant("k" * 12, "acme", frozenset(SCOPES), None)
    assert grant.allows(scope, "acme")
    for other in ("acm", "acme-2", "ACME", "other", "nobody", "house", "", None):
        assert not grant.allows(scope, other)


def test_scopes_are_apart_and_admin_includes_them() -> None:
    for held in SCOPES:
        for merchant in ("acme", None):
            grant = Grant("k" * 12, merchant, frozenset({held}), None)
            for asked in SCOPES:
                assert grant.allows(asked, "acme") == (asked == held or held == "admin")
    platform = Grant("k" * 12, None, frozenset({"admin"}), None)
    assert all(platform.allows(scope, merchant) for scope in SCOPES for merchant in ("acme", "other", None))
    assert not platform.allows("root", "acme")  # type: ignore[arg-type]
    assert not Grant("k" * 12, None, frozenset(), None).allows("infer", "acme")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12h", timedelta(hours=12)),
        ("90d", timedelta(days=90)),
        ("6w", timedelta(weeks=6)),
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T18:00", datetime(2027, 1, 31, 18, tzinfo=UTC)),
        ("2027-01-31T18:00:00+02:00", datetime(2027, 1, 31, 16, tzinfo=UTC)),
        ("2027-01-31T18:00Z", datetime(2027, 1, 31, 18, tzinfo=UTC)),
    ],
)
def test_times_of_expiry(text: str, expected: datetime | timedelta) -> None:
    assert read_expiry(text) == expected


@pytest.mark.parametrize("text", ["", "90", "soon", "-1d", "1.5d", "٣d", "90 d", "9999999d", "2027-13-01", "31.1.2027"])
def test_what_is_no_time_of_expiry(text: str) -> None:
    with pytest.raises(RegistryError, match="is not a time of expiry") as caught:
        read_expiry(text)
    assert "90d" in caught.value.message
    assert caught.value.next_step
