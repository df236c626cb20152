"""What each step of augmentation and each part of the objective changes, in pairs: `make bench-ablations DATA=path`.

reviews-10   two shops that no starter has seen, 5 positive and 5 negative reviews each
reviews-32   the same shops, 16 and 16
intents      the six domains of CLINC150, five questions an intent
searches     the sample merchant trailhead, 32 searches of its catalog
articles     the same merchant, 60 reads: which article fits

Every variant is trained from scratch on its recipe's base with the examples, seed and test rows of the default it is
held against, which varies no example, and answers without blend or calibration: the difference is the variant's.
Options, for a part of it: `--sets reviews-10,intents`, `--variants typos,synonyms`, `--seeds 1`, `--max-test 50`,
`--shops apparel`, `--threads 1` beside other work.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import torch

from shopfit.base.load import Base, load_base
from shopfit.evaluation.assess import ask
from shopfit.evaluation.metrics import measure
from shopfit.libraries import quiet
from shopfit.merchant.merchant import Merchant
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.shipped import sample_folder
from shopfit.settings import Settings
from shopfit.tasks import task_of
from shopfit.tune.merchant_dataset import MerchantDataset
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import TrainingSet
from tests.bench.results import Row, publish
from tests.bench.shops import domains, intent_shop, review_shop

VARIANTS = {
    "label-smoothing": ["tune.label_smoothing=0.1"],
    "adversarial": ["tune.adversarial=1"],
    "contrastive": ["tune.contrastive=0.3"],
    "typos": ["data.augment=[{step: typos}]"],
    "word-dropout": ["data.augment=[{step: word-dropout}]"],
    "synonyms": ["data.augment=[{step: synonyms}]"],
    "catalog-swap": ["data.augment=[{step: catalog-swap}]"],
    "part of the way": ["tune.interpolation=0.75"],
    "all the way": ["tune.interpolation=1"],
}
SHOPS = ("apparel", "camera_photo")


@dataclass(frozen=True, slots=True)
class Set:
    """What is trained on.

    Args:
        recipe: that reads it.
        shots: examples to train on.
        metrics: that are compared.
        variants: that apply to it.
    """

    recipe: str
    shots: int
    metrics: tuple[str, ...]
    variants: tuple[str, ...]


_CHOOSE = tuple(name for name in VARIANTS if name not in {"catalog-swap", "all the way"})
_RANK = ("adversarial", "typos", "word-dropout", "synonyms", "catalog-swap", "all the way")
SETS = {
    "reviews-10": Set("review-sentiment", 10, ("auc", "macro_f1", "log_loss"), _CHOOSE),
    "reviews-32": Set("review-sentiment", 32, ("auc", "macro_f1", "log_loss"), _CHOOSE),
    "intents": Set("support-intent", 75, ("accuracy", "macro_f1", "log_loss"), _CHOOSE),
    "searches": Set("product-recommendation", 32, ("ndcg@k", "mrr"), _RANK),
    "articles": Set("content-recommendation", 60, ("ndcg@k", "mrr"), _RANK),
}
Pair = tuple[dict[str, float], dict[str, float]]  # metrics of a variant and of the default


def folders(name: str, data: Path, target: Path, shops: Sequence[str]) -> list[Path]:
    """The merchants of a set."""
    if name == "intents":
        source = data / "intents" / "clinc_dev.json"
        return [intent_shop(source, target, domain) for domain in domains(source)]
    if name in {"searches", "articles"}:
        sample = sample_folder("trailhead")
        assert sample is not None
        return [sample]
    return [review_shop(data / "reviews", target, shop) for shop in shops]


def run(base: Base, folder: Path, of: Set, overrides: Sequence[str]) -> dict[str, float]:
    """Train from scratch, and measure on the test set as it would be answered."""
    recipe = load_recipe(of.recipe, overrides=[f"data.shots={of.shots}", *overrides])
    shop = MerchantDataset.read(Merchant.open(folder), recipe)
    prompter, splits = shop.prompter(base), shop.splits
    tuned = Trainer(base, make_accelerator(recipe)).fit(
        TrainingSet(splits.train, splits.valid, splits.labels, prompter), recipe
    )
    try:
        tuned.adapter.peft.eval()
        answers = ask(tuned.adapter, base, prompter, splits.labels, splits.test)
    finally:
        tuned.adapter.detach()
    items = task_of(recipe.task).pools(recipe, splits.test, prompter.catalog)
    predictions = task_of(recipe.task).collect(splits.labels, splits.test, items, answers, prompter.catalog)
    return measure(predictions, list(of.metrics), recipe.evaluate.k)


def pairs(base: Base, name: str, where: Sequence[Path], options: argparse.Namespace) -> Iterator[tuple[str, Pair]]:
    """Each variant beside the default of the same merchant and seed."""
    of = SETS[name]
    chosen = [variant for variant in of.variants if variant in options.variants]
    for seed in range(options.seeds) if chosen else ():
        for folder in where:
            fixed = [f"tune.seed={seed}", f"data.max_test={options.max_test}", "data.augment=[]"]
            plain: dict[str, float] | None = None
            for variant in (None, *chosen):
                started = time.perf_counter()
                found = run(base, folder, of, [*fixed, *(VARIANTS[variant] if variant else ())])
                shown = ", ".join(f"{metric} {value:.3f}" for metric, value in found.items())
                seconds = time.perf_counter() - started
                print(f"{name} {folder.name} seed {seed} {variant or 'default'}: {shown} ({seconds:.0f} s)", flush=True)
                if variant is None or plain is None:
                    plain = found
                else:
                    yield variant, (found, plain)


def rows(name: str, found: Sequence[tuple[str, Pair]]) -> list[Row]:
    """A row a variant and metric: both means, and the mean difference with its standard deviation over pairs."""
    table = []
    for variant in dict.fromkeys(variant for variant, _ in found):
        mine = [pair for other, pair in found if other == variant]
        for metric in SETS[name].metrics:
            deltas = [ours[metric] - plain[metric] for ours, plain in mine]
            spread = stdev(deltas) if len(deltas) > 1 else 0.0
            what = f"{name}, {variant}: {metric} {mean(deltas):+.3f} ±{spread:.3f} over {len(deltas)}"
            ours, plain = (mean(pair[side][metric] for pair in mine) for side in (0, 1))
            table.append(Row(what, ours, plain, metric, "", None))
    return table


def main() -> None:
    """Measure the sets that were asked for; what is done is written after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--shops", default=",".join(SHOPS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--max-test", type=int, default=150)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.variants = options.variants.split(",")
    torch.set_num_threads(options.threads)
    home = Settings.from_environment().home
    table: list[Row] = []
    for name in options.sets.split(","):
        with tempfile.TemporaryDirectory(prefix="shopfit-ablations-") as target:
            where = folders(name, options.data, Path(target), options.shops.split(","))
            base = load_base(load_recipe(SETS[name].recipe).base, home)
            table += rows(name, list(pairs(base, name, where, options)))
        publish("bench-ablations", table)


if __name__ == "__main__":
    quiet()
    main()
