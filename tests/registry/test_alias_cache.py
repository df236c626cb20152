"""References that servers watch: what is asked of the registry, how often, and what follows from the answers."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date

import pytest
from tests.registry.conftest import MakeBundle
from tests.registry.test_keys import change, statements

from shopfit.errors import UnknownReference
from shopfit.registry import AliasCache, Reference, Registry
from shopfit.settings import Settings

NAME = "acme/review-sentiment"


def soon(check: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it comes true; the limit is only against hanging."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if check():
            return True
        time.sleep(0.02)
    return False


@contextmanager
def watching(registry: Registry, **options: object) -> Iterator[tuple[AliasCache, list[str], list[str]]]:
    """A cache, the names of removed versions, and erased merchants."""
    gone: list[str] = []
    erased: list[str] = []
    cache = AliasCache(registry, lambda one: gone.append(one.name), erased.append, lambda _: True, **options)
    yield cache, gone, erased
    cache.close()


def test_a_promotion_is_seen_without_asking_for_it(registry: Registry, make_bundle: MakeBundle) -> None:
    for seed in range(2):
        registry.publish(make_bundle(seed=seed), promote=seed == 0, actor="ada")
    reference = Reference.parse(NAME)
    with watching(registry) as (cache, gone, erased):
        assert cache.known(reference) is None
        assert cache.resolve(reference).number == 1
        assert cache.known(reference).number == 1
        registry.promote(f"{NAME}@2", actor="ada")
        assert soon(lambda: cache.known(reference) is None)  # what is asked for next is looked up anew
        assert cache.resolve(reference).number == 2
        registry.rollback(NAME, actor="ada")
        assert soon(lambda: cache.known(reference) is None)
        assert (gone, erased) == ([], [])


def test_while_nothing_that_it_watches_changes_it_asks_for_the_revision_alone(
    registry: Registry, make_bundle: MakeBundle
) -> None:
    """On SQLite, which tells whether anything was written, only if something was: here the usage of tokens."""
    for name in ("acme", "other"):
        registry.publish(make_bundle(name), promote=True, actor="ada")
    begun = time.monotonic()
    with watching(registry, interval=0.01) as (cache, _, _), statements() as ran:
        for name in ("acme", "other"):
            cache.resolve(Reference.parse(f"{name}/review-sentiment"))
        for _ in range(50):
            looks = sum("shopfit_revision" in one for one in ran)
            registry.add_usage({"acme": 1}, date(2027, 1, 31))
            assert soon(lambda: sum("shopfit_revision" in one for one in ran) > looks)  # noqa: B023 - called here
        looked_up = [one for one in ran if "shopfit_aliases" in one]
        assert len(cache) == 2
    # two references that are resolved, the comparisons that follow, and one every half minute on a slow machine
    assert len(looked_up) <= 3 * 2 + 2 + (time.monotonic() - begun) / 30


def test_a_change_that_moved_no_revision_is_seen_all_the_same(
    registry: Registry, place: Settings, make_bundle: MakeBundle
) -> None:
    """As of a process of an earlier release, which knows of no revision."""
    for seed in range(2):
        registry.publish(make_bundle(seed=seed), promote=seed == 0, actor="ada")
    reference = Reference.parse(NAME)
    with watching(registry, interval=0.01, at_least=0.1) as (cache, _, _):
        cache.resolve(reference)
        change(place, "UPDATE shopfit_aliases SET number = 2 WHERE alias = 'production'")
        assert soon(lambda: cache.known(reference) is None)


def test_what_changes_while_it_is_resolved_is_seen(registry: Registry, make_bundle: MakeBundle) -> None:
    """However the look-ups of the one thread and the changes of the other fall, no stale version stays."""
    for seed in range(2):
        registry.publish(make_bundle(seed=seed), promote=seed == 0, actor="ada")
    reference = Reference.parse(NAME)
    for turn in range(20):
        with watching(registry, interval=0.001) as (cache, _, _):
            cache.resolve(reference)
            registry.promote(f"{NAME}@{1 + turn % 2}", actor="ada")
            cache.resolve(reference)
            registry.promote(f"{NAME}@{2 - turn % 2}", actor="ada")
            wanted = registry.resolve(NAME).number
            assert soon(lambda: (cache.known(reference) or cache.resolve(reference)).number == wanted)  # noqa: B023


def test_a_version_is_watched_as_long_as_it_is_kept(
    registry: Registry, place: Settings, make_bundle: MakeBundle
) -> None:
    for seed in (1, 2):
        registry.publish(make_bundle(seed=seed), promote=seed == 1, actor="ada")
    reference = Reference.parse(NAME)
    with watching(registry, interval=0.01, idle=0) as (cache, gone, erased):
        first = cache.resolve(reference)
        registry.promote(f"{NAME}@2", actor="ada")
        assert soon(lambda: cache.known(reference) is None)
        cache.watch(reference, first)  # its load ended after the promotion
        registry.erase("acme", place, actor="ada")
        assert soon(lambda: erased == ["acme"])
        assert gone == [f"{NAME}@1"]


def test_a_version_that_is_removed_just_after_its_alias_moved_on(registry: Registry, make_bundle: MakeBundle) -> None:
    """Its number is watched from then on, and asked for once more although nothing changes after that."""
    for seed in (1, 2, 3):
        registry.publish(make_bundle(seed=seed), promote=True, actor="ada")
    registry.promote(f"{NAME}@1", actor="ada")
    with watching(registry, interval=0.2) as (cache, gone, _):
        cache.resolve(Reference.parse(NAME))
        for number in (2, 3):
            registry.promote(f"{NAME}@{number}", actor="ada")
        registry.remove(f"{NAME}@1", actor="ada")
        assert soon(lambda: gone == [f"{NAME}@1"])


@pytest.mark.parametrize("way", ["erase", "remove"])
def test_a_merchant_that_comes_back_between_two_looks_was_erased_all_the_same(
    registry: Registry, place: Settings, make_bundle: MakeBundle, way: str
) -> None:
    registry.publish(make_bundle(seed=1), refused="so that no alias names it", promote=False, actor="ada")
    with watching(registry, interval=0.2) as (cache, gone, erased):
        cache.resolve(Reference.parse(f"{NAME}@1"))
        if way == "erase":
            registry.erase("acme", place, actor="ada")
        registry.publish(make_bundle(seed=2), promote=True, actor="ada")
        if way == "remove":
            registry.remove(f"{NAME}@1", actor="ada")
        assert soon(lambda: gone == [f"{NAME}@1"])
        if way == "erase":
            assert soon(lambda: erased == ["acme"])
        else:
            time.sleep(1)
            assert erased == []


def test_what_names_nothing_is_remembered_for_a_moment_and_takes_little(registry: Registry) -> None:
    cache = AliasCache(registry)
    reference = Reference.parse("nobody/reviews")
    with pytest.raises(UnknownReference):
        cache.resolve(reference)
    with statements() as ran, pytest.raises(UnknownReference, match="the merchant 'nobody' has no versions"):
        cache.known(reference)
    assert ran == []
    assert len(cache) == 0
    assert soon(lambda: cache_forgot(cache, reference))
    cache.close()


def cache_forgot(cache: AliasCache, reference: Reference) -> bool:
    try:
        return cache.known(reference) is None
    except UnknownReference:
        return False


def test_while_the_registry_does_not_answer_the_last_known_stays(
    registry: Registry, place: Settings, make_bundle: MakeBundle
) -> None:
    registry.publish(make_bundle(seed=1), promote=True, actor="ada")
    registry.publish(make_bundle(seed=2), promote=False, actor="ada")
    reference = Reference.parse(NAME)
    with watching(registry, interval=0.01) as (cache, _, _):
        version = cache.resolve(reference)
        change(place, "ALTER TABLE shopfit_revision RENAME TO elsewhere")
        time.sleep(0.5)
        assert cache.known(reference) is version
        change(place, "ALTER TABLE elsewhere RENAME TO shopfit_revision")
        registry.promote(f"{NAME}@2", actor="ada")
        assert soon(lambda: cache.known(reference) is not version)
