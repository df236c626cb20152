"""`/v1/feedback`: what came of answers is kept, of the key's merchant, once, and without names."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.serve.operated import Operated, operating, own_copy

from shopfit.settings import Settings

ANSWER = "ans_0123456789abcdef0123456789abcdef"
CLICK = {"answer": ANSWER, "kind": "click", "item": "tent"}


@pytest.fixture(scope="module")
def operated(filled: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    with operating(own_copy(filled, tmp_path_factory.mktemp("feedback") / "home")) as operated:
        yield operated


def send(operated: Operated, *events: Any, key: str = "acme", **more: Any) -> Any:
    return operated.gateway.ask("/v1/feedback", {"events": list(events), **more}, key=key)


def test_what_came_of_an_answer_is_kept(operated: Operated) -> None:
    answer = operated.classify(user="jane@example.com")
    told = {"answer": answer.json()["id"], "version": answer.headers["x-shopfit-version"], "user": "jane@example.com"}
    sent = [
        {**told, "kind": "label", "value": "negative", "event": "e1"},
        {**told, "kind": "purchase", "item": "tent", "at": "2026-01-31T12:00:00+01:00"},
        {**told, "kind": "correction", "value": {"stars": 4}},
        {**told, "kind": "dismissal", "item": "bag"},
    ]
    kept = send(operated, *sent)
    assert (kept.status_code, kept.json()) == (200, {"object": "feedback", "events": 4, "new": 4})
    assert send(operated, sent[0]).json()["new"] == 0  # a repeated event
    found = {one.kind: one for one in operated.registry.feedback("acme")}
    assert len(operated.registry.feedback("acme")) == 4
    assert {one.answer_id for one in found.values()} == {told["answer"]}
    assert (found["label"].value, found["correction"].value) == ("negative", {"stars": 4})
    assert found["purchase"].at.isoformat().startswith("2026-01-31T11:00:00")
    assert found["label"].version == "acme/sentiment@1"
    assert "jane" not in str(found)
    assert operated.registry.feedback("rival") == []


def test_it_is_of_the_keys_merchant(operated: Operated) -> None:
    assert send(operated, CLICK, key="rival").status_code == 200
    assert [one.item for one in operated.registry.feedback("rival")] == ["tent"]
    assert send(operated, CLICK, merchant="acme", key="rival").status_code == 403
    assert send(operated, CLICK, key="asks").status_code == 403
    assert send(operated, CLICK, key="platform").status_code == 422
    assert send(operated, CLICK, key="platform", merchant="rival").status_code == 200
    assert send(operated, CLICK, key="platform", merchant="nobody").json()["new"] == 0
    assert send(operated, CLICK, key="platform", merchant="../x").status_code == 422
    assert len(operated.registry.feedback("rival")) == 2


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"kind": "stare"}, "events.0.kind"),
        ({"answer": "../../etc"}, "events.0.answer"),
        ({"answer": ""}, "events.0.answer"),
        ({"item": "x" * 2001}, "events.0.item"),
        ({"item": 7}, "events.0.item"),
        ({"kind": "label"}, "events.0.value"),
        ({"value": "x" * 10_300}, "events.0.value"),
        ({"at": "yesterday"}, "events.0.at"),
        ({"at": "2026-01-31T12:00:00"}, "events.0.at"),
        ({"at": "2999-01-31T12:00:00Z"}, "events.0.at"),
        ({"item": "a\u0000b"}, "events.0.item"),
        ({"version": "rival/sentiment@1"}, "events.0.version"),
        ({"itme": "tent"}, "events.0.itme"),
    ],
)
def test_events_that_are_refused(operated: Operated, change: Any, where: str) -> None:
    before = len(operated.registry.feedback("acme"))
    answer = send(operated, CLICK | change, CLICK)
    assert answer.status_code == 422, answer.text
    assert [problem["where"] for problem in answer.json()["error"]["problems"]] == [where]
    assert len(operated.registry.feedback("acme")) == before


def test_there_are_one_to_a_thousand(operated: Operated) -> None:
    assert send(operated).status_code == 422
    assert send(operated, *[CLICK] * 1001).status_code == 422
    assert send(operated, *[CLICK] * 1000).status_code == 200
