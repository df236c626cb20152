"""Canaries, shadows, promotions and rollbacks over HTTP, seen by every gateway, with none restarted."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.serve.operated import SENTIMENT, Operated, operating, own_copy, publish_second

from shopfit.registry import Release
from shopfit.serve.releases import place
from shopfit.settings import Settings
from shopfit.tasks.row_answers import differ

USERS = [f"user-{number}" for number in range(40)]
FIRST, SECOND, REFUSED = f"{SENTIMENT}@1", f"{SENTIMENT}@2", f"{SENTIMENT}@3"


@pytest.fixture(scope="module")
def operated(filled: Settings, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    """A gateway whose registry has a second version of an adapter, and one that the gate refused."""
    folder = tmp_path_factory.mktemp("releases")
    with operating(own_copy(filled, folder / "home")) as operated:
        assert publish_second(operated.registry, tiny_encoder, folder / "second") == SECOND
        assert publish_second(operated.registry, tiny_encoder, folder / "third", refused="too weak") == REFUSED
        yield operated


@pytest.fixture(autouse=True)
def as_before(operated: Operated) -> Iterator[None]:
    """Each test begins with the first version in production, and no release."""
    yield
    for kind in ("canary", "shadow"):
        end(operated, kind)
    promote(operated, FIRST)


def start(operated: Operated, kind: str, share: float, model: str = SECOND, key: str = "acme") -> Any:
    return operated.gateway.ask("/v1/releases", {"model": model, "kind": kind, "share": share}, key=key)


def end(operated: Operated, kind: str, key: str = "acme") -> Any:
    return operated.gateway.ask(f"/v1/releases?model={SENTIMENT}&kind={kind}", key=key, method="DELETE")


def promote(operated: Operated, model: str, key: str = "acme") -> Any:
    return operated.gateway.ask("/v1/promote", {"model": model}, key=key)


def test_a_canary_answers_a_part_of_the_users_who_stay_with_it(operated: Operated) -> None:
    assert {operated.version(user=user) for user in USERS} == {FIRST}
    started = start(operated, "canary", 0.3)
    assert started.status_code == 200, started.text
    assert started.json() | {"digest": ""} == {
        "model": SENTIMENT, "version": SECOND, "digest": "", "kind": "canary", "share": 0.3,
    }  # fmt: skip
    few = {user: operated.version(user=user) for user in USERS}
    assert set(few.values()) == {FIRST, SECOND}
    assert {user: operated.version(user=user) for user in USERS} == few
    start(operated, "canary", 0.7)
    for user in ("Müller", "Ωmega", "小林", "José"):  # also in a header, which UTF-8 in is no rule but a habit
        answer = httpx2.post(
            f"{operated.gateway.url}/v1/classify",
            json={"model": SENTIMENT, "input": "lovely crema"},
            headers={
                "authorization": f"Bearer {operated.gateway.keys['acme']}".encode(),
                "x-shopfit-user": user.encode(),
            },
            timeout=None,
        )
        assert answer.headers["x-shopfit-version"] == operated.version(user=user)
    more = {user: operated.version(user=user) for user in USERS}
    assert list(more.values()).count(SECOND) > list(few.values()).count(SECOND)
    assert all(more[user] == SECOND for user in USERS if few[user] == SECOND)  # a growing share takes nobody back
    assert {operated.version(model=FIRST, user=user) for user in USERS} == {FIRST}
    assert {operated.version(model=f"{SENTIMENT}@candidate", user=user) for user in USERS} == {SECOND}
    assert end(operated, "canary").json()["share"] == 0.7
    assert {operated.version(user=user) for user in USERS} == {FIRST}


def test_without_a_user_each_request_is_chosen_for_by_itself(operated: Operated) -> None:
    start(operated, "canary", 0.5)
    assert {operated.version() for _ in range(64)} == {FIRST, SECOND}
    start(operated, "canary", 1)
    assert {operated.version() for _ in range(8)} == {SECOND}


def test_a_user_stands_at_the_same_place_in_every_process() -> None:
    canary = Release("acme", "r", "canary", 2, "d", 0.1)
    places = [place(canary, str(number)) for number in range(4000)]
    assert place(canary, "user-1") == 0.13118949781198763
    assert sum(at < 0.1 for at in places) == pytest.approx(400, abs=90)
    other = Release("acme", "r", "canary", 3, "d", 0.1)
    assert sum(at < 0.1 and place(other, str(number)) < 0.1 for number, at in enumerate(places)) < 100


def test_a_promotion_is_seen_by_every_gateway_and_is_audited(operated: Operated, filled: Settings) -> None:
    with operating(operated.gateway.settings, name="other") as other:
        assert other.version() == FIRST
        promoted = promote(operated, SECOND)
        assert promoted.json()["version"] == SECOND
        assert operated.version() == SECOND  # the very next answer
        while other.version() != SECOND:
            time.sleep(0.02)
        rolled = operated.gateway.ask("/v1/rollback", {"model": SENTIMENT}, key="platform")
        assert rolled.json() == {"model": SENTIMENT, "version": FIRST, "digest": rolled.json()["digest"]}
        assert operated.version() == FIRST
        while other.version() != FIRST:
            time.sleep(0.02)
        start(operated, "canary", 1)
        while other.version() != SECOND:
            time.sleep(0.02)
    audit = [entry for entry in operated.registry.audit() if entry.actor.startswith("key ")]
    assert {"promote", "rollback", "release"} <= {entry.action for entry in audit}
    assert all(len(entry.actor) == len("key ") + 12 for entry in audit)


def test_promoting_a_canary_ends_it(operated: Operated) -> None:
    start(operated, "canary", 0.2)
    listed = operated.gateway.ask("/v1/releases").json()["data"]
    assert [(one["version"], one["kind"]) for one in listed] == [(SECOND, "canary")]
    promote(operated, SECOND)
    assert operated.gateway.ask("/v1/releases").json()["data"] == []
    assert {operated.version(user=user) for user in USERS} == {SECOND}


def test_who_may_not(operated: Operated) -> None:
    assert start(operated, "canary", 0.5, key="asks").status_code == 403
    assert promote(operated, SECOND, key="asks").status_code == 403
    assert end(operated, "canary", key="asks").status_code == 403
    for answer in (start(operated, "canary", 0.5, key="rival"), promote(operated, SECOND, key="rival")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert end(operated, "canary", key="rival").status_code == 404
    assert end(operated, "shadow").json()["error"]["code"] == "release_not_found"
    start(operated, "canary", 0.5)
    assert operated.gateway.ask("/v1/releases", key="rival").json()["data"] == []
    assert len(operated.gateway.ask("/v1/releases", key="platform").json()["data"]) == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/promote", {"model": REFUSED}, 409),
        ("/v1/releases", {"model": REFUSED, "kind": "canary", "share": 0.5}, 409),
        ("/v1/releases", {"model": FIRST, "kind": "canary", "share": 0.5}, 409),
        ("/v1/rollback", {"model": FIRST}, 409),
        ("/v1/rollback", {"model": "acme/stars"}, 409),
        ("/v1/promote", {"model": f"{SENTIMENT}@99"}, 404),
        ("/v1/promote", {"model": "../x"}, 404),
        ("/v1/promote", {"model": SECOND, "force": True}, 422),
        ("/v1/releases", {"model": SECOND, "kind": "canary", "share": 0}, 422),
        ("/v1/releases", {"model": SECOND, "kind": "canary", "share": 1.5}, 422),
        ("/v1/releases", {"model": SECOND, "kind": "blue", "share": 0.5}, 422),
    ],
)
def test_what_is_refused(operated: Operated, path: str, body: Any, status: int) -> None:
    answer = operated.gateway.ask(path, body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
    assert "retry-after" not in answer.headers
    assert operated.version() == FIRST


def test_a_shadow_is_counted_and_never_answers(operated: Operated) -> None:
    texts = ["lovely crema", "arrived cracked", "lovely", "wet box", "cracked crema"]
    first = [operated.classify(text, model=FIRST).json()["data"][0]["label"] for text in texts]
    second = [operated.classify(text, model=SECOND).json()["data"][0]["label"] for text in texts]
    start(operated, "shadow", 1)
    before = compared(operated)
    for text in texts:
        answer = operated.classify(text)
        assert answer.headers["x-shopfit-version"] == FIRST
        while sum(compared(operated).values()) == sum(before.values()):
            time.sleep(0.02)
        after = compared(operated)
        wanted = "same" if first[texts.index(text)] == second[texts.index(text)] else "different"
        if not after["dropped"] > before["dropped"]:
            assert after[wanted] == before[wanted] + 1
        before = after
    operated.version(model=FIRST)  # named, so nothing is compared with it
    assert compared(operated) == before


def compared(operated: Operated) -> dict[str, float]:
    return {
        outcome: operated.counted("shopfit_shadow_answers_total", adapter=SENTIMENT, outcome=outcome)
        for outcome in ("same", "different", "failed", "dropped")
    }


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        ({"label": "a"}, {"label": "b"}, True),
        ({"label": "a", "sure": True}, {"label": "a", "sure": False}, False),
        ({"items": [{"id": "a"}, {"id": "b"}]}, {"items": [{"id": "a"}, {"id": "c"}]}, False),
        ({"items": [{"id": "a"}]}, {"items": []}, True),
        ({"items": []}, {"items": []}, False),
        ({"score": 3.0}, {"score": 3.19}, False),
        ({"score": 3.0}, {"score": 3.21}, True),
        ({"text": "a"}, {"text": "a "}, True),
    ],
)
def test_what_a_disagreement_is(one: Any, other: Any, differs: bool) -> None:
    assert differ(one, other, ["1", "2", "3", "4", "5"]) is differs
