"""`make bench-quantized`: the memory that LoRA on a base in nf4 takes at its peak, over LoRA on it in float32.

A base of a 1B shape (TinyLlama's: 2,048 wide, 22 blocks) with random weights is loaded and trained on for a few steps
of four reviews, in a process of its own. It tells the most memory that it held at a time (VmHWM), less what it held
with all libraries imported and a tiny base trained on alike.
"""

import tempfile
from pathlib import Path

from shopfit.base.load import load_base
from shopfit.libraries import quiet
from shopfit.settings import Settings
from tests.bench.loading import make_base
from tests.bench.results import Row, in_own_process, publish
from tests.conftest import make_tiny_base

MOST, STEPS, BATCH = 0.45, 3, 4
SHAPE = {
    "hidden_size": 2048,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "intermediate_size": 5632,
    "vocab_size": 49_152,  # as smollm2-135m, whose tokenizer it has
}
_CHILD = """
import json, sys, time
from pathlib import Path
from shopfit.libraries import quiet, share_cores
share_cores()
quiet()
from shopfit.base.load import load_base
from shopfit.base.prompt import Prompter
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import TrainingSet
from tests.bench.results import memory
from tests.bench.tuning import reviews

def train(name):
    base = load_base(name, Path(home), device="cpu", dtype="float32", quantization=quantization)
    recipe, examples = reviews()
    tune = {"batch_size": int(batch), "steps": int(steps), "gradient_checkpointing": recomputed == "True"}
    tune = recipe.tune.model_copy(update=tune)
    recipe = recipe.model_copy(update={"tune": tune})
    rows = TrainingSet(examples[:16], [], (), Prompter(recipe, base.tokenizer))
    if name == folder:
        peaks.append(memory("VmHWM") - before)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    started = time.perf_counter()
    done = Trainer(base, make_accelerator(recipe)).fit(rows, recipe)
    return done.steps, time.perf_counter() - started

tiny, folder, home, quantization, batch, steps, recomputed = sys.argv[1:]
peaks = []
train(tiny)
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
steps, seconds = train(folder)
print(json.dumps({"load": peaks[0], "peak": memory("VmHWM") - before, "seconds": seconds / steps}))
"""


def measure(folder: Path, quantization: str, tiny: Path, home: Path, *, recomputed: bool) -> dict[str, float]:
    """Train on a base in a process of its own, with or without gradient checkpointing.

    Returns:
        "load", "peak": bytes over those before, while the base is loaded, and while it is trained on; "seconds": of a
            step.
    """
    return in_own_process(_CHILD, tiny, folder, home, quantization, BATCH, STEPS, recomputed)


def rows() -> list[Row]:
    """The rows of this benchmark."""
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        tiny, base = make_tiny_base(work / "tiny", seed=0), make_base(work / "base", "float32", **SHAPE)
        load_base("smollm2-135m", Settings.from_environment().home).tokenizer.save_pretrained(base)
        for recomputed in (False, True):
            plain, nf4 = (measure(base, kind, tiny, work, recomputed=recomputed) for kind in ("none", "nf4"))
            ratio, slower = nf4["peak"] / plain["peak"], nf4["seconds"] / plain["seconds"]
            what = f"LoRA on a 1B shape, activations {'recomputed' if recomputed else 'kept'}"
            peaks, limit = (nf4["peak"] / 1e9, plain["peak"] / 1e9), f"at most {MOST}x"
            found += [
                Row(f"{what}: nf4's peak; peer: float32's", *peaks, "GB", limit, ratio <= MOST, ratio),
                Row(f"{what}: the same, loading", nf4["load"] / 1e9, plain["load"] / 1e9, "GB", "", None),
                Row(f"{what}: a step of {BATCH}", nf4["seconds"], plain["seconds"], "s", "", None, slower),
            ]
    return found


if __name__ == "__main__":
    quiet()
    publish("bench-quantized", rows())
