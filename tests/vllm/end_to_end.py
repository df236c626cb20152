"""`make test-vllm`: real adapters on the packaged base, served by two vLLM servers behind Envoy.

It is no part of `make test`: vLLM has an environment of its own, whose binaries SHOPFIT_VLLM_BIN names.
"""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.serve.gateways import ServedGateway, serving
from tests.vllm.servers import post
from tests.vllm.world import MANY, QUESTIONS, REVIEWS, TOLD, World, running_world

from shopfit.engine import ChooseRequest, GenerateRequest
from shopfit.registry.pinned_name import PinnedName
from shopfit.serve.engines.upstream import UpstreamEngine

BINARIES = Path(os.environ["SHOPFIT_VLLM_BIN"])
MERCHANTS = ("acme", "crema", "foliant", "trailhead", "kiln")
GREEDY = {"acme": "acme/replies@1", "crema": "crema/replies", "adalora": "foliant/replies"}
"""By what an adapter is, what the gateway is asked for."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running_world(BINARIES, tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.mark.parametrize("what", ["acme", "crema", "adalora", "acme, next"])
def test_an_adapter_answers_as_the_embedded_engine(world: World, what: str) -> None:
    name = world.names[what]
    for server in world.servers:
        for question in QUESTIONS:
            assert world.ask(server, name, question) == (200, world.texts[name, question])


def test_merchants_have_answers_of_their_own(world: World) -> None:
    names = [world.names[what] for what in ("acme", "crema", "adalora")] + ["base"]
    answers = [world.ask(world.entry, name) for name in names]
    assert [status for status, _ in answers] == [200] * 4
    assert len({text for _, text in answers}) == 4
    # many at once, mixed in one batch: nobody gets another's
    asked = [(name, question) for name in names[:3] for question in QUESTIONS] * 3
    with ThreadPoolExecutor(len(asked)) as threads:
        told = list(threads.map(lambda each: world.ask(world.entry, *each), asked))
    assert told == [(200, world.texts[each]) for each in asked]


def test_a_promotion_needs_no_restart(world: World) -> None:
    def production() -> str:
        return str(PinnedName.of(world.registry.resolve("acme/replies")))

    before = production()
    assert before == world.names["acme"]
    first = world.ask(world.entry, before)
    world.registry.promote("acme/replies@2", actor="ada")
    after = production()
    assert after == world.names["acme, next"]
    assert world.ask(world.entry, after) == (200, world.texts[after, QUESTIONS[0]])
    assert world.ask(world.entry, after) != first
    assert world.ask(world.entry, before) == first  # a name never means anything else
    assert post(f"{world.servers[0].url}/v1/completions", {"model": "acme/replies", "prompt": "x"})[0] == 404


def test_the_gateways_engine_asks_them(world: World) -> None:
    """Prompts of our own, calibration and all: what `shopfit serve --upstream` answers with."""
    options = {"quantization": "none", "encoder": None, "queue": 64}
    with UpstreamEngine.load(
        world.entry.url, "smollm2-135m", registry=world.registry, settings=world.settings, **options
    ) as engine:
        for what in ("acme", "crema", "adalora"):
            name = world.names[what].partition(":")[0]
            parts: list[str] = []
            request = GenerateRequest(name, {"input": QUESTIONS[0]}, temperature=0.0)
            answer = engine.submit(request, show=parts.append).result()
            assert answer.text == "".join(parts) == world.texts[world.names[what], QUESTIONS[0]]
        name = world.names["reviews"].partition(":")[0]
        for (text, _), own in zip(REVIEWS, world.labels, strict=True):
            answer = engine.submit(ChooseRequest(name, {"text": text})).result()
            assert answer.label == own.label
            assert answer.probabilities == pytest.approx(own.probabilities, abs=1e-3)
            assert answer.digest == own.digest


@pytest.fixture(scope="module")
def gateway(world: World) -> Iterator[ServedGateway]:
    """`shopfit serve --upstream`, with a key of each merchant."""
    keys = {who: world.registry.create_key(who, ["infer", "promote"], actor="ada").token for who in MERCHANTS}
    keys["platform"] = world.registry.create_key(None, ["infer"], actor="ada").token
    log = world.settings.home / "gateway.log"
    with serving(world.settings, log, keys, "--upstream", world.entry.url) as served:
        yield served


def client(gateway: ServedGateway, merchant: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.keys[merchant], max_retries=0)


def said(question: str) -> Any:
    return [{"role": "user", "content": question}]


@pytest.mark.parametrize(("what", "model"), GREEDY.items())
def test_the_gateway_writes_what_the_embedded_engine_writes(
    world: World, gateway: ServedGateway, what: str, model: str
) -> None:
    with client(gateway, model.partition("/")[0]) as asks:
        for question in QUESTIONS:
            wanted = world.texts[world.names[what], question]
            options: dict[str, Any] = {"model": model, "temperature": 0}
            raw = asks.completions.with_raw_response.create(prompt=question, **options)
            whole = raw.parse()
            assert whole.choices[0].text == wanted
            assert whole.model == raw.headers["x-shopfit-version"] == world.names[what].partition(":")[0]
            assert whole.usage is not None
            assert whole.usage.prompt_tokens == len(world.prompts[question])
            chat = asks.chat.completions.create(messages=said(question), **options)
            assert chat.choices[0].message.content == wanted
            parts = list(asks.completions.create(prompt=question, stream=True, **options))
            assert "".join(part.choices[0].text for part in parts) == wanted
            assert parts[-1].choices[0].finish_reason == whole.choices[0].finish_reason
            turns = list(asks.chat.completions.create(messages=said(question), stream=True, **options))
            assert "".join(turn.choices[0].delta.content or "" for turn in turns) == wanted
            assert turns[-1].choices[0].finish_reason == chat.choices[0].finish_reason


def test_log_probabilities_are_those_of_the_embedded_engine(world: World, gateway: ServedGateway) -> None:
    options: dict[str, Any] = {"model": GREEDY[TOLD], "messages": said(QUESTIONS[0]), "temperature": 0}
    with client(gateway, "acme") as asks:
        whole = asks.chat.completions.create(logprobs=True, top_logprobs=2, **options).choices[0].logprobs
        streamed = asks.chat.completions.create(logprobs=True, top_logprobs=2, stream=True, **options)
        parts = [part.choices[0].logprobs for part in streamed]
    assert whole is not None
    for told in (whole.content or [], [token for part in parts if part for token in part.content or []]):
        assert [token.token for token in told] == [token.text for token in world.tokens]
        for token, own in zip(told, world.tokens, strict=True):
            assert token.logprob == pytest.approx(own.logprob, abs=1e-3)
            assert [(top.token, pytest.approx(top.logprob, abs=1e-3)) for top in token.top_logprobs] == list(own.top)


def test_an_answer_follows_its_schema(gateway: ServedGateway) -> None:
    schema = {
        "type": "object",
        "properties": {"word": {"enum": ["parcel", "boots"]}, "sure": {"type": "boolean"}},
        "required": ["word", "sure"],
        "additionalProperties": False,
    }
    named: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    with client(gateway, "acme") as asks:
        answer = asks.chat.completions.create(
            model="acme/replies", messages=said(QUESTIONS[0]), response_format=named, max_tokens=64
        )
    assert answer.choices[0].finish_reason == "stop"
    written = json.loads(answer.choices[0].message.content or "")
    assert written.keys() == {"word", "sure"}
    assert written["word"] in {"parcel", "boots"}


def test_the_gateway_chooses_as_the_embedded_engine(world: World, gateway: ServedGateway) -> None:
    answer = gateway.ask("/v1/classify", {"model": "acme/reviews", "input": [text for text, _ in REVIEWS]})
    assert answer.headers["x-shopfit-digest"] == world.labels[0].digest
    for found, own in zip(answer.json()["data"], world.labels, strict=True):
        assert found["label"] == own.label
        assert found["probabilities"] == pytest.approx(own.probabilities, abs=1e-3)


def test_merchants_who_ask_the_gateway_at_once_get_their_own(world: World, gateway: ServedGateway) -> None:
    asked = [(what, model, question) for what, model in GREEDY.items() for question in QUESTIONS] * 3

    def ask(what: str, model: str, question: str) -> tuple[str, str]:
        body = {"model": model, "prompt": question, "temperature": 0}
        answer = gateway.ask("/v1/completions", body, key=model.partition("/")[0])
        return answer.headers["x-shopfit-version"], answer.json()["choices"][0]["text"]

    with ThreadPoolExecutor(len(asked)) as threads:
        told = list(threads.map(lambda each: ask(*each), asked))
    names = [world.names[what] for what, _, _ in asked]
    assert told == [
        (name.partition(":")[0], world.texts[name, question])
        for name, (_, _, question) in zip(names, asked, strict=True)
    ]


def test_what_a_merchant_may_not_ask_or_vllm_cannot_serve(world: World, gateway: ServedGateway) -> None:
    before = [world.loaded(server) for server in world.servers]
    for model in ("crema/replies", "acme/replies@9", world.names["acme"], "base", ""):
        assert gateway.ask("/v1/completions", {"model": model, "prompt": "x"}).status_code == 404
    for merchant in ("trailhead", "kiln"):  # prefix and DoRA
        answer = gateway.ask("/v1/completions", {"model": f"{merchant}/replies", "prompt": "x"}, key=merchant)
        assert answer.status_code == 422
        assert "has no plain LoRA form" in answer.json()["error"]["message"]
    assert [world.loaded(server) for server in world.servers] == before


def test_a_promotion_through_the_gateway_needs_no_restart(world: World, gateway: ServedGateway) -> None:
    def ask() -> tuple[str, str]:
        body = {"model": "acme/replies", "prompt": QUESTIONS[0], "temperature": 0}
        answer = gateway.ask("/v1/completions", body)
        return answer.headers["x-shopfit-version"], answer.json()["choices"][0]["text"]

    for what, version in (("acme", "acme/replies@1"), ("acme, next", "acme/replies@2"), ("acme", "acme/replies@1")):
        assert gateway.ask("/v1/promote", {"model": version}).json()["version"] == version
        assert ask() == (version, world.texts[world.names[what], QUESTIONS[0]])
    world.registry.promote("acme/replies@2", actor="ada")  # by another process: seen without being told
    while ask()[0] != "acme/replies@2":
        pass
    assert ask()[1] == world.texts[world.names["acme, next"], QUESTIONS[0]]
    assert [each.poll() for each in (gateway.process, *(server.process for server in world.servers))] == [None] * 3


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("prefix", "is a prefix (method prefix), which has no plain LoRA form"),
        ("dora", "is DoRA (method lora), which has no plain LoRA form"),
    ],
)
def test_what_has_no_plain_lora_is_refused(world: World, what: str, why: str) -> None:
    server, name = world.servers[0], world.names[what]
    assert world.ask(server, name)[0] == 404
    assert f"{name} is not served" in server.log.read_text()
    assert why in server.log.read_text()


@pytest.mark.parametrize("name", ["acme/replies@1", "acme/replies@production", "../../etc@1:0000000000000000", "x"])
def test_other_names_are_not_the_base(world: World, name: str) -> None:
    before = world.loaded(world.servers[0])
    assert world.ask(world.servers[0], name)[0] == 404
    assert world.loaded(world.servers[0]) == before


def test_one_server_is_killed(world: World, gateway: ServedGateway) -> None:
    """Envoy gives each name to one server; when that is gone, to the other: what was in flight alone is lost.

    Every other client asks the gateway, which tells of what is lost.
    """
    names = [world.names[what] for what in ("acme", "crema", "adalora", "acme, next", *MANY)]
    stop = threading.Event()
    answers: list[tuple[float, str, int, str]] = []

    def ask_gateway(name: str) -> tuple[int, str]:
        body = {"model": name.partition(":")[0], "prompt": QUESTIONS[0], "temperature": 0}
        answer = gateway.ask("/v1/completions", body, key="platform")
        told = answer.json()
        return answer.status_code, told["choices"][0]["text"] if answer.is_success else told["error"]["message"]

    def ask_for_ever(place: int) -> None:
        turn = place
        while not stop.is_set():
            name, begun = names[turn % len(names)], time.monotonic()
            status, text = ask_gateway(name) if place % 2 else world.ask(world.entry, name)
            answers.append((begun, name, status, text))
            turn += 1

    def wait_for(count: int) -> None:
        until = len(answers) + count
        while len(answers) < until:
            time.sleep(0.05)

    before = world.served()
    clients = [threading.Thread(target=ask_for_ever, args=(place,)) for place in range(6)]
    for each in clients:
        each.start()
    wait_for(3 * len(names))
    served = [after - before for after, before in zip(world.served(), before, strict=True)]
    killed = max(range(2), key=lambda place: served[place])
    world.servers[killed].kill()
    gone = time.monotonic()
    wait_for(3 * len(names))
    stop.set()
    for each in clients:
        each.join()
    lost = [begun for begun, _, status, _ in answers if status != 200]
    counts = Counter(status for _, _, status, _ in answers)
    print(f"\nserved before the kill: {served}; answers {dict(counts)}, {len(lost)} of them lost in flight")
    assert all(count > 0 for count in served)
    assert all(begun <= gone for begun in lost), counts
    assert len(lost) <= len(clients)
    assert all(text == world.texts[name, QUESTIONS[0]] for _, name, status, text in answers if status == 200)
    for name in names:  # the other server answers for all of them now
        assert world.ask(world.entry, name) == (200, world.texts[name, QUESTIONS[0]])
        assert ask_gateway(name) == (200, world.texts[name, QUESTIONS[0]])
    assert world.loaded(world.servers[1 - killed]) >= set(names)
