"""What came of answers: kept once, of one merchant alone, and checked before it is kept."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from tests.registry.conftest import MakeBundle, at_once

from shopfit.errors import DataError, RegistryError, UnknownReference
from shopfit.registry import Feedback, Registry
from shopfit.settings import Settings

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
CLICK = Feedback("acme", "ans_1", "click", NOON, item="tent", version="acme/review-sentiment@1", user_hash="u1")


@pytest.fixture
def filled(registry: Registry, make_bundle: MakeBundle) -> Registry:
    """acme has a version, other has a key."""
    registry.publish(make_bundle(), promote=True, actor="ada")
    registry.create_key("other", ["feedback"], new=True, actor="ada")
    return registry


def test_feedback_is_kept_as_it_was_given(filled: Registry) -> None:
    rows = [
        CLICK,
        replace(CLICK, kind="purchase", at=NOON + timedelta(minutes=1), value={"amount": 129.5, "currency": "EUR"}),
        Feedback("acme", "ans_2", "label", NOON + timedelta(minutes=2), value="positive"),
        Feedback("acme", "ans_3", "correction", NOON + timedelta(minutes=3), value='{"budget": "low"} 日本 \0'),
        Feedback("acme", "ans_4", "dismissal", NOON + timedelta(minutes=4), item="bag", value=0),
        Feedback("acme", "ans_5", "label", NOON + timedelta(minutes=5), value=["a", None, False, {"b": 1}]),
    ]
    theirs = Feedback("other", "ans_1", "click", NOON)
    assert filled.add_feedback([*reversed(rows), theirs]) == 7
    assert filled.feedback("acme") == rows
    assert filled.feedback("other") == [theirs]
    assert filled.feedback("nobody") == []
    assert hash(filled.feedback("acme")[5])


def test_only_what_happened_since(filled: Registry) -> None:
    rows = [replace(CLICK, at=NOON + timedelta(hours=hour)) for hour in range(3)]
    filled.add_feedback(rows)
    assert filled.feedback("acme", NOON + timedelta(hours=1)) == rows[1:]
    there = timezone(timedelta(hours=9))
    assert filled.feedback("acme", (NOON + timedelta(hours=2)).astimezone(there)) == rows[2:]
    for since in (datetime(2026, 1, 31), "2026-01-31", 7):
        with pytest.raises(RegistryError, match="since is"):
            filled.feedback("acme", since)


def test_an_event_is_kept_once(filled: Registry) -> None:
    event = replace(CLICK, event="e1")
    assert filled.add_feedback([event, event]) == 1
    assert filled.add_feedback([replace(event, at=NOON + timedelta(hours=1), value="again")]) == 0
    assert filled.feedback("acme") == [event]
    others = [replace(event, **change) for change in ({"event": "e2"}, {"item": "bag"}, {"kind": "purchase"})]
    others += [replace(event, answer_id="ans_2"), replace(event, merchant="other", version=None)]
    assert filled.add_feedback(others) == 5
    assert filled.feedback("other") == [others[-1]]
    assert filled.add_feedback([CLICK, CLICK]) == 2  # without an id, each is one of its own


def test_many_rows_and_many_processes(durable: Settings) -> None:
    with Registry.open(durable) as registry:
        registry.create_key("acme", ["feedback"], new=True, actor="ada")
    rows = [Feedback("acme", f"ans_{n}", "click", NOON + timedelta(seconds=n), event=str(n)) for n in range(230)]

    def add(turn: int) -> int:
        with Registry.open(durable) as own:
            return own.add_feedback(rows if turn % 2 else rows[::-1])

    assert sum(at_once(4, add)) == 230
    with Registry.open(durable) as registry:
        assert registry.feedback("acme") == rows


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"merchant": "../acme", "version": None}, "merchant"),
        ({"merchant": None, "version": None}, "merchant"),
        ({"answer_id": ""}, "answer_id"),
        ({"answer_id": "a b"}, "answer_id"),
        ({"answer_id": "a" * 65}, "answer_id"),
        ({"kind": "view"}, "kind"),
        ({"kind": ["click"]}, "kind"),
        ({"at": datetime(2026, 1, 31)}, "at"),
        ({"at": "2026-01-31"}, "at"),
        ({"at": datetime(1999, 1, 31, tzinfo=UTC)}, "at"),
        ({"at": datetime.now(UTC) + timedelta(days=2)}, "at"),
        ({"at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-14)))}, "at"),
        ({"item": ""}, "item"),
        ({"item": "x" * 2001}, "item"),
        ({"item": "x\0"}, "item"),
        ({"item": "\ud83d"}, "item"),
        ({"item": 7}, "item"),
        ({"version": "other/review-sentiment@1"}, "version"),
        ({"version": "acme/review-sentiment"}, "version"),
        ({"version": "acme"}, "version"),
        ({"version": 1}, "version"),
        ({"user_hash": "x" * 129}, "user_hash"),
        ({"event": "x" * 201}, "event"),
        ({"event": "a\nb"}, "event"),
        ({"value": "x" * 10_240}, "value"),
        ({"value": float("nan")}, "value"),
        ({"value": {"x": object()}}, "value"),
        ({"value": "\ud83d"}, "value"),
        ({"value": 10**5000}, "value"),
    ],
)
def test_rows_that_are_not_kept(filled: Registry, change: dict[str, object], where: str) -> None:
    with pytest.raises(DataError) as caught:
        filled.add_feedback([CLICK, replace(CLICK, **change)])
    assert [problem.where for problem in caught.value.problems] == [f"feedback:2 {where}"]
    str(caught.value).encode()
    assert filled.feedback("acme") == []


def test_values_that_are_nested_too_deep(filled: Registry) -> None:
    deep: list[object] = []
    for _ in range(40):
        deep = [deep]
    deeper: list[object] = []
    for _ in range(100_000):
        deeper = [deeper]
    for value in (deep, deeper):
        with pytest.raises(DataError):
            filled.add_feedback([replace(CLICK, value=value)])
    while deeper:  # freed step by step
        deeper = deeper.pop()


@pytest.mark.parametrize("rows", [None, CLICK, "rows", {"a": CLICK}])
def test_what_is_no_list(filled: Registry, rows: list[Feedback]) -> None:
    with pytest.raises(RegistryError, match="rows is"):
        filled.add_feedback(rows)
    with pytest.raises(DataError, match="is no feedback"):
        filled.add_feedback([CLICK, [rows]])


def test_nothing_is_kept_of_whom_there_is_nothing(filled: Registry, place: Settings) -> None:
    filled.add_feedback([CLICK, Feedback("other", "ans_1", "click", NOON)])
    receipt = filled.erase("acme", place, actor="eve")
    assert receipt.rows == {"feedback": 1}
    assert filled.add_feedback([CLICK, Feedback("other", "ans_2", "click", NOON)]) == 1  # one comes too late
    assert filled.feedback("acme") == []
    assert len(filled.feedback("other")) == 2
    with pytest.raises(UnknownReference):
        filled.feedback("../acme")
