"""The revision: every change that servers watch moves it, and nothing else does."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from tests.registry.conftest import MakeBundle
from tests.registry.test_keys import statements

from shopfit.registry import Feedback, Limits, Registry
from shopfit.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "acme/review-sentiment"
ITEMS = [{"id": "a", "title": "Tent"}]


def test_every_change_moves_it(registry: Registry, place: Settings, make_bundle: MakeBundle) -> None:
    bundles = iter([make_bundle(seed=seed) for seed in range(3)])
    key = ""

    def create_key() -> None:
        nonlocal key
        key = registry.create_key("acme", ["infer"], actor="ada").key.id

    changes: list[Callable[[], object]] = [
        lambda: registry.publish(next(bundles), promote=True, actor="ada"),
        lambda: registry.publish(next(bundles), promote=False, actor="ada"),
        lambda: registry.publish(next(bundles), promote=False, refused="worse", actor="ada"),
        lambda: registry.start_release(f"{NAME}@2", kind="canary", share=0.1, actor="ada"),
        lambda: registry.end_release(NAME, kind="canary", actor="ada"),
        lambda: registry.promote(f"{NAME}@2", actor="ada"),
        lambda: registry.rollback(NAME, actor="ada"),
        lambda: registry.unalias(f"{NAME}@candidate", actor="ada"),
        lambda: registry.remove(f"{NAME}@3", actor="ada"),
        create_key,
        lambda: registry.revoke_key(key, actor="ada"),
        lambda: registry.set_limits("acme", Limits(concurrent=1), actor="ada"),
        lambda: registry.put_catalog("acme", ITEMS, actor="ada"),
        lambda: registry.patch_catalog("acme", {"a": {"price": 1}}, actor="ada"),
        lambda: registry.drop_catalog("acme", actor="ada"),
        lambda: registry.erase("acme", place, actor="ada"),
    ]
    seen = [registry.revision()]
    for make in changes:
        make()
        assert registry.revision() == registry.revision()
        seen.append(registry.revision())
    assert len(set(seen)) == len(seen)


def test_reading_usage_and_feedback_leave_it(registry: Registry, place: Settings, make_bundle: MakeBundle) -> None:
    version = registry.publish(make_bundle(), promote=True, actor="ada")
    before = registry.revision()
    registry.add_usage({"acme": 5}, date(2027, 1, 31))
    registry.add_feedback([Feedback("acme", "ans_1", "click", datetime.now(UTC))])
    registry.verify()
    registry.fetch(version, place.cache)
    registry.collect_garbage(grace=timedelta(0))
    registry.erase("acme", place, actor="ada", dry_run=True)
    assert registry.revision() == before


def test_it_is_the_same_for_every_process_and_costs_little(durable: Settings, make_bundle: MakeBundle) -> None:
    """One statement of PostgreSQL; of SQLite none, while nothing has changed."""
    with Registry.open(durable) as one, Registry.open(durable) as two:
        two.publish(make_bundle(), promote=True, actor="ada")
        assert one.revision() == two.revision()
        with statements() as ran:
            one.revision()
        assert sum("SELECT" in statement for statement in ran) == (0 if "sqlite" in durable.registry else 1)
        two.publish(make_bundle(seed=1), promote=True, actor="ada")
        assert one.revision() == two.revision()


def test_a_file_that_is_replaced_moves_it(settings: Settings, make_bundle: MakeBundle) -> None:
    """Also by one that has seen equally many changes."""
    file = settings.home / "registry.db"
    revisions = []
    for seed in (0, 1):
        with Registry.open(settings) as registry:
            registry.publish(make_bundle(seed=seed), promote=True, actor="ada")
            revisions.append(registry.revision())
        file.rename(settings.home / f"{seed}.db")
    (settings.home / "0.db").rename(file)
    with Registry.open(settings) as registry:
        assert registry.revision() == revisions[0]
        (settings.home / "1.db").replace(file)
        assert registry.revision() == revisions[1] != revisions[0]


def test_a_backup_that_is_put_back_moves_it(settings: Settings, make_bundle: MakeBundle) -> None:
    """Also if as much has been changed since as the backup lacks."""
    backup = settings.home / "backup.db"

    def copy(source: object, target: object) -> None:
        with closing(sqlite3.connect(source)) as from_, closing(sqlite3.connect(target)) as into:
            from_.backup(into)

    with Registry.open(settings) as registry:
        registry.publish(make_bundle(), promote=True, actor="ada")
        file = settings.home / "registry.db"
        copy(file, backup)
        then = registry.revision()
        registry.publish(make_bundle(seed=1), promote=True, actor="ada")
        changed = registry.revision()
        copy(backup, file)
        assert registry.revision() == then != changed
        registry.publish(make_bundle(seed=2), promote=True, actor="ada")
        assert registry.revision() not in {then, changed}


def test_a_registry_is_opened_and_read_without_torch() -> None:
    """Gateways are processes without it."""
    script = (
        "import sys, shopfit.registry.registry; from shopfit.registry import Registry, AliasCache, KeyCache\n"
        "print([name for name in ('torch', 'transformers', 'peft', 'sklearn', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
