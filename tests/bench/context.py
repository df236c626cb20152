"""`python -m tests.bench.context DATA`: what a decoder gets from few examples without training, against LoRA.

The base, without its bias between labels, behind the keys and values of the examples (with and without the bias that
they bring), and trained as the recipe says. Options: `--set reviews/apparel` or `intents/banking`, `--shots 4,8,16,32`,
`--seeds 3`, `--test 40`, `--words 20` for texts of no more words.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from shopfit.adapter.initial_weights import Start
from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter
from shopfit.evaluation.metrics import measure
from shopfit.libraries import quiet
from shopfit.merchant.examples import Example
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.sampling import draw_balanced
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.schema import Recipe
from shopfit.settings import Settings
from shopfit.tune.merchant_dataset import MerchantDataset
from shopfit.tune.trainer import Trainer, held_out_answers, make_accelerator
from shopfit.tune.training_dataset import TrainingSet
from shopfit.warm_start.untrained import CALIBRATED, CONTEXT, untrained_start
from tests.bench.shops import intent_shop, review_shop

METRICS = ("macro_f1", "accuracy", "log_loss")
_RECIPES = {  # of the set: its recipe, and settings
    "reviews": ("review-sentiment", ("base=smollm2-135m", "prompt.max_tokens=128")),
    "intents": ("support-intent", ("data.file=intents.jsonl", "base=smollm2-135m", "tune.epochs=4", "tune.lr=5e-4")),
}


def systems(base: Base, recipe: Recipe, shop: TrainingSet) -> Iterator[tuple[str, Start]]:
    """Each name, and what it starts from; one that is not kept as it is is trained."""
    yield "base", Start(kept=True)
    yield "base without bias", untrained_start(CALIBRATED, base, recipe, shop)
    behind = untrained_start(CONTEXT, base, recipe, shop)
    yield "context", replace(behind, offsets=())
    yield "context without bias", behind
    yield "LoRA", Start()


def measured(base: Base, recipe: Recipe, shop: TrainingSet, test: Sequence[Example]) -> Iterator[tuple[str, ...]]:
    """A line a system: its name, metrics and seconds."""
    for name, start in systems(base, recipe, shop):
        started, accelerator = time.perf_counter(), make_accelerator(recipe)
        tuned = Trainer(base, accelerator).fit(shop, recipe, start=start)
        took = time.perf_counter() - started
        answers = held_out_answers(tuned.adapter, base, recipe, replace(shop, valid=test), accelerator)
        tuned.adapter.detach()
        found = measure(answers, list(METRICS), 1)
        yield name, *(f"{found[metric]:.3f}" for metric in METRICS), f"{took:.0f} s"


def main() -> None:
    """Print the lines of every draw."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("data", type=Path)
    options.add_argument("--set", default="reviews/apparel")
    options.add_argument("--shots", default="4,8,16,32")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--test", type=int, default=40)
    options.add_argument("--words", type=int, default=20)
    given = options.parse_args()
    kind, _, name = given.set.partition("/")
    shipped, changes = _RECIPES[kind]
    base = load_base("smollm2-135m", Settings.from_environment().home)
    with tempfile.TemporaryDirectory() as place:
        source = given.data / kind
        made = (
            review_shop(source, Path(place), name)
            if kind == "reviews"
            else intent_shop(source / "clinc_dev.json", Path(place), name)
        )
        for seed in range(given.seeds):
            recipe = load_recipe(shipped, overrides=[*changes, f"tune.seed={seed}"])
            splits = MerchantDataset.read(Merchant.open(made), recipe).splits
            known, asked = (
                [row for row in rows if len(str(row.fields["text"]).split()) <= given.words]
                for rows in ([*splits.train, *splits.valid], splits.test)
            )
            test = random.Random(0).sample(asked, min(given.test, len(asked)))
            for shots in map(int, given.shots.split(",")):
                rows = draw_balanced(known, shots, f"{seed}")
                shop = TrainingSet(rows, [], splits.labels, Prompter(recipe, base.tokenizer, scorer=base.scorer))
                for line in measured(base, recipe, shop, test):
                    print(given.set, f"seed {seed}", f"{shots} examples", *line, sep=" | ", flush=True)


if __name__ == "__main__":
    quiet()
    main()
