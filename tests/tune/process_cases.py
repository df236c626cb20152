"""Trainings that must not depend on how many processes share them; run as a program, it is one of these processes.

python -m torch.distributed.run --nproc_per_node 2 -m tests.tune.process_cases BASES OUT
"""

import gc
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tests.base.tiny import save_tiny
from torch.distributed.tensor import DTensor

from shopfit.base.embed import LateEmbedder
from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example
from shopfit.merchant.merchant import Merchant
from shopfit.pipeline import trained_run
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry
from shopfit.reports import report_on
from shopfit.settings import Settings, sqlite_url
from shopfit.tune.run_context import prepare, with_whole_base
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import TrainingSet

KINDS = {  # none of them with dropout, which draws by what a process reads
    "decoder": ("llama", "AutoModelForCausalLM", {}),
    "encoder": ("bert", "AutoModel", {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}),
    "encoder-decoder": ("t5", "AutoModelForSeq2SeqLM", {"dropout_rate": 0.0, "decoder_start_token_id": 5}),
}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora"},
    "dora": {"method": "lora", "dora": True},
    "adalora": {"method": "adalora"},
    "prefix": {"method": "prefix", "virtual_tokens": 4},
}
PROMPTS = {
    "choose": "Review {text}\nSentiment:",
    "rank": "Search {text}\nProduct:",
    "rate": "Review {text}\nStars:",
    "generate": "Say {text}\n",
}
METRICS = {"choose": "accuracy", "rank": "mrr", "rate": "rmse", "generate": "exact_match"}
WORDS = ("tent", "warm bag", "stove", "walking boots", "lamp")
ITEMS = Catalog({name: Item(name, name.title(), {"id": name, "title": name.title()}) for name in WORDS})
STARS = {str(star): f" {star} stars" for star in range(1, 6)}
LABELS = {"choose": ("negative", "positive", "so so"), "rate": tuple(STARS)}
ROWS, ACCUMULATE = (1, 2, 3, 5, 9, 10, 16, 33), (1, 2, 4)


@dataclass(frozen=True)
class Case:
    """One training.

    Args:
        kind: of base.
        task: of the recipe.
        method: of `METHODS`.
        rows: to train on.
        accumulate: forwards a step, of 4 / accumulate rows on one process.
        tune: more of the recipe.
        adapter: more of it.
        held_out: examples to stop by.
    """

    kind: str
    task: str
    method: str
    rows: int
    accumulate: int
    tune: dict[str, Any] = field(default_factory=dict)
    adapter: dict[str, Any] = field(default_factory=dict)
    held_out: int = 0

    @property
    def epochs(self) -> int:
        return 2 if self.rows < 6 else 1

    @property
    def name(self) -> str:
        more = "".join(f" {key}={value}" for key, value in {**self.tune, **self.adapter}.items())
        return f"{self.kind} {self.task} {self.method} rows={self.rows} accumulate={self.accumulate}{more}"

    @property
    def recipe(self) -> Recipe:
        return Recipe.model_validate(
            {
                "name": "r",
                "task": self.task,
                "data": {"file": "x.jsonl"}
                | ({"catalog": "c.jsonl"} if self.task == "rank" else {})
                | ({"bounds": [1, 5]} if self.task == "rate" else {}),
                "prompt": {"template": PROMPTS[self.task]} | ({"labels": STARS} if self.task == "rate" else {}),
                "adapter": METHODS[self.method] | ({} if self.method == "prefix" else {"rank": 2}) | self.adapter,
                "tune": {
                    "lr": 1e-3,
                    "epochs": self.epochs,
                    "batch_size": 4 // self.accumulate,
                    "accumulate": self.accumulate,
                    "negatives": 2,
                }
                | self.tune,
                "evaluate": {"metric": METRICS[self.task]},
            }
        )

    @property
    def examples(self) -> list[Example]:
        """Rows of different lengths and weights, those held out last; where pushed, some show the same text."""
        found = []
        for row in range(self.rows + self.held_out):
            text = f"<{row}> {' '.join(WORDS[(row + more) % 5] for more in range(1 + row % 3))}"
            shown = found[-1].fields["text"] if row % 5 == 2 and self.tune.get("adversarial") else text
            found.append(
                Example(
                    str(row),
                    {"text": shown},
                    label=LABELS["choose"][row % 3],
                    relevant=(WORDS[row % 5],),
                    output=f"{WORDS[row % 5]} {row}",
                    score=1 + row % 5,
                    weight=1 + row % 4,
                )
            )
        return found


def cases() -> list[Case]:
    """Every task and method on every kind of base, each number of rows and forwards, and what couples rows."""
    rows, accumulate = cycle(ROWS), cycle(ACCUMULATE)
    found = [
        Case(kind, task, method, next(rows), next(accumulate))
        for kind in KINDS
        for task in PROMPTS
        for method in METHODS
        if (kind != "encoder" or task != "generate") and (kind == "decoder" or method != "prefix")
    ]
    for kind in KINDS:
        for times in (1, 2):
            both = {"adversarial": 0.5, "contrastive": 0.3}
            found.append(Case(kind, "choose", "adalora" if times == 1 else "lora", 11, times, both))
    for times in ACCUMULATE:
        found.append(Case("encoder", "rank", "lora", 7, times, {"negatives": 1}))
        found.append(Case("decoder", "rank", "adalora", 16, times, {"adversarial": 0.5}))
    return found


def sharded_cases() -> list[Case]:
    """What is trained on a sharded decoder: every task and method, where each process reads more often than the other
    and not at all, blocks that are read anew for their gradients, and blocks that are not read again.
    """
    found = [Case("decoder", task, method, 5, 2) for task, method in zip(PROMPTS, ("lora", "adalora") * 2, strict=True)]
    found.append(Case("decoder", "choose", "prefix", 1, 1))
    found.append(Case("decoder", "choose", "lora", 9, 4, {"adversarial": 0.5, "contrastive": 0.3}))
    found.append(Case("decoder", "generate", "lora", 6, 1, {"gradient_checkpointing": True}, held_out=3))
    found.append(Case("decoder", "choose", "lora", 7, 1, {}, {"layers": "last:1"}, held_out=5))
    return found


SHARDED = {"none": sharded_cases(), "nf4": sharded_cases()[1::2]}
"""What is trained on a sharded decoder, by its quantization."""


def save_bases(folder: Path) -> None:
    """A tiny random base of each kind."""
    for kind, (name, auto, settings) in KINDS.items():
        save_tiny(folder / kind, name, auto, **settings)


def load_bases(folder: Path) -> dict[str, Base]:
    bases = {kind: load_base(str(folder / kind), folder / "home") for kind in KINDS}
    gc.collect()
    gc.freeze()  # each training looks for garbage
    return bases


def load_decoder(folder: Path, quantization: str, *, sharded: bool = False) -> dict[str, Base]:
    """The decoder alone."""
    options = {"device": "cpu", "quantization": quantization, "sharded": sharded}
    return {"decoder": load_base(str(folder / "decoder"), folder / "home", **options)}


def part_held(base: Base) -> float:
    """The share of a sharded base's blocks that this process holds."""
    weights = [weight for weight in base.model.parameters() if isinstance(weight, DTensor)]
    return sum(weight.to_local().numel() for weight in weights) / sum(weight.numel() for weight in weights)


Trained = dict[str, Any]
"""What a training came to: its weights and losses, what its forwards read, and AdaLoRA's ranks at each."""


def train(case: Case, bases: dict[str, Base]) -> Trained:
    """Train one case, on as many processes as there are."""
    base, asked = bases[case.kind], case.recipe
    catalog = ITEMS if case.task == "rank" else None
    prompter = Prompter(asked, base.tokenizer, catalog, scorer=base.scorer)
    with watched(base) as (read, ranks):
        train, valid = case.examples[: case.rows], case.examples[case.rows :]
        training_set = TrainingSet(train, valid, LABELS.get(case.task, ()), prompter)
        tuned = Trainer(base, make_accelerator(asked)).fit(training_set, asked)
    state = tuned.adapter.state()
    tuned.adapter.detach()
    losses = [number for point in tuned.curve for number in (point.train_loss, point.valid) if number is not None]
    return {"state": state, "losses": losses, "read": read, "ranks": ranks}


@contextmanager
def watched(base: Base) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Numbers of the rows whose prompts are read with gradients, and AdaLoRA's ranks when they are."""
    read: list[int] = []
    ranks: list[list[int]] = []

    def look(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        if torch.is_grad_enabled() and base.model.training:
            texts = base.tokenizer.batch_decode(inputs[0])
            found = [int(number) for text in texts for number in re.findall(r"(?:Review|Search|Say) <(\d+)>", text)]
            read.extend(found)
            if found:
                values = [one for name, one in base.model.named_parameters() if "lora_E" in name]
                ranks.append([int((value != 0).sum()) for value in values])

    hook = base.model.get_input_embeddings().register_forward_pre_hook(look)
    try:
        yield read, ranks
    finally:
        hook.remove()


def measured(folder: Path, base: Base, accelerator: Accelerator) -> dict[str, Any]:
    """What comes of the job on a sharded base: the adapter is measured on a whole one, by the first process alone.

    Args:
        folder: with a merchant and a recipe.
        base: sharded.
        accelerator: of the run.
    """
    changes = [f"base={base.name}", "data.augment=[]", "tune.epochs=1", "start=scratch"]
    recipe = load_recipe(str(folder / "sentiment.yaml"), overrides=[*changes, f"quantization={base.quantization}"])
    settings = Settings(folder / "home", sqlite_url(folder / "home" / "registry.db"), str(folder / "home" / "blobs"))
    context = prepare(Merchant.open(folder / "acme"), recipe, settings=settings, accelerator=accelerator, base=base)
    embed = LateEmbedder(settings.home)
    with Registry.open(settings) as registry, trained_run(context, registry, settings=settings, embed=embed) as run:
        whole = with_whole_base(context, settings)
        if run is None:
            return {}
        report = report_on(replace(run.context, trainer=whole.trainer), run.bundle, embed, 0.0, run)
        return {"sharded": whole.base.sharded, "accuracy": report.adapter.metrics["accuracy"].value}


def main(bases: str, out: str) -> None:
    """Train all cases as one of several processes, and write what came of them."""
    loaded = load_bases(Path(bases))
    accelerator = make_accelerator(cases()[0].recipe)
    done = {case.name: train(case, loaded) for case in cases()}
    done["processes"] = {"processes": accelerator.num_processes}
    for quantization, trained in SHARDED.items():
        decoder = load_decoder(Path(bases), quantization, sharded=True)
        done[quantization] = {case.name: train(case, decoder) for case in trained}
        done[quantization]["held"] = {"held": part_held(decoder["decoder"])}
        done[quantization]["job"] = measured(Path(bases), decoder["decoder"], accelerator)
    torch.save(done, Path(out) / f"{accelerator.process_index}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
