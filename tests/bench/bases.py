"""Bases of other shapes than the packaged ones, with random weights: what adapters cost, and what the plain path costs.

`make bench-bases`: float32, two threads, the best of a few runs in turn; rank-8 adapters on all linear layers.
"""

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from shopfit.adapter.stack import Packed, Stack
from shopfit.base.load import Base, load_base
from shopfit.base.scoring.plain_causal import PlainCausalScorer
from shopfit.base.scoring.questions import Question
from shopfit.base.scoring.scorer import Scorer
from shopfit.engine.decoding import Decoder, GeneratedSequence
from shopfit.engine.detokenizer import IncrementalDetokenizer
from shopfit.libraries import quiet
from shopfit.settings import Settings
from tests.bench.results import Row, publish

ROWS, TOKENS, WRITTEN, ANSWERS, RANK, RUNS = 8, 48, 16, 4, 8, 5
SMALL = {  # the shape of smollm2-135m, a third as deep
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 10,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
}
HALF = {  # Qwen 2.5 of 0.5B parameters
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "tie_word_embeddings": True,
}


def measure() -> list[Row]:
    """The rows of this benchmark."""
    torch.set_num_threads(2)
    home = Settings.from_environment().home
    with tempfile.TemporaryDirectory() as folder:
        half = _base(Path(folder) / "half", "qwen2", HALF, home)
        rows = _adapted("0.5B shape (Qwen 2.5)", half)
        rows.append(_beside_peft(half))
        del half
        full = _base(Path(folder) / "full", "mistral", SMALL | {"sliding_window": None}, home)
        windows = _base(Path(folder) / "windows", "mistral", SMALL | {"sliding_window": 24}, home)
        for what, work in (("prefill", _prefill), ("writing", _write)):
            costs = [_cost(base, work) for base in (windows, full)]
            met = costs[0] <= 1.05 * costs[1]
            name = f"cost of adapters, {what}, sliding window; peer: full attention"
            rows.append(Row(name, costs[0], costs[1], "x bare", "within 5%", met, costs[0] / costs[1]))
        rows += _plain(full)
    return rows


def _base(folder: Path, kind: str, settings: dict[str, Any], home: Path) -> Base:
    """A base of a shape, with random weights and the tokenizer of smollm2-135m."""
    tokenizer = AutoTokenizer.from_pretrained(load_base("smollm2-135m", home).folder)
    config = AutoConfig.for_model(kind, **({"vocab_size": len(tokenizer)} | settings), eos_token_id=0, bos_token_id=0)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_base(str(folder), home)


def _stack(base: Base) -> Stack:
    stack = Stack(base, ROWS, rank=RANK)
    for slot in range(1, ROWS + 1):
        stack.put(slot, Packed(RANK, torch.randn(stack.size(RANK)) * 0.01))
    return stack


def _prompts() -> list[list[int]]:
    draw = random.Random(0)
    return [[draw.randrange(1, 40_000) for _ in range(TOKENS)] for _ in range(ROWS)]


def _prefill(base: Base, stack: Stack, slots: Sequence[int]) -> None:
    ids = torch.tensor(_prompts())
    with torch.inference_mode(), stack.rows(slots):
        base.model(input_ids=ids, use_cache=False, logits_to_keep=1)


def _write(base: Base, stack: Stack, slots: Sequence[int], scorer: Scorer[Any] | None = None) -> None:
    decoder = Decoder(base.model, base.tokenizer, scorer or base.scorer, stack=stack, end=frozenset())
    decoder.join(
        [
            GeneratedSequence(prompt, IncrementalDetokenizer(base.tokenizer), WRITTEN, slot=slot)
            for prompt, slot in zip(_prompts(), slots, strict=True)
        ]
    )
    while decoder.take() == [] and decoder.sequences:
        decoder.step()


def _choose(base: Base, stack: Stack, slots: Sequence[int], scorer: Scorer[Any]) -> None:
    questions = [
        Question(tuple(prompt), tuple((100 + at, 200 + at, 300 + at) for at in range(ANSWERS))) for prompt in _prompts()
    ]
    for question, slot in zip(questions, slots, strict=True):
        rows = scorer.plan([question]).rows
        with stack.rows([slot] * len(rows)):
            scorer.compute(base.model, rows)


def _cost(base: Base, work: Any) -> float:
    """Time with an adapter a row, over that of the bare base."""
    stack = _stack(base)
    ours, bare = _in_turn(lambda: work(base, stack, range(1, ROWS + 1)), lambda: work(base, stack, [0] * ROWS))
    return ours / bare


def _in_turn(one: Callable[[], object], other: Callable[[], object]) -> tuple[float, float]:
    """The best times of two pieces of work that take turns, so that what slows the machine down slows both."""
    one()
    other()
    times: list[list[float]] = [[], []]
    for _ in range(RUNS):
        for work, taken in zip((one, other), times, strict=True):
            started = time.perf_counter()
            work()
            taken.append(time.perf_counter() - started)
    return min(times[0]), min(times[1])


def _adapted(name: str, base: Base) -> list[Row]:
    rows = []
    for what, work in (("prefill", _prefill), ("prefill and writing", _write)):
        stack = _stack(base)
        ours, bare = _in_turn(
            lambda: work(base, stack, range(1, ROWS + 1)),  # noqa: B023 - called in the loop
            lambda: work(base, stack, [0] * ROWS),  # noqa: B023
        )
        title = f"{name}, {ROWS} rows, {ROWS} adapters, {what}; peer: no adapter"
        rows.append(Row(title, ours, bare, "s", "", None, ours / bare))
    return rows


def _beside_peft(base: Base) -> Row:
    """PEFT's own mixed batch: every adapter a set of modules of its own, each row named."""
    from peft import LoraConfig, get_peft_model

    stack = _stack(base)
    plain = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32).eval()
    config = LoraConfig(r=RANK, target_modules="all-linear", init_lora_weights=False)
    names = [f"a{number:02}" for number in range(ROWS)]
    peft = get_peft_model(plain, config, adapter_name=names[0])
    for name in names[1:]:
        peft.add_adapter(name, config)
    peft.eval()
    ids = torch.tensor(_prompts())
    with torch.inference_mode():
        ours, theirs = _in_turn(
            lambda: _prefill(base, stack, range(1, ROWS + 1)),
            lambda: peft(input_ids=ids, use_cache=False, adapter_names=names, logits_to_keep=1),
        )
    title = f"the same prefill, {ROWS} adapters; peer: PEFT, mixed batch"
    return Row(title, ours, theirs, "s", "", None, ours / theirs)


def _plain(base: Base) -> list[Row]:
    """One base with full attention on both paths."""
    rows, slots, scorer = [], range(1, ROWS + 1), PlainCausalScorer(base.scorer.pad)
    for what, work in ((f"choose among {ANSWERS}", _choose), ("prefill and writing", _write)):
        stack = _stack(base)
        plain, fast = _in_turn(
            lambda: work(base, stack, slots, scorer),  # noqa: B023 - called in the loop
            lambda: work(base, stack, slots, base.scorer),  # noqa: B023
        )
        title = f"plain path, {what}, {ROWS} rows; peer: fast path"
        rows.append(Row(title, plain, fast, "s", "at most 3x", plain <= 3 * fast, plain / fast))
    return rows


if __name__ == "__main__":
    quiet()
    publish("bench-bases", measure())
