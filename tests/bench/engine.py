"""The stack: 32 merchants' adapters in one batch, against the bare base, plain and prepacked.

`make bench-engine`: rank-8 adapters on all linear layers of smollm2-135m, float32, two threads, the best of a few runs.
"""

import random
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from shopfit.adapter.adapted_model import Bare
from shopfit.adapter.stack import Packed, Stack
from shopfit.base.load import load_base
from shopfit.base.scoring.questions import Question
from shopfit.engine.offline_scoring import score
from shopfit.libraries import quiet
from shopfit.settings import Settings
from tests.bench.results import Row, best_time, publish
from tests.bench.traffic import traffic, writing

ROWS, TOKENS, RANK, RUNS, SWAPS, CANDIDATES = 32, 48, 8, 5, 400, 50


def measure() -> list[Row]:
    """The rows of this benchmark."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    base = load_base("smollm2-135m", Settings.from_environment().home)
    plain = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32).eval()
    ids = torch.randint(0, 40_000, (ROWS, TOKENS))
    stack = Stack(base, ROWS, rank=RANK)
    hosts = [Packed(RANK, torch.randn(stack.size(RANK)) * 0.01) for _ in range(ROWS + 8)]
    for slot in range(1, ROWS + 1):
        stack.put(slot, hosts[slot])
    in_order, mixed = list(range(1, ROWS + 1)), random.Random(0).sample(range(1, ROWS + 1), ROWS)
    bare = _prefill(plain, ids), decode_step(plain, ids)
    prepacked = _prefill(base.model, ids), decode_step(base.model, ids)
    rows = []
    slots_in_order = 0.0
    for name, slots in (("slot order", in_order), ("any order", mixed)):
        with stack.rows(slots):
            prefill = _prefill(base.model, ids)
        slots_in_order = slots_in_order or prefill
        with stack.rows(slots, decoding=True):
            decode = decode_step(base.model, ids)
        for peer, times, limit in (("bare base", bare, 1.15), ("bare base, prepacked", prepacked, 1.30)):
            rows.append(_slower(f"prefill, {name}; peer: {peer}", prefill, times[0], 1.10))
            rows.append(_slower(f"decode step, {name}; peer: {peer}", decode, times[1], limit))
    rows.append(_slower("prefill, slot order; peer: PEFT, mixed batch", slots_in_order, _peft(plain, ids), 1.0))
    rows.append(_swap(stack, hosts))
    rows.append(_rank(base))
    plain = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32).eval()
    return [*rows, *writing(base, stack, hosts, plain), *traffic(base)]


def _peft(model: Any, ids: torch.Tensor) -> float:
    """PEFT's own mixed batch: every adapter a set of modules of its own, each row named."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, target_modules="all-linear", init_lora_weights=False)
    peft = get_peft_model(model, config, adapter_name="a00")
    for number in range(1, ROWS):
        peft.add_adapter(f"a{number:02}", config)
    peft.eval()
    names = [f"a{number:02}" for number in range(ROWS)]
    with torch.inference_mode():
        return best_time(lambda: peft(input_ids=ids, use_cache=False, adapter_names=names, logits_to_keep=1), RUNS)


def _slower(what: str, ours: float, peer: float, limit: float) -> Row:
    return Row(what, ours, peer, "s", f"at most {limit:.2f}x", ours / peer <= limit, ours / peer)


def _prefill(model: Any, ids: torch.Tensor) -> float:
    with torch.inference_mode():
        return best_time(lambda: model.base_model(input_ids=ids, use_cache=False), RUNS)


def decode_step(model: Any, ids: torch.Tensor) -> float:
    """Seconds of one token for every row, behind a cache of as many as `ids` has."""
    from transformers import DynamicCache

    config = model.config
    heads, size = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    cache = DynamicCache()
    for layer in range(config.num_hidden_layers):
        cache.update(*torch.randn(2, len(ids), heads, ids.shape[1], size), layer)

    def step() -> None:
        model(input_ids=ids[:, :1], past_key_values=cache, use_cache=True)
        cache.crop(-1)

    with torch.inference_mode():
        return best_time(step, RUNS)


def _swap(stack: Stack, hosts: list[Packed]) -> Row:
    times = []
    for slot, host in enumerate(hosts):  # memory that was never touched is the machine's to bring, not ours
        stack.put(1 + slot % ROWS, host)
    for turn in range(SWAPS):
        started = time.perf_counter()
        stack.put(1 + turn % ROWS, hosts[turn % len(hosts)])
        times.append(time.perf_counter() - started)
    worst = sorted(times)[int(SWAPS * 0.99)] * 1e3
    return Row("host-resident adapter into a slot, p99", worst, None, "ms", "under 1 ms", worst < 1)


def _rank(base: Any) -> Row:
    """One prompt of 40 tokens and 50 titles of 8: as one tree, and as 50 prompts."""
    draw = random.Random(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(40_000) for _ in range(count))

    prompt, titles = tokens(40), tuple(tokens(8) for _ in range(CANDIDATES))
    bare = Bare(base.model)
    tree = best_time(lambda: score(bare, base.scorer, [Question(prompt, titles)]), RUNS)
    separate = best_time(lambda: score(bare, base.scorer, [Question(prompt, (title,)) for title in titles]), RUNS)
    ratio = separate / tree
    return Row(
        f"rank {CANDIDATES} candidates; peer: separate prompts", tree, separate, "s", "at least 3x", ratio >= 3, ratio
    )


if __name__ == "__main__":
    quiet()
    publish("bench-engine", measure())
