"""`make bench-loading`: the memory that loading a base takes at its peak, over that of its weights.

A base of the shape of Qwen2-0.5B with random weights is loaded in a process of its own, which tells the most memory
that it held at a time (VmHWM), less what it held with all libraries imported and a tiny base loaded.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from shopfit.libraries import quiet
from tests.bench.results import Row, in_own_process, publish
from tests.conftest import make_tiny_base, tiny_tokenizer

MOST = 1.15
SIZES = {"float32": 4, "bfloat16": 2}
_CHILD = """
import json, sys, time
from pathlib import Path
from shopfit.base.load import load_base
from shopfit.base.prepack import count_weights
from shopfit.libraries import quiet
from tests.bench.results import memory

quiet()
tiny, folder, home, dtype = sys.argv[1:]
load_base(tiny, Path(home), device="cpu", dtype=dtype)
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
started = time.perf_counter()
base = load_base(folder, Path(home), device="cpu", dtype=dtype)
seconds = time.perf_counter() - started
print(json.dumps({"peak": memory("VmHWM") - before, "after": memory("VmRSS") - before, "seconds": seconds,
    "numbers": count_weights(base.model)}))
"""


def make_base(folder: Path, dtype: str, **sizes: int) -> Path:
    """A base of the shape of Qwen2-0.5B, with random weights.

    Args:
        folder: to make.
        dtype: that it is saved in.
        sizes: settings of its config that are otherwise.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape: dict[str, Any] = {
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "intermediate_size": 4864,
        "vocab_size": 151_936,
    }
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = Qwen2Config(**(shape | sizes), tie_word_embeddings=True, max_position_embeddings=2048, **ids)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config).to(getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size="500MB")
    tiny_tokenizer().save_pretrained(folder)
    return folder


def measure(folder: Path, dtype: str, tiny: Path, home: Path) -> dict[str, float]:
    """Load a base in a process of its own.

    Returns:
        "peak" and "after": bytes over those before; "seconds"; "numbers": of its weights.
    """
    return in_own_process(_CHILD, tiny, folder, home, dtype)


def rows() -> list[Row]:
    """The rows of this benchmark."""
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        tiny = make_tiny_base(work / "tiny", seed=0)
        for saved in SIZES:
            base = make_base(work / saved, saved)
            for dtype, size in SIZES.items():
                print(f"== loading: saved in {saved}, loaded in {dtype}", file=sys.stderr)
                once = measure(base, dtype, tiny, work)
                print(f"   {once}", file=sys.stderr)
                weights = once["numbers"] * size
                what = f"0.5B, {saved} files in {dtype}"
                ratio = once["peak"] / weights
                found += [
                    Row(
                        f"{what}: peak (peer: its weights)",
                        once["peak"] / 1e9,
                        weights / 1e9,
                        "GB",
                        f"at most {MOST}x",
                        ratio <= MOST,
                        ratio,
                    ),
                    Row(f"{what}: loaded", once["seconds"], None, "s", "", None),
                ]
    return found


if __name__ == "__main__":
    quiet()
    publish("bench-loading", rows())
