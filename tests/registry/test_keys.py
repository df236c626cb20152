"""API keys in the registry: made, listed, revoked, checked; and where a token is never found."""

import hashlib
import logging
import pickle
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Engine, create_engine, event, text
from tests.registry.conftest import MakeBundle

from shopfit.errors import KeyRefused, RegistryError, UnknownReference
from shopfit.registry import Grant, Registry
from shopfit.settings import Settings

HASH = re.compile(r"[0-9a-f]{64}")


@contextmanager
def statements() -> Iterator[list[str]]:
    """Every statement that reaches a database meanwhile, with its parameters."""
    seen: list[str] = []

    def note(_c: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        seen.append(f"{statement} {parameters}")

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def change(place: Settings, statement: str, **values: object) -> None:
    engine = create_engine(place.registry)
    with engine.begin() as connection:
        connection.execute(text(statement), values)
    engine.dispose()


def why(registry: Registry, token: str) -> tuple[str, str | None]:
    with pytest.raises(KeyRefused) as caught:
        registry.check_key(token)
    return caught.value.why, caught.value.key


def test_a_key_is_made_listed_and_checked(registry: Registry, make_bundle: MakeBundle) -> None:
    registry.publish(make_bundle(), promote=True, actor="ada")
    issued = registry.create_key("acme", ["feedback", "infer", "infer"], name="Anna's laptop", actor="ada")
    key = issued.key
    assert (key.merchant, key.scopes, key.name, key.actor) == ("acme", ("infer", "feedback"), "Anna's laptop", "ada")
    assert (key.expires, key.revoked, key.state) == (None, None, "active")
    assert datetime.now(UTC) - timedelta(hours=1) < key.created <= datetime.now(UTC)
    assert registry.keys() == registry.keys("acme") == [key]
    assert registry.check_key(issued.token) == Grant(key.id, "acme", frozenset({"infer", "feedback"}), None)
    assert hash(registry.check_key(issued.token))


def test_keys_are_listed_the_platforms_first(registry: Registry) -> None:
    made = [
        registry.create_key(merchant, ["infer"], new=True, actor="ada").key for merchant in ("b", "a", None, "b", None)
    ]
    assert registry.keys() == [made[2], made[4], made[1], made[0], made[3]]
    assert registry.keys("b") == [made[0], made[3]]
    assert registry.keys("c") == []


def test_a_revoked_key_is_refused(registry: Registry) -> None:
    one, two = (registry.create_key(None, ["admin"], actor="ada") for _ in range(2))
    revoked = registry.revoke_key(one.key.id, actor="eve")
    assert revoked.state == "revoked"
    assert why(registry, one.token) == ("revoked", one.key.id)
    audit = registry.audit()
    assert registry.revoke_key(one.token, actor="bob") == revoked  # by the key itself, as it was found somewhere
    assert registry.audit() == audit
    assert registry.check_key(two.token).key == two.key.id
    first, second = registry.keys()
    assert (first.state, second.state) == ("revoked", "active")


def test_an_expired_key_is_refused(registry: Registry, place: Settings) -> None:
    issued = registry.create_key(None, ["infer"], expires=timedelta(days=90), actor="ada")
    assert issued.key.expires is not None
    assert timedelta(days=89) < issued.key.expires - datetime.now(UTC) <= timedelta(days=90)
    assert registry.check_key(issued.token).expires == issued.key.expires
    change(place, "UPDATE shopfit_keys SET expires = :then", then=datetime.now(UTC) - timedelta(seconds=1))
    assert why(registry, issued.token) == ("expired", issued.key.id)
    assert registry.keys()[0].state == "expired"
    registry.revoke_key(issued.key.id, actor="ada")
    assert why(registry, issued.token) == ("revoked", issued.key.id)


def test_expiry_at_a_time_in_any_zone(registry: Registry) -> None:
    there = datetime(2101, 1, 31, 1, tzinfo=timezone(timedelta(hours=2)))
    assert registry.create_key(None, ["infer"], expires=there, actor="ada").key.expires == there
    assert registry.keys()[0].expires == datetime(2101, 1, 30, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    "expires",
    [
        datetime(2101, 1, 31),
        datetime(2020, 1, 31, tzinfo=UTC),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
        timedelta(0),
        timedelta(days=-1),
        timedelta.max,
        "90d",
    ],
)
def test_a_time_of_expiry_that_cannot_be(local: Registry, expires: datetime) -> None:
    with pytest.raises(RegistryError, match=r"expires is .*allowed: a time to come"):
        local.create_key(None, ["infer"], expires=expires, actor="ada")
    assert local.keys() == []


def test_what_is_refused_tells_its_caller_one_thing(registry: Registry, place: Settings) -> None:
    """Malformed, unknown, a wrong secret, expired and revoked: why is told to the platform's logs alone."""
    revoked, expired, valid = (registry.create_key(None, ["infer"], actor="ada") for _ in range(3))
    registry.revoke_key(revoked.key.id, actor="ada")
    change(
        place,
        "UPDATE shopfit_keys SET expires = :then WHERE id = :id",
        then=datetime.now(UTC) - timedelta(days=1),
        id=expired.key.id,
    )
    unknown, wrong = f"sf_{'0' * 12}_{'A' * 43}", f"{revoked.token[:-1]}{'A' if revoked.token[-1] != 'A' else 'B'}"
    told, reasons = set(), []
    for token in ("sf_", unknown, wrong, revoked.token, expired.token):
        with pytest.raises(KeyRefused) as caught:
            registry.check_key(token)
        error = caught.value
        told.add((str(error), repr(error), error.message, error.next_step, error.problems, error.exit_code))
        reasons.append((error.why, error.key))
    assert len(told) == 1
    # that a key is revoked or expired is known only to who has all of it
    assert reasons == [
        ("malformed", None),
        ("unknown", None),
        ("unknown", None),
        ("revoked", revoked.key.id),
        ("expired", expired.key.id),
    ]
    assert registry.check_key(valid.token)


def test_a_check_takes_the_same_statements_whatever_comes_of_it(registry: Registry) -> None:
    """And none of them has the token or its hash in it, so that no index or log can tell of either."""
    valid, revoked = (registry.create_key(None, ["infer"], actor="ada") for _ in range(2))
    registry.revoke_key(revoked.key.id, actor="ada")
    wrong = f"sf_{valid.key.id}_{'A' * 43}"
    registry.check_key(valid.token)  # connected
    seen = []
    for token in (valid.token, revoked.token, wrong, f"sf_{'0' * 12}_{'A' * 43}"):
        with statements() as ran, suppress(KeyRefused):
            registry.check_key(token)
        assert not any(token[16:] in one or hashlib.sha256(token.encode()).hexdigest() in one for one in ran)
        assert not any(word in one.upper() for one in ran for word in ("UPDATE", "INSERT"))
        seen.append([one.replace(token[3:15], "<id>") for one in ran])
    assert seen[0] == seen[1] == seen[2] == seen[3] != []


def test_a_token_is_shown_once_and_kept_nowhere(
    registry: Registry, place: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with statements() as ran:
        issued = registry.create_key("acme", ["admin"], new=True, name="laptop", actor="ada")
        registry.check_key(issued.token)
        registry.revoke_key(issued.token, actor="ada")
        with pytest.raises(KeyRefused) as refused:
            registry.check_key(issued.token)
        with pytest.raises(RegistryError) as unreadable:
            registry.revoke_key(issued.token + "x", actor="ada")
    secret, sha256 = issued.token[16:], hashlib.sha256(issued.token.encode()).hexdigest()
    engine = create_engine(place.registry)
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT sha256 FROM shopfit_keys")).scalar_one()
        everything = [
            repr(connection.execute(text(f"SELECT * FROM {table}")).all())
            for table in ("shopfit_keys", "shopfit_audit")
        ]
    engine.dispose()
    assert kept == sha256
    told = [repr(issued), str(issued), repr(registry.keys()), repr(registry.audit()), caplog.text]
    for error in (refused.value, unreadable.value):
        told += [*traceback.format_exception(error), repr(pickle.dumps(error.args)), repr(vars(error))]
    for one in told:
        assert secret not in one
        assert sha256 not in one
    for one in [*ran, *everything]:
        assert secret not in one
    if place.registry.startswith("sqlite"):
        assert not any(secret.encode() in path.read_bytes() for path in place.home.glob("registry.db*"))


def test_no_failure_and_no_log_of_statements_has_a_hash(place: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sqlalchemy.engine"), Registry.open(place) as registry:
        issued = registry.create_key(None, ["infer"], actor="ada")
        registry.check_key(issued.token)
        change(place, "ALTER TABLE shopfit_keys RENAME COLUMN scopes TO elsewhere")
        for refused in (
            lambda: registry.create_key(None, ["infer"], actor="ada"),
            lambda: registry.check_key(issued.token),
        ):
            with pytest.raises(RegistryError) as caught:
                refused()
            assert not HASH.search("".join(traceback.format_exception(caught.value)))
    assert "INSERT INTO shopfit_keys" in caplog.text
    assert not HASH.search(caplog.text)
    assert issued.token[16:] not in caplog.text


def test_making_and_revoking_are_audited(registry: Registry) -> None:
    ours = registry.create_key(None, ["admin"], name="Anna", actor="ada").key
    expires = datetime(2101, 1, 31, tzinfo=UTC)
    theirs = registry.create_key("acme", ["infer", "feedback"], expires=expires, name="Bob", new=True, actor="bob").key
    registry.revoke_key(theirs.id, actor="eve")
    assert [(one.actor, one.action, one.reference, one.detail) for one in registry.audit()] == [
        ("ada", "key-create", "", f"key {ours.id}: admin; until revoked"),
        ("bob", "key-create", "acme", f"key {theirs.id}: infer, feedback; until 2101-01-31T00:00:00+00:00"),
        ("eve", "key-revoke", "acme", f"key {theirs.id}"),
    ]
    assert len(registry.audit("acme")) == 2


def test_a_merchant_of_which_there_is_nothing(registry: Registry, place: Settings, make_bundle: MakeBundle) -> None:
    """A mistyped name may come to be somebody's."""
    registry.publish(make_bundle(), promote=True, actor="ada")
    registry.publish(make_bundle("house"), promote=True, actor="ada")
    with pytest.raises(
        UnknownReference, match="nothing of a merchant 'acmee' in the registry; did you mean 'acme'"
    ) as caught:
        registry.create_key("acmee", ["infer"], actor="ada")
    assert "--new" in caught.value.next_step
    for new in (True, False):  # the second time there is a key of it
        registry.create_key("soon-there", ["publish"], new=new, actor="ada")
    with pytest.raises(RegistryError, match="house is no merchant"):
        registry.create_key("house", ["infer"], new=True, actor="ada")
    registry.erase("acme", place, actor="ada")
    with pytest.raises(UnknownReference, match="nothing of a merchant 'acme'"):
        registry.create_key("acme", ["infer"], actor="ada")
    assert registry.keys("acme") == []


def test_scopes_that_are_none(local: Registry) -> None:
    with pytest.raises(RegistryError, match="a scope is 'infr'; did you mean 'infer'"):
        local.create_key(None, ["admin", "infr"], actor="ada")
    with pytest.raises(RegistryError, match="a key has no scopes"):
        local.create_key(None, [], actor="ada")
    with pytest.raises(RegistryError, match="name is"):
        local.create_key(None, ["infer"], name="two\nlines", actor="ada")
    assert local.keys() == local.audit() == []


def test_a_key_that_is_not_there(registry: Registry) -> None:
    key = registry.create_key(None, ["infer"], actor="ada").key
    near = key.id[:-1] + ("a" if key.id[-1] != "a" else "b")
    with pytest.raises(UnknownReference, match=f"there is no key '{near}'; did you mean '{key.id}'"):
        registry.revoke_key(near, actor="ada")
    assert len(registry.audit()) == 1


def test_garbage_and_verification_leave_keys_alone(registry: Registry, make_bundle: MakeBundle) -> None:
    token = registry.create_key(None, ["infer"], actor="ada").token  # its entry is the first of the audit
    registry.publish(make_bundle(), promote=True, actor="ada")
    assert registry.verify() == []
    assert registry.collect_garbage(grace=timedelta(0)).count == 0
    assert registry.check_key(token)
