"""What an answer took: tokens that forwards read for it, tokens that it was written in, and how long it waited."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine.conftest import ITEMS, LABELS
from tests.engine.encoder_bundles import QUERIES, maker_on
from tests.engine.gate import GUARD, gated

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.engine import ChooseRequest, Engine, GenerateRequest, RankRequest, RateRequest, Tenant, TokenUsage
from shopfit.errors import DeadlineExceeded, ShopfitError
from shopfit.recipe.tasks import Task
from shopfit.tasks.choose import ChooseFusion

QuickBundle = Callable[..., Bundle]


def test_a_decoder_reads_prompt_and_answers_once(base: Base, quick_bundle: QuickBundle) -> None:
    chooser, rater = (Tenant.of(quick_bundle("acme", task=task, recipe=task)) for task in ("choose", "rate"))
    ranker = Tenant.of(quick_bundle("beta", task="rank"))
    text, query = {"text": "lovely crema"}, {"query": "keep warm"}
    with gated(base) as gate, Engine(base) as engine:
        for request, prompter, answers in (
            (ChooseRequest(chooser, text), Prompter(chooser.recipe, base.tokenizer), LABELS["choose"]),
            (RateRequest(rater, text), Prompter(rater.recipe, base.tokenizer), LABELS["rate"]),
            (RankRequest(ranker, query, list(ITEMS)), Prompter(ranker.recipe, base.tokenizer, ITEMS), list(ITEMS)),
        ):
            gate.rows.clear()
            answer = engine.answer([request])[0]
            of = prompter.item if isinstance(request, RankRequest) else prompter.label
            wanted = len(prompter.encode(request.fields)) + sum(len(of(name)) - 1 for name in answers)
            assert answer.read == wanted == sum(ids.numel() for ids in gate.rows)
            assert answer.written == 0
            assert answer.waited > 0


def test_an_encoder_reads_what_is_not_known_yet(encoder: Base, tmp_path: Path) -> None:
    tenant = Tenant.of(maker_on(encoder, tmp_path)("acme", "rank"))
    prompter = Prompter(tenant.recipe, encoder.tokenizer, tenant.catalog, scorer=encoder.scorer)
    items, query = sum(len(prompter.item(name)) for name in QUERIES), {"query": "cook for two"}
    asked = len(prompter.encode(query))
    request = RankRequest(tenant, query, list(QUERIES))
    with gated(encoder) as gate, Engine(encoder) as engine:
        gate.close()
        held = engine.submit(RankRequest(tenant, {"query": "walk"}, ["lamp"]))
        gate.wait_until_held()
        both = [engine.submit(request) for _ in range(2)]
        while engine.status().waiting < len(both):
            time.sleep(0.001)
        gate.open()
        held.result(GUARD)
        shared = [future.result(GUARD) for future in both]  # one forward computes each item for both
        later = engine.rank([request])[0]
    assert [answer.read for answer in shared] == [asked + items] * 2
    assert later.read == asked


@pytest.mark.parametrize("stop", [None, ["e"]])
def test_writing_is_counted_by_tokens(base: Base, quick_bundle: QuickBundle, stop: list[str] | None) -> None:
    tenant = Tenant.of(quick_bundle("acme", task="generate"))
    prompt = Prompter(tenant.recipe, base.tokenizer).encode({"input": "night"})
    with gated(base) as gate, Engine(base) as engine:
        for seed in range(8):
            gate.rows.clear()
            request = GenerateRequest(tenant, {"input": "night"}, 12, temperature=1.5, stop=stop, seed=seed)
            answer = engine.generate([request])[0]
            assert gate.rows[0].tolist() == [list(prompt)]
            assert answer.read == len(prompt)
            steps = len(gate.rows) - 1  # each reads the token before
            if answer.finish == "length":
                assert answer.written == 12 == steps + 1
            else:  # the last token is that of the stop, or the one that ends the answer, which is not counted
                assert answer.written in ({steps, steps + 1} if stop else {steps})


def test_no_forward_no_tokens(base: Base, quick_bundle: QuickBundle) -> None:
    blend = ChooseFusion(weights={"majority": 1.0}, shares=[0.2, 0.8])
    tenant = replace(Tenant.of(quick_bundle("acme")), blend=blend)
    with Engine(base) as engine:
        answer = engine.choose([ChooseRequest(tenant, {"text": "x"})])[0]
    assert (answer.read, answer.written, answer.waited) == (0, 0, 0.0)


def test_it_waits_until_its_first_forward(base: Base, quick_bundle: QuickBundle) -> None:
    writer, chooser = quick_bundle("acme", task="generate"), quick_bundle("beta", seed=1)
    with gated(base) as gate, Engine(base, queue=8, rows=3, slots=5) as engine:
        engine.choose([ChooseRequest(chooser, {"text": "x"})])
        gate.close()
        begun = time.monotonic()
        held = engine.submit(GenerateRequest(writer, {"input": "night"}, 3))
        gate.wait_until_held()
        waiting = [
            engine.submit(ChooseRequest(chooser, {"text": "y"})),
            engine.submit(GenerateRequest(writer, {"input": "day"}, 3)),
        ]
        submitted = time.monotonic()
        while engine.status().waiting < len(waiting):
            time.sleep(0.001)
        status = engine.status()
        assert (status.requests, status.queue, status.rows, status.slots) == (3, 8, 3, 5)
        opened = time.monotonic()
        gate.open()
        answers = [held.result(GUARD), *(future.result(GUARD) for future in waiting)]
        ended = time.monotonic()
    assert all(0 < answer.waited < ended - begun for answer in answers)
    assert all(answer.waited > opened - submitted for answer in answers[1:])
    assert engine.status().requests == 0


@pytest.mark.parametrize("task", ["choose", "generate"])
def test_what_was_read_is_told_of_a_request_that_is_cancelled(
    base: Base, quick_bundle: QuickBundle, task: Task
) -> None:
    request, usage = asked(quick_bundle("acme", task=task)), TokenUsage()
    with gated(base) as gate, Engine(base) as engine:
        gate.close()
        future = engine.submit(request, usage=usage)
        gate.wait_until_held()
        assert future.cancel()
        cancelled = usage.read
        gate.open()
        assert cancelled == engine.answer([request])[0].read > 0
    assert usage.read == cancelled


def test_what_was_read_and_written_is_told_of_a_request_that_is_late(base: Base, quick_bundle: QuickBundle) -> None:
    request, usage = asked(quick_bundle("acme", task="generate")), TokenUsage()
    with gated(base) as gate, Engine(base) as engine:
        read = engine.answer([request])[0].read
        gate.close()
        future = engine.submit(request, timeout=0.01, usage=usage)  # it may be late before its forward begins, too
        while not future.done() and not usage.read:
            time.sleep(0.001)
        time.sleep(0.02)  # it is late while its forward is held
        gate.open()
        with pytest.raises(DeadlineExceeded):
            future.result(GUARD)
    assert usage.read in {0, read}
    assert usage.written <= 1


@pytest.mark.parametrize("task", ["choose", "generate"])
def test_a_forward_that_fails_and_is_tried_again_is_read_once(
    base: Base, quick_bundle: QuickBundle, task: Task
) -> None:
    request = asked(quick_bundle("acme", task=task))
    with gated(base) as gate, Engine(base) as engine:
        read = engine.answer([request])[0].read
        gate.close()
        held = engine.submit(request)
        gate.wait_until_held()
        usages = [TokenUsage() for _ in range(4)]
        futures = [engine.submit(request, usage=usage) for usage in usages]
        while engine.status().waiting < len(futures):
            time.sleep(0.001)
        gate.fail(lambda ids: len(ids) > 0)
        gate.open()
        for future in (held, *futures):
            with pytest.raises(ShopfitError):
                future.result(GUARD)
    assert usages == [TokenUsage(read)] * 4


def asked(bundle: Bundle) -> ChooseRequest | GenerateRequest:
    if bundle.manifest.recipe_snapshot["task"] == "generate":
        return GenerateRequest(bundle, {"input": "night"}, 12)
    return ChooseRequest(bundle, {"text": "lovely crema"})


def test_answers_are_equal_however_long_they_took(base: Base, quick_bundle: QuickBundle) -> None:
    bundle = quick_bundle("acme")
    with Engine(base) as engine:
        first, second = (engine.choose([ChooseRequest(bundle, {"text": "x"})])[0] for _ in range(2))
    assert first == second
    assert first.waited != second.waited
