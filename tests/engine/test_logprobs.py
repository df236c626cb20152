"""Log-probabilities of written tokens: the model's own, and the same whether streamed or not."""

import asyncio
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tests.engine.gate import GUARD, gated
from tests.solo import wearing

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.engine import ChooseRequest, Engine, GenerateAnswer, GenerateRequest, Tenant, TextPart
from shopfit.errors import RequestError

MakeBundle = Callable[..., Bundle]
COLOURS = {"type": "object", "properties": {"a": {"enum": ["red", "blue"]}}, "required": ["a"]}
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"temperature": 1.7, "top_p": 0.8, "seed": 3},
    "penalised": {"frequency_penalty": 1.5, "presence_penalty": -0.5},
    "schema": {"temperature": 1.0, "seed": 5, "json_schema": COLOURS},
}
HALF = "\ufffd"


def ask(engine: Engine, bundle: Bundle, **options: Any) -> GenerateAnswer:
    given = {"logprobs": 4, "max_new_tokens": 24, **options}
    return engine.generate([GenerateRequest(bundle, {"input": "night"}, **given)])[0]


def fed(rows: Sequence[torch.Tensor]) -> list[int]:
    """The tokens of the one answer that forwards read, but for the last one, which none reads."""
    return [int(ids[0, 0]) for ids in rows[1:]]


@pytest.mark.parametrize("method", ["lora", "prefix"])
@pytest.mark.parametrize("way", WAYS)
def test_they_are_those_of_a_plain_forward(base: Base, make_bundle: MakeBundle, method: str, way: str) -> None:
    bundle = make_bundle("acme", task="generate", method=method)
    prompt = Prompter(Tenant.of(bundle).recipe, base.tokenizer).encode({"input": "night"})
    with gated(base) as gate, Engine(base) as engine:
        gate.rows.clear()  # a new engine tries its base
        answer = ask(engine, bundle, **WAYS[way])
        tokens = fed(gate.rows)
    with wearing(base, bundle) as worn, torch.inference_mode():
        ids = torch.tensor([[*prompt, *tokens]])
        logits = (worn.model if worn.peft is None else worn.peft)(input_ids=ids).logits[0].float()
        logs = logits.log_softmax(-1)[len(prompt) - 1 :]
    written = answer.tokens
    assert len(written) == answer.written
    assert len(written) >= len(tokens) > 2
    for token, made, row in zip(tokens, written, logs, strict=False):
        assert made.text == base.tokenizer.decode([token])
        assert made.logprob == pytest.approx(float(row[token]), abs=1e-4)
        best = row.topk(4)
        assert [log for _, log in made.top] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert made.top[0][0] == base.tokenizer.decode([int(best.indices[0])])
    if way == "greedy":
        assert all(made.logprob == made.top[0][1] for made in written)
    if way == "schema":
        assert answer.output is not None
        assert any(made.logprob < made.top[-1][1] for made in written)  # tokens that only the schema led to


def test_rows_that_ask_for_none_answer_as_ever(base: Base, quick_bundle: MakeBundle) -> None:
    """In one batch with others, of several adapters: each has what it has alone."""
    bundles = [quick_bundle(f"m{seed}", seed=seed, task="generate") for seed in range(4)]
    wanted = [0, None, 20, None, 3, 1]
    requests = [
        GenerateRequest(bundles[place % 4], {"input": f"night {place}"}, 16, 1.0, seed=place, logprobs=number)
        for place, number in enumerate(wanted)
    ]
    with Engine(base) as engine:
        chosen = engine.submit(ChooseRequest(quick_bundle("beta", seed=9), {"text": "x"}))
        together = engine.generate(requests)
        alone = [engine.generate([request])[0] for request in requests]
        assert chosen.result(GUARD)
    for answer, other, number in zip(together, alone, wanted, strict=True):
        assert (answer.text, answer.written) == (other.text, other.written)
        assert [token.text for token in answer.tokens] == [token.text for token in other.tokens]
        assert [token.logprob for token in answer.tokens] == pytest.approx(
            [token.logprob for token in other.tokens], abs=1e-4
        )
        assert len(answer.tokens) == (0 if number is None else answer.written)
        assert all(len(token.top) == number for token in answer.tokens)


def begins_of(base: Base, tokens: Sequence[int]) -> list[int]:
    """Before which character of the text each token begins."""
    texts = [base.tokenizer.decode(tokens[:number], skip_special_tokens=True) for number in range(len(tokens))]
    return [len(text.rstrip(HALF)) for text in texts]


@pytest.mark.parametrize("seed", range(12))
def test_streamed_parts_have_the_tokens_of_their_text(base: Base, quick_bundle: MakeBundle, seed: int) -> None:
    """Also with halves of characters, white space and a stop in the middle of a token."""
    bundle = quick_bundle("acme", task="generate")
    options = {"temperature": 1.5, "seed": seed, "max_new_tokens": 40}
    with gated(base) as gate, Engine(base) as engine:
        gate.rows.clear()  # a new engine tries its base
        free = ask(engine, bundle, **options)
        tokens = fed(gate.rows)
        raw = base.tokenizer.decode(tokens, skip_special_tokens=True)
        middle = raw[len(raw) // 2 :].strip(HALF)
        stops = [[], [middle[:1]], [middle[:3]], ["never there", middle[:7]]]
        for stop in stops:
            stop = [text for text in stop if text and HALF not in text]
            parts: list[str] = []
            given = GenerateRequest(bundle, {"input": "night"}, logprobs=4, stop=stop, **options)
            answer = engine.submit(given, show=parts.append).result(GUARD)
            whole = engine.generate([given])[0]
            assert answer == whole
            assert "".join(parts) == answer.text
            assert all(isinstance(part, TextPart) for part in parts)
            streamed = [token for part in parts if isinstance(part, TextPart) for token in part.tokens]
            assert tuple(streamed) == answer.tokens == free_tokens(free, base, tokens, raw, stop)
            shown, count = "", 0
            for part in parts:
                assert isinstance(part, TextPart)
                shown, count = shown + part, count + len(part.tokens)
                if count < len(tokens):  # what was shown is of the tokens so far
                    text = base.tokenizer.decode(tokens[:count], skip_special_tokens=True)
                    assert re.sub(r"^[\s\ufffd]+", "", text).startswith(shown)


def free_tokens(free: GenerateAnswer, base: Base, tokens: Sequence[int], raw: str, stop: Sequence[str]) -> Any:
    """Those of the answer without a stop that begin before it."""
    cut = min((raw.find(text) for text in stop if text in raw), default=None)
    if cut is None:
        return free.tokens
    return free.tokens[: sum(begin < cut for begin in begins_of(base, tokens))]


def test_a_slow_listener_gets_parts_joined_with_their_tokens(base: Base, quick_bundle: MakeBundle) -> None:
    bundle = quick_bundle("acme", task="generate")
    go, parts = threading.Event(), []

    def show(part: str) -> None:
        assert go.wait(GUARD)
        parts.append(part)

    with gated(base) as gate, Engine(base, rows=1) as engine:
        request = GenerateRequest(bundle, {"input": "night"}, 40, 1.0, seed=1, logprobs=1)
        gate.close()
        future = engine.submit(request, show=show)
        gate.wait_until_held()
        gate.open()
        engine.generate([GenerateRequest(bundle, {"input": "day"}, 1)])  # begins when the row is free again
        go.set()
        answer = future.result(GUARD)
        plain: list[str] = []
        engine.submit(GenerateRequest(bundle, {"input": "night"}, 40, 1.0, seed=1), show=plain.append).result(GUARD)
    assert len(parts) <= 2
    assert "".join(parts) == answer.text == "".join(plain)
    assert tuple(token for part in parts for token in part.tokens) == answer.tokens
    assert {type(part) for part in plain} == {str}


def test_an_async_stream_has_them_too(base: Base, quick_bundle: MakeBundle) -> None:
    bundle = quick_bundle("acme", task="generate")
    request = GenerateRequest(bundle, {"input": "night"}, 20, 1.0, seed=2, logprobs=0)

    async def listen(engine: Engine) -> list[Any]:
        return [part async for part in engine.stream(request)]

    with Engine(base) as engine:
        parts = asyncio.run(listen(engine))
        answer = engine.generate([request])[0]
    assert "".join(parts) == answer.text
    assert tuple(token for part in parts for token in part.tokens) == answer.tokens


@pytest.mark.parametrize("logprobs", [-1, 21, True, 1.5, "3"])
def test_how_many_is_bounded(base: Base, quick_bundle: MakeBundle, logprobs: Any) -> None:
    bundle = quick_bundle("acme", task="generate")
    with Engine(base) as engine, pytest.raises(RequestError, match=r"logprobs is .* .allowed: 0 to 20"):
        ask(engine, bundle, logprobs=logprobs)


def test_a_paused_answer_goes_on_with_its_tokens(base: Base, quick_bundle: MakeBundle) -> None:
    """With one row for two merchants, each has turns."""
    requests = [
        GenerateRequest(
            quick_bundle(f"m{seed}", seed=seed, task="generate"), {"input": "x"}, 150, 1.2, seed=4, logprobs=1
        )
        for seed in range(2)
    ]
    with gated(base) as gate, Engine(base, rows=1) as engine:
        wanted = [engine.generate([request])[0] for request in requests]
        gate.close()
        parts: list[Any] = []
        futures = [
            engine.submit(request, show=parts.append if place == 0 else None) for place, request in enumerate(requests)
        ]
        gate.wait_until_held()
        while engine.status().waiting < 1:
            threading.Event().wait(0.001)
        gate.open()
        found = [future.result(GUARD) for future in futures]
    for answer, right in zip(found, wanted, strict=True):
        assert answer.text == right.text
        assert [token.text for token in answer.tokens] == [token.text for token in right.tokens]
        pairs = zip(answer.tokens, right.tokens, strict=True)
        assert all(token.logprob == pytest.approx(other.logprob, abs=1e-4) for token, other in pairs)
    assert tuple(token for part in parts for token in part.tokens) == found[0].tokens


def test_a_neighbour_whose_numbers_overflow_changes_none(base: Base, quick_bundle: MakeBundle) -> None:
    mine, evil = quick_bundle("acme", task="generate"), quick_bundle("evil", seed=1, task="generate", scale=1e38)
    with Engine(base) as engine:
        wanted = ask(engine, mine)
        harm = engine.submit(GenerateRequest(evil, {"input": "x"}, 24, logprobs=20))
        found = ask(engine, mine)
        with pytest.raises(RequestError, match="not finite"):
            harm.result(GUARD)
    assert found.text == wanted.text
    assert [token.logprob for token in found.tokens] == pytest.approx(
        [token.logprob for token in wanted.tokens], abs=1e-4
    )
