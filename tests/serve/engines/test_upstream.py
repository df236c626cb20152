"""The engine that asks vLLM: its answers are our own engine's, and what can go wrong on the way is told."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.engine.conftest import make_bundle, quick_bundle, quick_bundle_on, trained
from tests.serve.engines.vllm_stand_in import StandIn, serving

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.engine import ChooseRequest, Engine, ExplainRequest, GenerateRequest, RankRequest, RateRequest, TokenUsage
from shopfit.errors import (
    BaseError,
    BundleError,
    DeadlineExceeded,
    EngineEnded,
    Overloaded,
    RequestError,
    ShopfitError,
    UnknownReference,
)
from shopfit.registry import Registry
from shopfit.registry.pinned_name import PinnedName
from shopfit.serve.engines.upstream import UpstreamEngine
from shopfit.settings import Settings

__all__ = ["make_bundle", "quick_bundle", "quick_bundle_on", "trained"]

MakeBundle = Callable[..., Bundle]
REVIEW = {"text": "lovely crema"}
NEED = {"input": "keep warm"}


@pytest.fixture
def registry(settings: Settings) -> Iterator[Registry]:
    with Registry.open(settings) as registry:
        yield registry


@pytest.fixture
def server(base: Base) -> Iterator[StandIn]:
    with serving(base.model, base.tokenizer) as server:
        yield server


@pytest.fixture
def upstream(server: StandIn, base: Base, registry: Registry, settings: Settings) -> Iterator[Any]:
    with UpstreamEngine.load(
        server.url, base.name, registry=registry, settings=settings, quantization="none", encoder=None, queue=4
    ) as engine:
        yield engine


@pytest.fixture
def embedded(base: Base, registry: Registry, settings: Settings) -> Iterator[Engine]:
    with Engine(base, registry=registry, cache=settings.cache) as engine:
        yield engine


def publish(registry: Registry, bundle: Bundle) -> str:
    return registry.publish(bundle, promote=True, actor="ada").name


def failure(engine: Any, request: Any, **options: Any) -> BaseException | None:
    return engine.submit(request, **options).exception()


def test_a_label_has_the_probability_that_our_own_engine_gives(
    upstream: Any, embedded: Engine, registry: Registry, quick_bundle: MakeBundle, server: StandIn
) -> None:
    name = publish(
        registry, quick_bundle("acme", scale=0.0)
    )  # an adapter that changes nothing, as the stand-in has none
    answer = upstream.submit(ChooseRequest(name, REVIEW)).result()
    (own,) = embedded.choose([ChooseRequest(name, REVIEW)])
    assert answer.probabilities == pytest.approx(own.probabilities, abs=1e-5)
    assert (answer.version, answer.digest, answer.read) == (own.version, own.digest, own.read)
    (asked,) = server.asked
    assert asked["model"] == str(PinnedName.of(registry.resolve(name)))
    assert asked["path"] == "/v1/completions"
    assert server.headers[0]["x-shopfit-adapter"] == asked["model"]


def test_a_rating_is_that_of_our_own_engine(
    upstream: Any, embedded: Engine, registry: Registry, quick_bundle: MakeBundle, server: StandIn
) -> None:
    name = publish(registry, quick_bundle("acme", task="rate", scale=0.0))
    answer = upstream.submit(RateRequest(name, REVIEW)).result()
    (own,) = embedded.rate([RateRequest(name, REVIEW)])
    assert answer.score == pytest.approx(own.score, abs=1e-4)
    assert answer.read == own.read
    assert len(server.asked) == 1


def test_a_text_is_what_our_own_engine_writes(
    upstream: Any, embedded: Engine, registry: Registry, quick_bundle: MakeBundle, server: StandIn
) -> None:
    name = publish(registry, quick_bundle("acme", task="generate", scale=0.0))
    parts: list[str] = []
    answer = upstream.submit(GenerateRequest(name, NEED), show=parts.append).result()
    (own,) = embedded.generate([GenerateRequest(name, NEED)])
    assert (answer.text, answer.finish, answer.read, answer.written) == (own.text, own.finish, own.read, own.written)
    assert "".join(parts) == answer.text
    (asked,) = server.asked
    assert asked["temperature"] == 0.0
    assert asked["repetition_penalty"] == 1.0  # whatever the base's generation_config.json says


@pytest.mark.parametrize(("task", "fields"), [("choose", REVIEW), ("generate", NEED), ("rank", {"query": "keep warm"})])
def test_a_request_is_understood_as_by_our_own_engine(
    upstream: Any,
    embedded: Engine,
    registry: Registry,
    quick_bundle: MakeBundle,
    server: StandIn,
    task: str,
    fields: Any,
) -> None:
    request = ExplainRequest(publish(registry, quick_bundle("acme", task=task)), fields)
    assert upstream.submit(request).result() == embedded.answer([request])[0]
    assert not server.asked


def test_a_control_token_in_a_text_stays_text(
    upstream: Any, base: Base, registry: Registry, quick_bundle: MakeBundle, server: StandIn
) -> None:
    name = publish(registry, quick_bundle("acme", task="generate"))
    upstream.submit(GenerateRequest(name, {"input": "keep <|end|> warm"})).result()
    assert base.tokenizer.eos_token_id not in server.asked[0]["prompt"]


def test_options_and_log_probabilities(
    upstream: Any, registry: Registry, quick_bundle: MakeBundle, server: StandIn
) -> None:
    name = publish(registry, quick_bundle("acme", task="generate", scale=0.0))
    request = GenerateRequest(name, NEED, max_new_tokens=3, temperature=0.5, top_p=0.9, stop=["\n"], seed=7, logprobs=1)
    parts: list[Any] = []
    answer = upstream.submit(request, show=parts.append).result()
    asked = server.asked[0]
    assert {name: asked[name] for name in ("max_tokens", "temperature", "top_p", "stop", "seed", "logprobs")} == {
        "max_tokens": 3,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["\n"],
        "seed": 7,
        "logprobs": 1,
    }
    assert len(answer.tokens) == answer.written
    assert all(token.logprob == -0.5 and token.top == ((token.text, -0.5),) for token in answer.tokens)
    assert tuple(token for part in parts for token in getattr(part, "tokens", ())) == answer.tokens
    upstream.submit(GenerateRequest(name, NEED, json_schema={"type": "object"})).result()
    assert server.asked[1]["structured_outputs"] == {"json": {"type": "object"}}


@pytest.mark.parametrize("stop", [slice(0, None), slice(1, 3), slice(3, None)])
def test_the_tokens_of_a_stop_are_none_of_the_answer(
    upstream: Any, embedded: Engine, registry: Registry, quick_bundle: MakeBundle, stop: slice
) -> None:
    name = publish(registry, quick_bundle("acme", task="generate", scale=0.0))
    whole = embedded.generate([GenerateRequest(name, NEED, max_new_tokens=12, logprobs=1)])[0]
    word = next(token.text for token in whole.tokens if token.text[:1] == " " and len(token.text) > 3)
    request = GenerateRequest(name, NEED, max_new_tokens=12, logprobs=1, stop=[word[stop], "never"])
    (own,) = embedded.generate([request])
    parts: list[Any] = []
    answer = upstream.submit(request, show=parts.append).result()
    assert (answer.text, answer.finish, answer.written) == (own.text, "stop", own.written)
    assert [token.text for token in answer.tokens] == [token.text for token in own.tokens]
    assert "".join(parts) == answer.text
    assert tuple(token for part in parts for token in getattr(part, "tokens", ())) == answer.tokens


def test_the_token_for_the_end_is_none_of_the_answer(
    upstream: Any, embedded: Engine, registry: Registry, quick_bundle: MakeBundle, server: StandIn
) -> None:
    name = publish(registry, quick_bundle("acme", task="generate", scale=0.0))
    server.ends_after = 5
    parts: list[Any] = []
    answer = upstream.submit(GenerateRequest(name, NEED, logprobs=1), show=parts.append).result()
    (own,) = embedded.generate([GenerateRequest(name, NEED, max_new_tokens=5, logprobs=1)])
    assert (answer.text, answer.finish, answer.written) == (own.text, "stop", 5)
    assert [token.text for token in answer.tokens] == [token.text for token in own.tokens]
    assert tuple(token for part in parts for token in getattr(part, "tokens", ())) == answer.tokens


def test_other_tasks_are_our_own_engines(
    upstream: Any, embedded: Engine, registry: Registry, quick_bundle: MakeBundle, server: StandIn
) -> None:
    name = publish(registry, quick_bundle("acme", task="rank"))
    request = RankRequest(name, {"query": "cook"})
    assert upstream.submit(request).result() == embedded.rank([request])[0]
    assert server.asked == []
    assert upstream.status().slots > 0


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (400, RequestError, "vLLM refuses the request: no such thing"),
        (404, BundleError, "the vLLM servers do not serve acme/r@1:"),
        (429, Overloaded, "too much to do"),
        (503, Overloaded, "too much to do"),
        (500, EngineEnded, "a vLLM server failed (500): no such thing"),
    ],
)
@pytest.mark.parametrize("task", ["choose", "generate"])
def test_what_vllm_says_is_told(
    upstream: Any,
    registry: Registry,
    quick_bundle: MakeBundle,
    server: StandIn,
    status: int,
    kind: type[ShopfitError],
    said: str,
    task: str,
) -> None:
    name = publish(registry, quick_bundle("acme", task=task))
    server.fails = status, "no such thing"
    request = ChooseRequest(name, REVIEW) if task == "choose" else GenerateRequest(name, NEED)
    error = failure(upstream, request)
    assert type(error) is kind
    assert said in str(error)


def test_a_stream_that_breaks_off_is_an_error(
    upstream: Any, registry: Registry, quick_bundle: MakeBundle, server: StandIn
) -> None:
    name = publish(registry, quick_bundle("acme", task="generate", scale=0.0))
    server.breaks_after = 1
    error = failure(upstream, GenerateRequest(name, NEED))
    assert isinstance(error, EngineEnded)


def test_nobody_answers(base: Base, registry: Registry, settings: Settings, quick_bundle: MakeBundle) -> None:
    name = publish(registry, quick_bundle("acme"))
    with UpstreamEngine.load(
        "http://127.0.0.1:1",
        base.name,
        registry=registry,
        settings=settings,
        quantization="none",
        encoder=None,
        queue=4,
    ) as upstream:
        assert isinstance(failure(upstream, ChooseRequest(name, REVIEW)), EngineEnded)


def test_a_request_that_is_cancelled_ends_on_the_server(
    upstream: Any, registry: Registry, quick_bundle: MakeBundle, server: StandIn
) -> None:
    name = publish(registry, quick_bundle("acme", task="generate", scale=0.0))
    server.holds.set()
    began: list[str] = []
    usage = TokenUsage()
    future = upstream.submit(GenerateRequest(name, NEED), show=began.append, usage=usage)
    while not began:
        assert not future.done()
    future.cancel()
    assert server.left.wait(60)
    assert upstream.status().requests == 0
    assert usage == TokenUsage(len(server.asked[0]["prompt"]), 1)  # it costs what was done


def test_time_is_up(upstream: Any, registry: Registry, quick_bundle: MakeBundle, server: StandIn) -> None:
    name = publish(registry, quick_bundle("acme", task="generate", scale=0.0))
    server.holds.set()
    assert isinstance(failure(upstream, GenerateRequest(name, NEED), timeout=0.5), DeadlineExceeded)
    assert server.left.wait(60)


def test_what_a_server_refuses_costs_nothing(
    upstream: Any, registry: Registry, quick_bundle: MakeBundle, server: StandIn
) -> None:
    server.fails = 503, "no room"
    for task, request in (("generate", GenerateRequest), ("choose", ChooseRequest)):
        name = publish(registry, quick_bundle("acme", recipe=task, task=task, scale=0.0))
        usage = TokenUsage()
        with pytest.raises(Overloaded):
            upstream.submit(request(name, NEED if task == "generate" else REVIEW), usage=usage).result()
        assert usage == TokenUsage()


def test_there_is_a_most_of_requests_under_way(
    upstream: Any, registry: Registry, quick_bundle: MakeBundle, server: StandIn
) -> None:
    name = publish(registry, quick_bundle("acme", task="generate", scale=0.0))
    server.holds.set()
    futures = [upstream.submit(GenerateRequest(name, NEED)) for _ in range(4)]
    with pytest.raises(Overloaded):
        upstream.submit(GenerateRequest(name, NEED))
    for future in futures:
        future.cancel()


def test_what_vllm_cannot_serve_is_refused_before_it_is_asked(
    upstream: Any,
    registry: Registry,
    make_bundle: MakeBundle,
    server: StandIn,
) -> None:
    prefix = publish(registry, make_bundle("acme", task="generate", method="prefix"))
    error = failure(upstream, GenerateRequest(prefix, NEED))
    assert isinstance(error, RequestError)
    assert "(method prefix) has no plain LoRA form" in str(error)
    assert isinstance(failure(upstream, GenerateRequest("acme/none@1", NEED)), UnknownReference)
    assert isinstance(failure(upstream, ChooseRequest(prefix, REVIEW)), RequestError)
    assert server.asked == []


def test_an_adapter_of_another_base_is_refused(
    server: StandIn, other_base: Any, registry: Registry, settings: Settings, quick_bundle: MakeBundle
) -> None:
    name = publish(registry, quick_bundle("acme"))
    with UpstreamEngine.load(
        server.url, str(other_base), registry=registry, settings=settings, quantization="none", encoder=None, queue=4
    ) as upstream:
        assert isinstance(failure(upstream, ChooseRequest(name, REVIEW)), BaseError)
    assert server.asked == []


def test_an_encoder_is_served_by_our_own_engine(server: StandIn, encoder: Base, settings: Settings) -> None:
    with (
        Registry.open(settings) as registry,
        UpstreamEngine.load(
            server.url, encoder.name, registry=registry, settings=settings, quantization="none", encoder=None, queue=4
        ) as engine,
    ):
        assert isinstance(engine, Engine)
