"""`shopfit serve --upstream`: the same API, with the texts and labels of decoders answered by vLLM servers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.engine.conftest import quick_bundle, quick_bundle_on
from tests.serve.engines.vllm_stand_in import StandIn
from tests.serve.engines.vllm_stand_in import serving as standing_in
from tests.serve.gateways import ServedGateway, serving

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.engine import ChooseRequest, Engine, GenerateRequest
from shopfit.errors import ShopfitError
from shopfit.registry import Registry
from shopfit.serve.options import ServeOptions
from shopfit.settings import Settings

__all__ = ["quick_bundle", "quick_bundle_on"]

REVIEW, NEED = {"text": "lovely crema"}, {"input": "keep warm"}


@pytest.fixture
def server(base: Base) -> Iterator[StandIn]:
    with standing_in(base.model, base.tokenizer) as server:
        yield server


@pytest.fixture
def gateway(
    server: StandIn, settings: Settings, quick_bundle: Callable[..., Bundle], tmp_path: Path
) -> Iterator[ServedGateway]:
    with Registry.open(settings) as registry:
        for recipe, task in (("labels", "choose"), ("texts", "generate"), ("products", "rank")):
            registry.publish(quick_bundle("acme", recipe=recipe, task=task, scale=0.0), promote=True, actor="ada")
        keys = {"acme": registry.create_key("acme", ["infer"], actor="ada").token}
    with serving(settings, tmp_path / "gateway.log", keys, "--upstream", server.url) as served:
        yield served


def test_the_same_answers_by_way_of_vllm(
    gateway: ServedGateway, server: StandIn, base: Base, settings: Settings
) -> None:
    with Registry.open(settings) as registry, Engine(base, registry=registry, cache=settings.cache) as engine:
        (label,) = engine.choose([ChooseRequest("acme/labels", REVIEW)])
        (text,) = engine.generate([GenerateRequest("acme/texts", NEED)])
    answer = gateway.ask("/v1/classify", {"model": "acme/labels", "input": REVIEW["text"]})
    assert answer.json()["data"][0]["probabilities"] == pytest.approx(label.probabilities, abs=1e-5)
    assert answer.headers["x-shopfit-digest"] == label.digest
    body = {"model": "acme/texts", "prompt": NEED["input"], "temperature": 0}
    assert gateway.ask("/v1/completions", body).json()["choices"][0]["text"] == text.text
    lines = gateway.ask("/v1/completions", body | {"stream": True}).text.splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert "".join(choice["text"] for event in events for choice in event["choices"]) == text.text
    # what ranks is the gateway's own engine; and of vLLM's routes one is asked
    assert gateway.ask("/v1/recommend", {"model": "acme/products", "query": "cook"}).status_code == 200
    assert {asked["path"] for asked in server.asked} == {"/v1/completions"}


def test_nothing_else_of_vllm_is_reached(gateway: ServedGateway, server: StandIn) -> None:
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters", "/score", "/tokenize", "/metrics/x"):
        assert gateway.ask(path, {"lora_name": "acme/texts", "lora_path": "/etc"}).status_code in {404, 405}
    for model in ("", "base", "acme/texts@1:0123456789abcdef", "rival/texts"):
        assert gateway.ask("/v1/completions", {"model": model, "prompt": "x"}).status_code == 404
    assert server.asked == []


def test_a_vllm_that_is_down_is_said_to_be(gateway: ServedGateway, server: StandIn) -> None:
    server.fails = 500, "out of memory"
    answer = gateway.ask("/v1/classify", {"model": "acme/labels", "input": "lovely"})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    server.fails = None
    assert gateway.ask("/v1/classify", {"model": "acme/labels", "input": "lovely"}).status_code == 200


@pytest.mark.parametrize(
    "url", ["vllm:8080", "ftp://vllm", "http://vllm:8080/v1", "http://user:secret@vllm", "http://", "http://vllm?x=1"]
)
def test_an_upstream_that_is_none(url: str) -> None:
    with pytest.raises(ShopfitError, match="--upstream is"):
        ServeOptions(upstream=url)


def test_an_upstream() -> None:
    for url in ("http://vllm.internal:8080", "https://vllm/", "http://[::1]:8000"):
        assert ServeOptions(upstream=url).upstream == url
