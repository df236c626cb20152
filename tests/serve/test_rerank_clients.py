"""The `cohere` package as a client, and bodies as Jina's API takes them."""

from typing import Any

import cohere
import pytest
from tests.engine.conftest import ITEMS
from tests.serve.gateways import ServedGateway

PRODUCTS = "acme/products"
TEXTS = ["Down bag", "Gas stove", "Hiking boots"]


@pytest.fixture
def second(gateway: ServedGateway) -> cohere.ClientV2:
    return cohere.ClientV2(gateway.keys["acme"], base_url=gateway.url)


@pytest.fixture
def first(gateway: ServedGateway) -> cohere.Client:
    return cohere.Client(gateway.keys["acme"], base_url=gateway.url)


def test_the_second_api(second: cohere.ClientV2) -> None:
    answer = second.rerank(model=PRODUCTS, query="keep warm", documents=TEXTS)
    assert answer.id is not None
    assert answer.id.startswith("ans_")
    assert sorted(result.index for result in answer.results) == [0, 1, 2]
    scores = [result.relevance_score for result in answer.results]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1)
    assert answer.meta is not None
    assert answer.meta.tokens is not None
    assert answer.meta.tokens.input_tokens
    few = second.rerank(model=PRODUCTS, query="keep warm", documents=TEXTS, top_n=2)
    assert [(one.index, one.relevance_score) for one in few.results] == [
        (one.index, pytest.approx(one.relevance_score)) for one in answer.results[:2]
    ]


def test_the_first_api(first: cohere.Client, second: cohere.ClientV2) -> None:
    documents: list[Any] = [TEXTS[0], {"text": TEXTS[1], "sku": "s-1"}, {"text": TEXTS[2]}]
    answer = first.rerank(model=PRODUCTS, query="keep warm", documents=documents, return_documents=True)
    for result in answer.results:
        assert result.document is not None
        assert result.document.text == TEXTS[result.index]
    assert {getattr(result.document, "sku", None) for result in answer.results} == {None, "s-1"}
    other = second.rerank(model=PRODUCTS, query="keep warm", documents=TEXTS)
    assert [one.index for one in answer.results] == [one.index for one in other.results]
    assert all(one.document is None for one in first.rerank(model=PRODUCTS, query="a", documents=TEXTS).results)


def test_its_errors(second: cohere.ClientV2) -> None:
    with pytest.raises(cohere.NotFoundError):
        second.rerank(model="rival/products", query="a", documents=TEXTS)
    with pytest.raises(cohere.UnprocessableEntityError):
        second.rerank(model=PRODUCTS, query="a", documents=TEXTS, max_tokens_per_doc=10)
    with pytest.raises(cohere.UnprocessableEntityError):
        second.rerank(model=PRODUCTS, query="a", documents=[])


def test_jinas_body(gateway: ServedGateway) -> None:
    body = {"model": PRODUCTS, "query": "keep warm", "documents": TEXTS, "top_n": 2, "return_documents": True}
    answer = gateway.ask("/v1/rerank", body).json()
    assert answer["model"] == "acme/products@1"
    assert answer["usage"]["total_tokens"] > 0
    assert [one["document"]["text"] for one in answer["results"]] == [TEXTS[one["index"]] for one in answer["results"]]
    assert len(answer["results"]) == 2


def test_items_of_the_catalog(gateway: ServedGateway) -> None:
    items = list(ITEMS)
    body = {"model": PRODUCTS, "query": "keep warm", "documents": [{"id": "stove"}, {"id": "bag"}, {"id": "lamp"}]}
    answer = gateway.ask("/v1/rerank", body).json()
    assert sum(one["relevance_score"] for one in answer["results"]) == pytest.approx(1)
    for one in answer["results"]:
        named = body["documents"][one["index"]]["id"]  # type: ignore[index]
        assert one["document"] == {"id": named, "title": named.title(), "text": named.title()}
    whole = gateway.ask("/v1/rerank", {"model": PRODUCTS, "query": "keep warm"}).json()
    assert {one["document"]["id"] for one in whole["results"]} == set(items) - {"lamp"}  # which is sold out
    assert all(items[one["index"]] == one["document"]["id"] for one in whole["results"])
    seen = {"model": PRODUCTS, "query": "keep warm", "fields": {"history": ["bag"]}, "top_n": 10}
    left = gateway.ask("/v1/rerank", seen).json()
    assert {one["document"]["id"] for one in left["results"]} == set(items) - {"lamp", "bag"}


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        (["a", {"id": "tent"}], "neither all texts nor all items"),
        ([{"sku": "a"}], "neither all texts nor all items"),
        ([{"id": "tent"}, {"id": "house"}], "house"),
        ([{"text": 5}], "documents"),
        ([5], "documents"),
    ],
)
def test_documents_that_are_refused(gateway: ServedGateway, documents: Any, said: str) -> None:
    answer = gateway.ask("/v1/rerank", {"model": PRODUCTS, "query": "a", "documents": documents})
    assert answer.status_code == 422
    assert said in answer.json()["error"]["message"]


def test_ten_thousand_candidates(gateway: ServedGateway) -> None:
    documents = [f"item {number}" for number in range(10_000)]
    answer = gateway.ask("/v2/rerank", {"model": PRODUCTS, "query": "a", "documents": documents, "top_n": 3})
    assert answer.status_code == 200
    assert len(answer.json()["results"]) == 3
    more = gateway.ask("/v2/rerank", {"model": PRODUCTS, "query": "a", "documents": [*documents, "one more"]})
    assert more.status_code == 422
    assert "10000" in more.json()["error"]["message"]
