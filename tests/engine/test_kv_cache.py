"""Rows of the cache are used again and again: what one merchant left there never reaches the next."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.engine.gate import GUARD, gated

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base, load_base
from shopfit.engine import ChooseRequest, Engine, GenerateRequest
from shopfit.errors import RequestError, ShopfitError

QuickBundle = Callable[..., Bundle]
ENDLESS = {"type": "string", "minLength": 20_000}
WORDS = {"type": "string", "minLength": 20, "maxLength": 30}


@pytest.mark.parametrize(
    ("dtype", "scale"), [("float32", 1e18), ("float32", 1e30), ("float16", 30.0), ("float16", 1e4), ("bfloat16", 1e18)]
)
def test_what_an_adapter_leaves_in_a_row_changes_nobodys_text(
    tiny_base: Path, home: Path, quick_bundle_on: Callable[[Base], QuickBundle], dtype: str, scale: float
) -> None:
    base = load_base(str(tiny_base), home, dtype=dtype)
    quick = quick_bundle_on(base)
    mine, long = quick("bob", seed=1, task="generate"), quick("carol", seed=2, task="generate")
    evil = quick("evil", seed=3, task="generate", scale=scale)
    with Engine(base, slots=8) as engine:

        def ask() -> str:
            return engine.generate([GenerateRequest(mine, {"input": "night"}, max_new_tokens=24, json_schema=WORDS)])[
                0
            ].text

        alone = ask()
        writing = engine.submit(GenerateRequest(long, {"input": "x"}, max_new_tokens=400, json_schema=ENDLESS))
        while not engine.status().writing:  # so that the memory of rows stays
            threading.Event().wait(0.001)
        want = ask()
        for _ in range(2):
            harm = GenerateRequest(evil, {"input": "word " * 60}, max_new_tokens=40, json_schema=ENDLESS)
            error = engine.submit(harm).exception(GUARD)
            assert error is None or isinstance(error, RequestError)
            assert ask() == want
        assert not writing.done()
        writing.cancel()
        assert ask() == alone


def test_an_adapter_whose_numbers_overflow_fails_its_own_requests(base: Base, quick_bundle: QuickBundle) -> None:
    good = quick_bundle("good", seed=1)
    huge = {task: quick_bundle("huge", seed=2, task=task, scale=1e30, recipe=task) for task in ("choose", "generate")}
    with Engine(base) as engine:
        futures = [
            engine.submit(ChooseRequest(good, {"text": "x"})),
            engine.submit(ChooseRequest(huge["choose"], {"text": "x"})),
            engine.submit(GenerateRequest(huge["generate"], {"input": "x"})),
        ]
        assert futures[0].result(GUARD)
        for future in futures[1:]:
            with pytest.raises(RequestError, match="not finite"):
                future.result(GUARD)


def test_a_forward_that_fails_is_tried_again_until_only_the_guilty_fail(base: Base, quick_bundle: QuickBundle) -> None:
    choose = [quick_bundle(f"m{number}", seed=number, recipe="c") for number in range(3)]
    write = [quick_bundle(f"m{number}", seed=number, task="generate") for number in range(3)]
    mark = base.tokenizer("FAIL box")["input_ids"][0]
    texts = ["lovely crema", "FAIL box", "wet", "cracked", "FAIL box", "quick delivery"]

    def ask(engine: Engine) -> list[object]:
        futures = [engine.submit(ChooseRequest(choose[n % 3], {"text": text})) for n, text in enumerate(texts)]
        futures += [
            engine.submit(GenerateRequest(write[n % 3], {"input": text}, max_new_tokens=12))
            for n, text in enumerate(texts)
        ]
        return [future.exception(GUARD) or future.result() for future in futures]

    with Engine(base) as engine:
        want = ask(engine)
    with gated(base) as gate, Engine(base) as engine:
        gate.fail(lambda ids: bool((ids == mark).any()))
        got = ask(engine)
        assert engine.status().ended == ""
    for place, (answer, right) in enumerate(zip(got, want, strict=True)):
        if texts[place % 6] == "FAIL box":
            assert isinstance(answer, ShopfitError)
            assert "this forward cannot be done" in str(answer)
        elif place < 6:
            assert answer.probabilities == pytest.approx(right.probabilities, abs=1e-5)  # type: ignore[attr-defined]
        else:
            assert answer == right


def test_a_step_that_fails_ends_one_answer(base: Base, quick_bundle: QuickBundle) -> None:
    bundles = [quick_bundle(f"m{number}", seed=number, task="generate") for number in range(4)]
    requests = [GenerateRequest(bundle, {"input": "see"}, max_new_tokens=30, json_schema=ENDLESS) for bundle in bundles]
    with Engine(base) as engine:
        want = engine.generate(requests)
    with gated(base) as gate, Engine(base) as engine:
        gate.close()
        hold = engine.submit(GenerateRequest(bundles[0], {"input": "x"}, max_new_tokens=1))
        gate.wait_until_held()
        futures = [engine.submit(request) for request in requests]
        while engine.status().waiting < len(requests):
            threading.Event().wait(0.001)
        bad = base.tokenizer(want[2].text)["input_ids"][12]
        gate.fail(lambda ids: ids.shape[1] == 1 and bool((ids == bad).any()))
        gate.open()
        hold.result(GUARD)
        outcomes = [future.exception(GUARD) for future in futures]
        for outcome, future, right in zip(outcomes, futures, want, strict=True):
            assert isinstance(outcome, ShopfitError) or future.result() == right
        assert any(outcome is not None for outcome in outcomes)
        assert engine.generate(requests[:1])
