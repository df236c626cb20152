"""The engine under traffic: many writers at once, adapters not seen before, a thousand of them with few slots."""

import random
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch

from shopfit.adapter.stack import Packed, Stack
from shopfit.base.load import Base, load_base
from shopfit.engine import ChooseRequest, Engine, GenerateRequest
from shopfit.engine.decoding import Decoder, GeneratedSequence
from shopfit.engine.detokenizer import IncrementalDetokenizer
from shopfit.libraries import quiet
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry
from shopfit.settings import Settings
from tests.bench.random_adapters import random_adapters
from tests.bench.results import Row, best_time, publish

ROWS, TOKENS, WRITTEN, RUNS = 32, 48, 32, 3
ADAPTERS, SLOTS, MEMORY, UNSEEN, FILL = 1000, 32, 1024**3, 20, 120
CHOICES, ANSWERS = 256, 96  # requests a measurement


def writing(base: Base, stack: Stack, hosts: Sequence[Packed], plain: Any) -> list[Row]:
    """32 requests of 48 tokens, 32 tokens written for each, every one with another adapter."""
    for slot in range(1, ROWS + 1):
        stack.put(slot, hosts[slot])
    draw = random.Random(0)
    prompts = [[draw.randrange(40_000) for _ in range(TOKENS)] for _ in range(ROWS)]

    def ours(slots: Sequence[int]) -> None:
        decoder = Decoder(base.model, base.tokenizer, base.scorer, stack=stack, end=frozenset())
        lines = [
            GeneratedSequence(p, IncrementalDetokenizer(base.tokenizer), WRITTEN, slot=s)
            for p, s in zip(prompts, slots, strict=True)
        ]
        decoder.join(lines)
        while decoder.take() == [] and decoder.sequences:
            decoder.step()

    def theirs() -> None:
        ids = torch.tensor(prompts)
        plain.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            min_new_tokens=WRITTEN,
            max_new_tokens=WRITTEN,
            do_sample=False,
            pad_token_id=base.tokenizer.pad_token_id,
        )

    with torch.inference_mode():
        peer = best_time(theirs, RUNS)
        mixed = best_time(lambda: ours(range(1, ROWS + 1)), RUNS)
        bare = best_time(lambda: ours([0] * ROWS), RUNS)
    what = f"{ROWS} x ({TOKENS} in, {WRITTEN} out)"
    return [
        Row(
            f"{what}, {ROWS} adapters; peer: transformers generate, no adapter",
            mixed,
            peer,
            "s",
            "at most 6.3 s",
            mixed <= 6.3,
            mixed / peer,
        ),
        Row(f"{what}, no adapter; peer: the same", bare, peer, "s", "", None, bare / peer),
    ]


def traffic(base: Base) -> list[Row]:
    """A registry of 1,000 adapters on local disk, asked by Zipf's law through 32 slots and 1 GB of host memory."""
    rows = []
    recipes = {task: _recipe(task) for task in ("choose", "generate")}
    with (
        random_adapters(base, recipes, ADAPTERS) as settings,
        Registry.open(settings) as registry,
        Engine(base, registry=registry, cache=settings.cache, slots=SLOTS, memory=MEMORY) as engine,
    ):
        new, newer = range(ADAPTERS - UNSEEN, ADAPTERS), range(ADAPTERS - 2 * UNSEEN, ADAPTERS - UNSEEN)
        rows.append(_first_request(engine, "a new process", new, reach=False))
        _ask(engine, "choose", range(FILL))
        rows.append(_first_request(engine, "host memory full", newer, reach=True))
        rows.append(_first_request(engine, "the same, kept on this machine's disk", new, reach=True))
        for task, count in (("choose", CHOICES), ("generate", ANSWERS)):
            _ask(engine, task, _zipf(count, seed=0))  # warm-up
            rounds = [
                (_throughput(engine, task, [0] * count), _throughput(engine, task, _zipf(count, seed=seed)))
                for seed in range(1, 1 + RUNS)
            ]
            single, many = (median(column) for column in zip(*rounds, strict=True))
            ratio = median(zipf / one for one, zipf in rounds)
            what = f"{task}, {ADAPTERS} adapters, Zipf 1.0, {SLOTS} slots; peer: one adapter"
            rows.append(Row(what, many, single, "1/s", "at least 0.95x", ratio >= 0.95, ratio))
        used = engine.status().memory / 1024**3
        rows.append(Row("host memory of adapters after all", used, None, "GB", "at most 1 GB", used <= 1))
    return rows


def _first_request(engine: Engine, when: str, numbers: Sequence[int], *, reach: bool) -> Row:
    """Added to a request by an adapter that is not in memory: one that nobody asked for before, or that left it.

    A process that still grows pays for new memory pages besides; one whose host memory is full takes those of the
    adapters that leave.
    """

    def ask(number: int) -> float:
        started = time.perf_counter()
        _ask(engine, "choose", [number])
        return time.perf_counter() - started

    added = 1e3 * median(ask(number) - ask(number) for number in numbers)  # first less second time
    what = f"first request for an unseen adapter, added; {when}"
    return Row(what, added, None, "ms", "at most 6 ms" if reach else "", added <= 6 if reach else None)


def _ask(engine: Engine, task: str, numbers: Sequence[int]) -> list[Any]:
    kind: Any = ChooseRequest if task == "choose" else GenerateRequest
    requests = [kind(f"m{number}/{task}", {"text": _text(place)}) for place, number in enumerate(numbers)]
    return [future.result() for future in [engine.submit(request) for request in requests]]


def _throughput(engine: Engine, task: str, numbers: Sequence[int]) -> float:
    """Requests (choose) or tokens (generate) a second."""
    started = time.perf_counter()
    answers = _ask(engine, task, numbers)
    seconds = time.perf_counter() - started
    if task == "choose":
        return len(answers) / seconds
    return sum(len(engine.base.tokenizer(answer.text)["input_ids"]) + 1 for answer in answers) / seconds


def _zipf(count: int, seed: int) -> list[int]:
    weights = [1 / (rank + 1) for rank in range(ADAPTERS)]
    return random.Random(seed).choices(range(ADAPTERS), weights, k=count)


def _text(number: int) -> str:
    """About 48 tokens."""
    words = ("tent", "stove", "rain", "warm", "light", "small", "good", "broken", "fast", "blue")
    draw = random.Random(number)
    return " ".join(draw.choice(words) for _ in range(TOKENS - 6))


def _recipe(task: str) -> Recipe:
    return Recipe.model_validate(
        {
            "name": task,
            "task": task,
            "data": {"file": "x.jsonl"},
            "prompt": {"template": "Review: {text}\nSentiment:"},
            "evaluate": {"metric": "auc" if task == "choose" else "exact_match"},
            "serve": {"max_new_tokens": WRITTEN},
        }
    )


if __name__ == "__main__":
    quiet()
    torch.set_num_threads(2)
    publish("bench-traffic", traffic(load_base("smollm2-135m", Settings.from_environment().home)))
