"""`/v1/feedback`: what came of answers is kept, of the key's merchant, once, and without names."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.serve.operated import Operated, operating, own_copy

from shopfit.serve.answer_ids import AnswerIds
from shopfit.settings import Settings


@pytest.fixture(scope="module")
def operated(filled: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    with operating(own_copy(filled, tmp_path_factory.mktemp("feedback") / "home")) as operated:
        yield operated


def click(operated: Operated, key: str = "acme") -> dict[str, Any]:
    """A click on an answer that was given with a key."""
    answer = operated.classify(model=f"{key}/sentiment", key=key)
    return {"answer": answer.headers["x-shopfit-answer-id"], "kind": "click", "item": "tent"}


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
    theirs = click(operated, "rival")
    assert send(operated, theirs, key="rival").status_code == 200
    assert [one.item for one in operated.registry.feedback("rival")] == ["tent"]
    assert send(operated, theirs, merchant="acme", key="rival").status_code == 403
    assert send(operated, click(operated), key="asks").status_code == 403
    assert send(operated, theirs, key="platform").status_code == 422
    assert send(operated, theirs, key="platform", merchant="rival").status_code == 200
    for merchant in ("acme", "nobody", "../x", "\ud800"):
        assert send(operated, theirs, key="platform", merchant=merchant).status_code in {404, 422}
    assert len(operated.registry.feedback("rival")) == 2


def test_an_id_that_no_answer_of_the_merchants_has_is_unknown(operated: Operated, filled: Settings) -> None:
    before = operated.registry.feedback("acme"), operated.registry.feedback("rival")
    ours, theirs = click(operated), click(operated, "rival")
    answer = ours["answer"]
    made_up = f"ans_{'0123456789abcdef' * 4}"[: len(answer)]
    changed = f"{answer[:-1]}{'0' if answer[-1] != '0' else '1'}"
    other = f"ans_{'0' if answer[4] != '0' else '1'}{answer[5:]}"
    for wrong in (theirs["answer"], made_up, changed, other, answer[:-1], f"{answer}0", "ans_00000000"):
        refused = send(operated, ours, ours | {"answer": wrong})
        assert refused.status_code == 404, wrong
        assert [problem["where"] for problem in refused.json()["error"]["problems"]] == ["events.1.answer"]
        assert refused.json()["error"]["code"] == "answer_not_found"
    assert send(operated, ours, key="rival").status_code == 404
    assert before == (operated.registry.feedback("acme"), operated.registry.feedback("rival"))


def test_every_gateway_knows_the_answers_of_the_others(operated: Operated) -> None:
    given = click(operated)
    with operating(operated.gateway.settings, name="second") as other:
        assert send(other, given).json()["new"] == 1


def test_ids_are_of_one_merchant_and_one_registry() -> None:
    ids, others = AnswerIds(b"a" * 32), AnswerIds(b"b" * 32)
    given = {ids.new("acme") for _ in range(1000)}
    assert len(given) == 1000
    assert all(re.fullmatch("ans_[0-9a-f]{56}", one) for one in given)
    assert all(ids.is_of(one, "acme") for one in given)
    assert not any(ids.is_of(one, merchant) for one in given for merchant in ("rival", "", "acm", "acme2", "\ud800"))
    assert not any(others.is_of(one, "acme") for one in given)
    assert not any(ids.is_of(one, "acme") for one in ("", "ans_", "ans_é", "0" * 56))


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
    before, ours = len(operated.registry.feedback("acme")), click(operated)
    answer = send(operated, ours | change, ours)
    assert answer.status_code == 422, answer.text
    assert [problem["where"] for problem in answer.json()["error"]["problems"]] == [where]
    assert len(operated.registry.feedback("acme")) == before


def test_there_are_one_to_a_thousand(operated: Operated) -> None:
    assert send(operated).status_code == 422
    ours = click(operated)
    assert send(operated, *[ours] * 1001).status_code == 422
    assert send(operated, *[ours] * 1000).status_code == 200
