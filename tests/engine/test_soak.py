"""Many callers, many adapters, little room: every answer is the right merchant's, none is lost, memory stays flat.

`make soak` runs it for a minute with 1,000 adapters; the test suite for a few seconds with fewer.
"""

import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from tests.solo import wearing

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.engine import ChooseRequest, Engine, GenerateRequest, Tenant
from shopfit.engine.offline_scoring import ask, ask_generate
from shopfit.registry import Registry
from shopfit.settings import Settings

QuickBundle = Callable[..., Bundle]
ADAPTERS = int(os.environ.get("SHOPFIT_SOAK_ADAPTERS", "60"))
SECONDS = float(os.environ.get("SHOPFIT_SOAK_SECONDS", "6"))
CALLERS = 64


def alone(base: Base, bundle: Bundle) -> Any:
    """What PEFT's own layers answer with this adapter and no other."""
    tenant = Tenant.of(bundle)
    prompter = Prompter(tenant.recipe, base.tokenizer)
    with wearing(base, bundle) as voice:
        if tenant.recipe.task == "choose":
            return list(ask(voice, prompter, [{"text": "lovely crema"}], labels=tenant.labels)[0])
        return ask_generate(voice, base, prompter, [{"input": "see at night"}])[0]


@pytest.mark.timeout(SECONDS + 540)
def test_under_load(base: Base, settings: Settings, quick_bundle: QuickBundle) -> None:
    tasks = ["generate" if number % 4 == 3 else "choose" for number in range(ADAPTERS)]
    with Registry.open(settings) as registry:
        want = []
        for number, task in enumerate(tasks):
            bundle = quick_bundle(f"m{number}", seed=number, task=task)
            want.append(alone(base, bundle))
            registry.publish(bundle, promote=True, actor="test")
        size = 64 * 1024 + 4 * sum(
            2 * (layer.in_features + layer.out_features)
            for name, layer in base.model.named_modules()
            if name.endswith("_proj")
        )
        budget = size * max(8, ADAPTERS // 10)
        engine = Engine(base, registry=registry, cache=settings.cache, slots=16, rows=16, memory=budget)
        wrong: list[str] = []
        counts = [0] * CALLERS
        until = time.monotonic() + SECONDS

        def call(caller: int) -> None:
            draw = random.Random(caller)
            asked = 0
            while asked == 0 or time.monotonic() < until:
                asked += 1
                number = min(ADAPTERS - 1, int(draw.paretovariate(0.6)) - 1)  # a few are asked often, most seldom
                reference = f"m{number}/r"
                try:
                    if tasks[number] == "choose":
                        request: Any = ChooseRequest(reference, {"text": "lovely crema"})
                        answer: Any = engine.submit(request).result(120)
                        right = list(answer.probabilities.values()) == pytest.approx(want[number], abs=1e-4)
                    else:
                        request = GenerateRequest(reference, {"input": "see at night"})
                        right = engine.submit(request).result(120).text == want[number]  # type: ignore[union-attr]
                except Exception as error:
                    wrong.append(f"{reference}: {error!r}")
                else:
                    if not right:
                        wrong.append(f"{reference} got another answer")
                    counts[caller] += 1

        threads = [threading.Thread(target=call, args=(caller,)) for caller in range(CALLERS)]
        for thread in threads:
            thread.start()
        time.sleep(SECONDS / 2)
        warm = psutil.Process().memory_info().rss
        for thread in threads:
            thread.join()
        grown = psutil.Process().memory_info().rss - warm
        status = engine.status()
        engine.close()
    assert wrong == []
    assert min(counts) > 0
    assert status.memory <= budget
    assert (status.waiting, status.writing) == (0, 0)
    assert grown < 64 * 1024**2
    print(f"{sum(counts)} answers, {status.swaps} swaps, {grown / 1024**2:.0f} MiB grown")
