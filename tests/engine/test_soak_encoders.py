"""Many callers on an encoder: prompts of all lengths and limits, with control tokens in them; every answer is the one
that is given alone.

`make soak` runs it for a minute with 1,000 adapters; the test suite for a few seconds with fewer.
"""

import json
import os
import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.engine.conftest import ITEMS, recipe_of, seal_as
from tests.solo import wearing

from shopfit.adapter.bundle import LORA, Bundle
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.engine import ChooseRequest, Engine, RankRequest, RecommendRequest, Tenant
from shopfit.engine.offline_scoring import ask
from shopfit.registry import Registry
from shopfit.settings import Settings

ADAPTERS = int(os.environ.get("SHOPFIT_SOAK_ADAPTERS", "24"))
SECONDS = float(os.environ.get("SHOPFIT_SOAK_SECONDS", "5"))
CALLERS = 32
LIMITS = (16, 24, 48, 128, 512)
POOL = ["tent", "bag", "stove", "boots"]
TEXTS = [
    "lovely crema",
    "the grinder arrived cracked and the box was wet " * 12,
    "购买了咖啡滤纸和两包埃塞俄比亚咖啡豆" * 12,
    "fine<|end|> and [SEP] more <|end|>",
    "x" * 3000,
    "https://x.example/" + "a1b2c3" * 40,
]


def random_bundle(base: Base, folder: Path, merchant: str, task: str, seed: int) -> Bundle:
    """An adapter with random weights, whose prompts have a limit of their own."""
    torch.manual_seed(seed)
    weights = {}
    for name, layer in base.model.named_modules():
        if name.endswith(("query", "value")):
            weights[f"base_model.model.{name}.lora_A.weight"] = torch.randn(2, layer.in_features) / 4
            weights[f"base_model.model.{name}.lora_B.weight"] = torch.randn(layer.out_features, 2) / 4
    config = {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "r": 2,
        "lora_alpha": 2,
        "target_modules": ["query", "value"],
    }
    (folder / LORA).mkdir(parents=True)
    save_file(weights, folder / LORA / "adapter_model.safetensors")
    (folder / LORA / "adapter_config.json").write_text(json.dumps(config))
    prompt = {
        "template": "{text}" if task == "choose" else "{query} {history}",
        "max_tokens": LIMITS[seed % len(LIMITS)],
    }
    return seal_as(folder, base, recipe_of(base, task, prompt=prompt), merchant, method="lora", rank=2, seed=seed)


def alone(base: Base, bundle: Bundle) -> list[Mapping[str, float]]:
    """What PEFT's own layers answer to each text with this adapter and no other."""
    tenant = Tenant.of(bundle)
    prompter = Prompter(tenant.recipe, base.tokenizer, tenant.catalog, scorer=base.scorer)
    with wearing(base, bundle) as voice:
        if tenant.recipe.task == "choose":
            found = ask(voice, prompter, [{"text": text} for text in TEXTS], labels=tenant.labels)
            return [dict(zip(tenant.labels, row.tolist(), strict=True)) for row in found]
        found = ask(voice, prompter, [{"query": text} for text in TEXTS], pools=[POOL] * len(TEXTS))
        return [dict(zip(POOL, row.tolist(), strict=True)) for row in found]


def request_of(task: str, reference: str, text: str, draw: random.Random) -> Any:
    if task == "choose":
        return ChooseRequest(reference, {"text": text})
    if draw.random() < 0.5:
        return RankRequest(reference, {"query": text}, draw.sample(POOL, 3), 3)
    return RecommendRequest(reference, {"query": text})


def said(answer: Any) -> dict[str, float]:
    if hasattr(answer, "probabilities"):
        return dict(answer.probabilities)
    return {item.id: item.score for item in answer.items}


@pytest.mark.timeout(SECONDS + 540)
def test_under_load(encoder: Base, settings: Settings, tmp_path: Path) -> None:
    assert set(POOL) <= set(ITEMS)
    tasks = ["rank" if number % 3 == 2 else "choose" for number in range(ADAPTERS)]
    with Registry.open(settings) as registry:
        want = []
        for number, task in enumerate(tasks):
            bundle = random_bundle(encoder, tmp_path / f"m{number}", f"m{number}", task, number)
            want.append(alone(encoder, bundle))
            registry.publish(bundle, promote=True, actor="test")
        for task in ("choose", "rank"):  # no two adapters could be taken for each other
            first = sorted(
                round(min(row[0].values()), 3) for row, kind in zip(want, tasks, strict=True) if kind == task
            )
            assert len(set(first)) > len(first) // 2
        engine = Engine(encoder, registry=registry, cache=settings.cache, slots=8)
        wrong: list[str] = []
        counts = [0] * CALLERS
        until = time.monotonic() + SECONDS

        def call(caller: int) -> None:
            draw = random.Random(caller)
            while time.monotonic() < until or not counts[caller]:
                number = min(ADAPTERS - 1, int(draw.paretovariate(0.6)) - 1)  # a few are asked often, most seldom
                place = draw.randrange(len(TEXTS))
                request = request_of(tasks[number], f"m{number}/r", TEXTS[place], draw)
                try:
                    got = said(engine.submit(request).result(120))
                except Exception as error:
                    wrong.append(f"m{number}, {TEXTS[place][:20]!r}: {error!r}")
                else:
                    wanted = {name: want[number][place][name] for name in got}
                    if not got or got != pytest.approx(wanted, abs=1e-4):
                        wrong.append(f"m{number}, {TEXTS[place][:20]!r}: {got}, and alone {wanted}")
                counts[caller] += 1

        threads = [threading.Thread(target=call, args=(caller,)) for caller in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        engine.close()
    assert wrong == []
    print(f"{sum(counts)} answers")
