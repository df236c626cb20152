"""Whatever stands beside it in a forward, a merchant's answers are what they are without it, to the last bit.

How numbers are rounded depends on the shape of a batch, as in any engine that batches. So a hostile neighbour is held
against a harmless one whose rows take as much room; and against nobody at all within the rounding of the shape.
"""

import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.conftest import ITEMS
from tests.engine.gate import GUARD, gated

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base, load_base
from shopfit.engine import ChooseRequest, Engine, GenerateRequest, RankRequest, Tenant
from shopfit.errors import ShopfitError

QuickBundle = Callable[..., Bundle]
DTYPES = ["float32", "bfloat16", "float16"]
LONGEST = "lovely crema " * 60
EVILS = ["huge", "blank", "longest", "cancelled", "late", "failing", "unknown", "wrong task", "mute"]
CASES = max(12, int(os.environ.get("SHOPFIT_FUZZ_CASES", "0")) // 100)  # each makes two engines


def answers(futures: Sequence[Future[Any]]) -> list[Any]:
    """What can be held against each other, to the last bit."""
    found: list[Any] = []
    for future in futures:
        answer = future.result(GUARD)
        if hasattr(answer, "probabilities"):
            found.append(dict(answer.probabilities))
        elif hasattr(answer, "items"):
            found.append([(item.id, item.score) for item in answer.items])
        else:
            found.append((answer.text, answer.finish))
    return found


def numbers(found: Any) -> list[float]:
    if isinstance(found, dict):
        return list(found.values())
    return [score for _, score in sorted(found)] if isinstance(found, list) else []


class Shop:
    """A merchant that asks three things, and its neighbours."""

    def __init__(self, base: Base, quick: QuickBundle) -> None:
        self.base = base
        self.mine = {
            task: quick("bob", seed=seed, task=task) for seed, task in enumerate(("choose", "rank", "generate"))
        }
        self.calm = {task: quick("calm", seed=5 + seed, task=task) for seed, task in enumerate(self.mine)}
        scale = 1e4 if base.model.dtype is torch.float16 else 1e30
        self.huge = {task: quick("huge", seed=9 + seed, task=task, scale=scale) for seed, task in enumerate(self.mine)}

    def ask(self, engine: Engine) -> list[Future[Any]]:
        choose, rank, generate = self.mine.values()
        bare = Tenant("bob", Tenant.of(choose).recipe, ("negative", "positive"))
        return [
            engine.submit(ChooseRequest(choose, {"text": "lovely crema"})),
            engine.submit(ChooseRequest(bare, {"text": "lovely crema"})),
            engine.submit(RankRequest(rank, {"query": "keep warm"}, list(ITEMS)[:3], 3)),
            engine.submit(GenerateRequest(generate, {"input": "see at night"}, max_new_tokens=24)),
        ]

    def stand_beside(self, engine: Engine, kind: str, task: str, *, calm: bool) -> list[Future[Any]]:
        """One neighbour; its harmless likeness has the same text for the same task, and means no harm."""
        bundle = self.calm[task] if calm or kind != "huge" else self.huge[task]
        text = LONGEST if kind == "longest" else "wet box"
        options: dict[str, Any] = {}
        if kind == "late":
            options["timeout"] = 1e9 if calm else 0.0
        if kind == "mute" and task == "generate" and not calm:
            options["show"] = _raise
        if not calm and kind == "blank":
            return [engine.submit(self._request(self.calm[task], task, " "))]
        if not calm and kind == "unknown":
            return [engine.submit(self._request("../x", task, text))]
        if not calm and kind == "wrong task":
            other = {"choose": "rank", "rank": "generate", "generate": "choose"}[task]
            return [engine.submit(self._request(self.calm[other], task, text))]
        future = engine.submit(self._request(bundle, task, "FAIL box" if kind == "failing" else text), **options)
        if kind == "cancelled" and not calm:
            future.cancel()
        return [future]

    @staticmethod
    def _request(adapter: Any, task: str, text: str) -> Any:
        match task:
            case "choose":
                return ChooseRequest(adapter, {"text": text})
            case "rank":
                return RankRequest(adapter, {"query": text}, list(ITEMS)[:3], 3)
            case _:
                return GenerateRequest(adapter, {"input": text}, max_new_tokens=24)


def _raise(_: str) -> None:
    raise SystemExit(1)


def settled(futures: Sequence[Future[Any]]) -> None:
    for future in futures:
        if not future.cancelled():
            error = future.exception(GUARD)
            assert error is None or isinstance(error, ShopfitError)


@pytest.fixture(params=DTYPES)
def shop(request: pytest.FixtureRequest, tiny_base: Path, home: Path, quick_bundle_on: Callable[..., Any]) -> Shop:
    base = load_base(str(tiny_base), home, dtype=request.param)
    return Shop(base, quick_bundle_on(base))


REFUSED = {"blank", "late", "cancelled", "unknown", "wrong task"}
"""Neighbours that never come into a forward: beside them is beside nobody."""


def ask_beside(shop: Shop, beside: Sequence[tuple[str, str]], *, calm: bool) -> list[Any]:
    """What the merchant is answered when all that stands beside it waits for the same forward."""
    mark = shop.base.tokenizer("FAIL box")["input_ids"][0]
    with gated(shop.base) as gate, Engine(shop.base, slots=16, rows=16) as engine:
        if not calm:
            gate.fail(lambda ids: bool((ids == mark).any()))
        gate.close()
        hold = engine.submit(GenerateRequest(shop.mine["generate"], {"input": "x"}, max_new_tokens=1))
        gate.wait_until_held()
        mine = shop.ask(engine)
        wait_for(engine, len(mine))
        theirs: list[Future[Any]] = []
        for place, (kind, task) in enumerate(beside):
            theirs += shop.stand_beside(engine, kind, task, calm=calm)
            settled_or_waiting(engine, theirs, len(mine) + place + 1)
        gate.open()
        hold.result(GUARD)
        found = answers(mine)
        settled(theirs)
    return found


def wait_for(engine: Engine, rows: int) -> None:
    while engine.status().waiting < rows:
        threading.Event().wait(0.001)


def settled_or_waiting(engine: Engine, theirs: Sequence[Future[Any]], most: int) -> None:
    """Until each neighbour waits for a forward, or is over: so that who comes first is the same each time."""
    while engine.status().waiting < most - sum(future.done() for future in theirs):
        threading.Event().wait(0.001)


beside = st.lists(st.tuples(st.sampled_from(EVILS), st.sampled_from(["choose", "rank", "generate"])), max_size=6)
hypothesis_settings = settings(
    max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@hypothesis_settings
@given(beside)
def test_beside_anyone_as_beside_nobody(shop: Shop, beside: list[tuple[str, str]]) -> None:
    hostile, nobody = ask_beside(shop, beside, calm=False), ask_beside(shop, [], calm=True)
    exact = shop.base.model.dtype is torch.float32
    for got, want in zip(hostile, nobody, strict=True):
        assert all(map(math.isfinite, numbers(got)))
        assert numbers(got) == pytest.approx(numbers(want), abs=1e-4 if exact else 0.2)
    if exact:
        assert hostile[-1] == nobody[-1]  # what is written, to the letter


@hypothesis_settings
@given(beside.map(lambda evils: [evil for evil in evils if evil[0] != "failing"]))
def test_the_same_bits_as_beside_a_harmless_one(shop: Shop, beside: list[tuple[str, str]]) -> None:
    hostile = ask_beside(shop, beside, calm=False)
    harmless = ask_beside(shop, [evil for evil in beside if evil[0] not in REFUSED], calm=True)
    assert hostile[:-1] == harmless[:-1]
