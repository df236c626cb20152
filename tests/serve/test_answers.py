"""Labels, ratings and recommendations over HTTP: the engine's answers, in the order that was asked."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.engine.conftest import ITEMS
from tests.serve.gateways import ServedGateway, serving
from tests.serve.operated import own_copy

from shopfit.engine import ChooseAnswer, Engine
from shopfit.registry import Registry
from shopfit.settings import Settings


def test_labels_of_texts_and_of_fields(gateway: ServedGateway) -> None:
    texts = ["lovely crema", "arrived cracked"]
    answer = gateway.ask("/v1/classify", {"model": "acme/sentiment", "input": texts})
    assert answer.status_code == 200
    told = answer.json()
    assert told["id"] == answer.headers["x-shopfit-answer-id"]
    assert told["model"] == answer.headers["x-shopfit-version"] == "acme/sentiment@1"
    assert [one["label"] for one in told["data"]] == ["positive", "negative"]
    for one in told["data"]:
        assert sum(one["probabilities"].values()) == pytest.approx(1)
    same = gateway.ask("/v1/classify", {"model": "acme/sentiment", "fields": [{"text": text} for text in texts]}).json()
    assert [one["label"] for one in same["data"]] == ["positive", "negative"]


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "application/x+json"])
def test_a_body_is_read_in_one_way_however_its_type_is_written(gateway: ServedGateway, kind: str) -> None:
    def ask(user: str, content: bytes) -> httpx2.Response:
        headers = {"authorization": f"Bearer {gateway.keys['acme']}", "content-type": kind, "x-shopfit-user": user}
        return httpx2.post(f"{gateway.url}/v1/classify", content=content, headers=headers, timeout=None)

    good = json.dumps({"model": "acme/sentiment", "input": "lovely crema"}).encode()
    assert ask("u" * 512, good).json()["data"][0]["label"] == "positive"
    assert ask("u" * 513, good).status_code == 422
    twice = ask("", good.replace(b"{", b'{"model": "acme/sentiment", '))
    assert (twice.status_code, "stands there twice" in twice.json()["error"]["message"]) == (422, True)
    unknown = ask("", good.replace(b"{", b'{"inputs": "a", '))
    assert (unknown.status_code, "inputs" in unknown.json()["error"]["message"]) == (422, True)


def test_each_merchants_answers_are_those_of_the_engine(
    gateway: ServedGateway, filled: Settings, tiny_encoder: Path
) -> None:
    served = {}
    with (
        Registry.open(filled) as registry,
        Engine.load(str(tiny_encoder), registry=registry, settings=filled) as engine,
    ):
        for merchant in ("acme", "rival"):
            body = {"model": f"{merchant}/sentiment", "input": "would buy again"}
            (answer,) = gateway.ask("/v1/classify", body, key=merchant).json()["data"]
            alone = engine.ask(body["model"], {"text": body["input"]})
            assert isinstance(alone, ChooseAnswer)
            assert answer["probabilities"] == pytest.approx(alone.probabilities, abs=1e-5)
            served[merchant] = answer["probabilities"]
    assert served["acme"] != pytest.approx(served["rival"], abs=1e-4)


def test_ratings(gateway: ServedGateway) -> None:
    answer = gateway.ask("/v1/rate", {"model": "acme/stars", "input": ["lovely crema", "arrived cracked"]}).json()
    good, bad = answer["data"]
    assert 1 <= bad["score"] < good["score"] <= 5
    assert good["spread"] >= 0
    assert answer["usage"]["prompt_tokens"] > 0


def test_recommendations(gateway: ServedGateway) -> None:
    body: dict[str, Any] = {"model": "acme/products", "query": "tent or boots", "k": 3}
    answer = gateway.ask("/v1/recommend", body)
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert [one["index"] for one in data] == list(range(len(data)))
    assert {one["id"] for one in data} <= set(ITEMS)
    assert all(one["title"] == ITEMS[one["id"]].title for one in data)
    scores = [one["score"] for one in data]
    assert scores == sorted(scores, reverse=True)
    assert all("adapter" in one["reasons"] for one in data)
    seen = gateway.ask("/v1/recommend", {"model": "acme/products", "history": ["tent"], "k": 10}).json()["data"]
    assert "tent" not in {one["id"] for one in seen}
    assert {one["id"] for one in seen} <= set(ITEMS) - {"tent", "lamp"}
    none = gateway.ask("/v1/recommend", {**body, "rules": {"max_price": 0.5}}).json()["data"]
    assert none == []  # of no item a price is known


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"rules": {"max_prize": 3}}, "max_prize"),
        ({"rules": {"min_price": 5, "max_price": 3}}, "min_price"),
        ({"rules": {"age": -1}}, "age"),
        ({"k": 0}, "k"),
        ({"history": "tent"}, "history"),
        ({"history": ["a"], "fields": {"history": ["b"]}}, "history is given twice"),
        ({"query": "a", "fields": {"query": "b"}}, "'query' is given twice"),
        ({"query": "a", "fields": {"colour": "b"}}, "colour"),
    ],
)
def test_recommendations_that_are_refused(gateway: ServedGateway, more: Any, said: str) -> None:
    answer = gateway.ask("/v1/recommend", {"model": "acme/products", **more})
    assert answer.status_code == 422
    assert said in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "recipe", "where"),
    [
        ("/v1/classify", "stars", "/v1/rate"),
        ("/v1/rate", "sentiment", "/v1/classify"),
        ("/v1/rerank", "words", "/v1/completions"),
        ("/v1/recommend", "words", "/v1/completions"),
        ("/v1/completions", "products", "/v1/rerank"),
        ("/v1/chat/completions", "products", "/v1/recommend"),
    ],
)
def test_an_adapter_of_another_task_says_where_it_is_asked(
    gateway: ServedGateway, path: str, recipe: str, where: str
) -> None:
    asks: dict[str, Any] = {"input": "a"}
    if path.endswith(("rerank", "recommend")):
        asks = {"query": "a"}
    elif path.endswith("completions"):
        asks = {"messages": [{"role": "user", "content": "a"}]} if "chat" in path else {"prompt": "a"}
    answer = gateway.ask(path, {"model": f"acme/{recipe}", **asks})
    assert answer.status_code == 422
    assert where in answer.json()["error"]["next"]


def test_what_curl_sends_by_itself_is_json(gateway: ServedGateway) -> None:
    answer = httpx2.post(
        f"{gateway.url}/v1/classify",
        content=json.dumps({"model": "acme/sentiment", "input": "lovely crema"}),
        headers={
            "authorization": f"Bearer {gateway.keys['acme']}",
            "content-type": "application/x-www-form-urlencoded",
        },
        timeout=None,
    )
    assert answer.status_code == 200


def test_a_name_with_nothing_behind_it_now_tells_its_own_merchant_what_there_is(gateway: ServedGateway) -> None:
    body = {"model": "acme/sentiment@candidate", "input": "lovely crema"}
    own, other = gateway.ask("/v1/classify", body), gateway.ask("/v1/classify", body, key="rival")
    assert own.status_code == other.status_code == 404
    assert "@1" in own.json()["error"]["message"]
    assert "@1" not in other.json()["error"]["message"]


def test_without_keys_only_this_machine_is_answered_and_only_by_its_names(filled: Settings, tmp_path: Path) -> None:
    with serving(own_copy(filled, tmp_path / "home"), tmp_path / "log", {}, "--no-auth") as served:
        url = f"{served.url}/v1/models"
        assert httpx2.get(url, timeout=None).status_code == 200
        assert httpx2.get(url, headers={"host": "evil.example"}, timeout=None).status_code == 401
