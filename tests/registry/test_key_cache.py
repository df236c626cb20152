"""The cache of keys: what it answers from memory, for how long, and what a flood costs."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from tests.registry.conftest import at_once
from tests.registry.test_keys import change, statements

from shopfit.errors import KeyRefused, RegistryError
from shopfit.registry import KeyCache, Registry
from shopfit.settings import Settings


def why(cache: KeyCache, token: str) -> str:
    with pytest.raises(KeyRefused) as caught:
        cache.check(token)
    return caught.value.why


def test_a_valid_key_is_looked_up_once_a_second(registry: Registry) -> None:
    issued = registry.create_key(None, ["infer"], actor="ada")
    cache = KeyCache(registry)
    begun = time.monotonic()
    with statements() as ran:
        for _ in range(1000):
            assert cache.check(issued.token).key == issued.key.id
    looked_up = sum("shopfit_keys" in one for one in ran)
    assert 1 <= looked_up <= 1 + (time.monotonic() - begun)  # however slow this machine is


def test_a_revoked_key_is_refused_after_a_second(registry: Registry) -> None:
    issued = registry.create_key("acme", ["infer"], new=True, actor="ada")
    cache = KeyCache(registry)
    cache.check(issued.token)
    registry.revoke_key(issued.key.id, actor="eve")
    time.sleep(1.0)
    assert why(cache, issued.token) == "revoked"
    assert len(cache) == 0


def test_changes_and_erasures_take_a_second_at_most(registry: Registry, place: Settings) -> None:
    issued, erased = (registry.create_key(who, ["infer"], new=True, actor="ada") for who in ("acme", "gone"))
    cache = KeyCache(registry)
    assert [cache.check(one.token).merchant for one in (issued, erased)] == ["acme", "gone"]
    change(place, "UPDATE shopfit_keys SET scopes = '[\"feedback\"]'")
    registry.erase("gone", place, actor="eve")
    time.sleep(1.0)
    assert cache.check(issued.token).scopes == {"feedback"}
    assert why(cache, erased.token) == "unknown"


def test_a_key_ends_when_it_expires_also_in_memory(registry: Registry) -> None:
    expires = datetime.now(UTC) + timedelta(seconds=1.5)
    issued = registry.create_key(None, ["infer"], expires=expires, actor="ada")
    cache = KeyCache(registry)
    while datetime.now(UTC) < expires:
        try:
            cache.check(issued.token)
        except KeyRefused:
            assert datetime.now(UTC) >= expires
        time.sleep(0.01)
    assert why(cache, issued.token) == "expired"


def test_without_a_memory_every_check_asks(registry: Registry) -> None:
    issued = registry.create_key(None, ["infer"], actor="ada")
    cache = KeyCache(registry, seconds=0)
    cache.check(issued.token)
    registry.revoke_key(issued.key.id, actor="eve")
    assert why(cache, issued.token) == "revoked"


def test_a_wrong_secret_is_refused_and_the_right_one_stays(registry: Registry) -> None:
    """Also where the id is in memory: it takes the look-up that an unknown key takes."""
    issued = registry.create_key(None, ["infer"], actor="ada")
    cache = KeyCache(registry)
    cache.check(issued.token)
    for token in (f"sf_{issued.key.id}_{'A' * 43}", f"sf_{'0' * 12}_{'A' * 43}"):
        with statements() as ran:
            assert why(cache, token) == "unknown"
        assert sum("shopfit_keys" in one for one in ran) == 1
    assert len(cache) == 1


def test_a_flood_of_unknown_keys_takes_no_memory(local: Registry) -> None:
    issued = local.create_key(None, ["infer"], actor="ada")
    cache = KeyCache(local, size=4)
    cache.check(issued.token)
    for number in range(100_000):  # most are not even looked up
        whole = number % 100 == 0
        assert why(cache, f"sf_{number:012}_{number:0{43 if whole else 42}}") == ("unknown" if whole else "malformed")
    assert len(cache) == 1
    for _ in range(10):
        cache.check(local.create_key(None, ["infer"], actor="ada").token)
    assert len(cache) == 4


def test_threads_get_their_own(durable: Settings) -> None:
    with Registry.open(durable) as registry:
        made = [registry.create_key(f"m{number}", ["infer"], new=True, actor="ada") for number in range(8)]
        cache = KeyCache(registry, seconds=0.02, size=4)  # so that they push each other out

        def ask(turn: int) -> None:
            for number in range(200):
                one = made[(turn + number) % 8]
                grant = cache.check(one.token)
                assert (grant.key, grant.merchant) == (one.key.id, one.key.merchant)

        at_once(8, ask)
        assert len(cache) <= 4


def test_a_registry_that_cannot_be_read_vouches_for_nothing(local: Registry, settings: Settings) -> None:
    issued = local.create_key(None, ["infer"], actor="ada")
    cache = KeyCache(local, seconds=0)
    cache.check(issued.token)
    change(settings, "ALTER TABLE shopfit_keys RENAME TO elsewhere")
    with pytest.raises(RegistryError, match="no such table") as caught:
        cache.check(issued.token)
    assert issued.token[16:] not in str(caught.value)


@pytest.mark.parametrize("seconds", [-1, 1.01, float("nan"), True, "1", None])
def test_it_remembers_for_a_second_at_most(local: Registry, seconds: float) -> None:
    with pytest.raises(RegistryError, match=r"seconds is .*allowed: 0 to 1"):
        KeyCache(local, seconds=seconds)
    with pytest.raises(RegistryError, match="size is"):
        KeyCache(local, size=0)
