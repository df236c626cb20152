"""`make bench-layers`: what changing the last blocks of a base alone costs in quality, and gains in time.

Every recipe that has an encoder as its base, and reviews on each packaged base, on the sample merchants, trained from
scratch on all examples, once for each setting: which blocks, how many epochs, at which rate, how many negatives.
Answers without blend or calibration.
`DATA=path` adds shopping_intent (64 examples; 200 of its test rows), intents of CLINC150 (75 questions of each of three
domains) and reviews of two shops (64 examples, 200 test rows).
Options, for a part of it: `--sets trailhead/product,shopping`, `--settings "all/last:2"`, `--seeds 2`, `--threads 1`.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean

import torch

from shopfit.base.load import Base, load_base
from shopfit.evaluation.assess import ask
from shopfit.evaluation.metrics import measure
from shopfit.libraries import quiet
from shopfit.merchant.merchant import Merchant
from shopfit.methods import METHODS
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.shipped import sample_folder
from shopfit.settings import Settings
from shopfit.tasks import task_of
from shopfit.tune.merchant_dataset import MerchantDataset
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import TrainingSet
from tests.bench.results import Row, publish
from tests.bench.shops import domains, intent_shop, intention_shop, review_shop

SETTINGS = {  # blocks, share of the recipe's epochs, times its rate, and fewer negatives of its own
    "all": ("all", 1.0, 1.0, 0),
    "all, half the epochs": ("all", 0.5, 1.0, 0),
    "last:3, half the epochs, twice the rate": ("last:3", 0.5, 2.0, 0),
    "last:2": ("last:2", 1.0, 1.0, 0),
    "last:2, half the epochs, twice the rate": ("last:2", 0.5, 2.0, 0),
    "last:2, half the epochs, three times the rate": ("last:2", 0.5, 3.0, 0),
    "last:2, a third of the epochs, three times the rate": ("last:2", 1 / 3, 3.0, 0),
    "last:2, half the epochs, twice the rate, one negative fewer": ("last:2", 0.5, 2.0, 1),
}
DECODER = {  # the same, of a decoder of thirty blocks
    "all": ("all", 1.0, 1.0, 0),
    "last:15": ("last:15", 1.0, 1.0, 0),
    "last:10": ("last:10", 1.0, 1.0, 0),
    "last:10, twice the rate": ("last:10", 1.0, 2.0, 0),
    "last:6": ("last:6", 1.0, 1.0, 0),
    "last:6, twice the rate": ("last:6", 1.0, 2.0, 0),
    "last:6, three times the rate": ("last:6", 1.0, 3.0, 0),
    "last:3, three times the rate": ("last:3", 1.0, 3.0, 0),
}
BASES = {
    "smollm2-135m": DECODER,
    "minilm-l6": {"all": SETTINGS["all"]},
    "e5-small-multilingual": {"all": SETTINGS["all"]},
}
REVIEWS = ("apparel", "camera_photo")
SAMPLES = ("product-recommendation", "ad-recommendation", "content-recommendation", "support-intent")
_PLAIN = ("data.catalog=null", "evaluate.k=1", "evaluate.metric=hr@k", "data.near_duplicate=1", "data.max_test=200")


@dataclass(frozen=True, slots=True)
class Set:
    """What is trained on.

    Args:
        name: of merchant and recipe.
        folder: of the merchant.
        recipe: that reads it.
        changes: of the recipe.
        base: that is trained on.
        settings: that are tried.
    """

    name: str
    folder: Path
    recipe: str
    changes: tuple[str, ...] = ()
    base: str = "minilm-l6"
    settings: Mapping[str, tuple[str, float, float, int]] = field(default_factory=lambda: SETTINGS)


def sets(data: Path | None, place: Path) -> Iterator[Set]:
    """All there are, those of the sample merchants first."""
    for recipe in SAMPLES:
        for merchant in ("trailhead", "crema", "foliant"):
            folder = sample_folder(merchant)
            assert folder is not None
            yield Set(f"{merchant}/{recipe}", folder, recipe)
    folder = sample_folder("crema")
    assert folder is not None
    yield from _reviews("crema", folder)
    if data is None:
        return
    folder = intention_shop(data / "shopping_intent" / "task1.jsonl", place / "shopping", 0)
    yield Set("shopping/product-recommendation", folder, "product-recommendation", ("data.shots=64", *_PLAIN))
    source = data / "intents" / "clinc_dev.json"
    for domain in domains(source)[:3]:
        folder = intent_shop(source, place, domain)
        yield Set(f"{domain}/support-intent", folder, "support-intent", ("data.shots=75", "data.max_test=200"))
    for shop in REVIEWS:
        folder = review_shop(data / "reviews", place, shop)
        changes = ("data.shots=64", "data.max_test=200", "evaluate.metric=auc")
        yield from _reviews(shop, folder, changes)


def _reviews(shop: str, folder: Path, changes: tuple[str, ...] = ()) -> Iterator[Set]:
    for base, settings in BASES.items():
        name = f"{shop}/review-sentiment on {base}"
        yield Set(name, folder, "review-sentiment", (*changes, f"base={base}"), base, settings)


def trained(base: Base, one: Set, setting: str, seed: int) -> tuple[str, float, float]:
    """The recipe's metric, its value on the test rows, and the seconds of the training."""
    recipe = load_recipe(one.recipe, overrides=[*one.changes, f"tune.seed={seed}"])
    layers, epochs, rate, fewer = one.settings[setting]
    tune = recipe.tune.model_copy(
        update={
            "epochs": round(recipe.tune.epochs * epochs),
            "lr": (recipe.tune.lr or METHODS[recipe.adapter.method].rules.learning_rate) * rate,
            "negatives": max(0, recipe.tune.negatives - fewer),
        }
    )
    adapter = recipe.adapter.model_copy(update={"layers": layers})
    recipe = recipe.model_copy(update={"tune": tune, "adapter": adapter})
    dataset = MerchantDataset.read(Merchant.open(one.folder), recipe)
    prompter, splits = dataset.prompter(base), dataset.splits
    shop = TrainingSet(splits.train, splits.valid, splits.labels, prompter)
    tuned = Trainer(base, make_accelerator(recipe)).fit(shop, recipe)
    asked = replace(shop, valid=splits.test)
    answers = ask(tuned.adapter, base, prompter, shop.labels, asked.valid)
    tuned.adapter.detach()
    task = task_of(recipe.task)
    pools = task.pools(recipe, asked.valid, prompter.catalog)
    said = task.collect(shop.labels, asked.valid, pools, answers, prompter.catalog)
    metric = recipe.evaluate.metric
    return metric, measure(said, [metric], recipe.evaluate.k)[metric], tuned.seconds


def measured(base: Base, one: Set, settings: Sequence[str], seeds: int) -> Iterator[Row]:
    """A row a setting; the peer is the first of them."""
    first: tuple[float, float] | None = None
    for setting in settings:
        runs = [trained(base, one, setting, seed) for seed in range(seeds)]
        value, seconds = mean(run[1] for run in runs), mean(run[2] for run in runs)
        first = first or (value, seconds)
        yield Row(f"{one.name}, {setting}: {runs[0][0]}", value, first[0], "", "", None)
        yield Row(f"{one.name}, {setting}: training", seconds, first[1], "s", "", None, seconds / first[1])


def main() -> None:
    """Print each row as soon as it is there, and the table at the end."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", nargs="?", type=Path)
    options.add_argument("--sets", default="")
    options.add_argument("--settings", default="")
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    home = Settings.from_environment().home
    rows, base = [], load_base("minilm-l6", home)
    with tempfile.TemporaryDirectory() as place:
        for one in sets(given.data, Path(place)):
            if any(part in one.name for part in given.sets.split(",")):
                if base.name != one.base:
                    base = load_base(one.base, home)
                settings = [name for name in one.settings if not given.settings or name in given.settings.split("/")]
                for row in measured(base, one, settings, given.seeds):
                    print(f"{row.what:<90}{row.ours:>10.3f}", flush=True)
                    rows.append(row)
    publish("bench-layers", rows)


if __name__ == "__main__":
    quiet()
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s in all")
