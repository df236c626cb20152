"""`make bench-fleet`: the whole job for MERCHANTS (32) shops of 10 to 100 rows, one after another and as a fleet.

The fleet in one process, and over WORKERS (one a core). The first two have their base loaded, workers load their own.
The whole job is data, start, folds, final training, calibration, evaluation, gate and registry.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import yaml

from shopfit.base.embed import LateEmbedder
from shopfit.fleet import Outcome, onboard_fleet
from shopfit.fleet_on_ray import LOCAL, onboard_on_ray
from shopfit.libraries import quiet, usable_cores
from shopfit.merchant.merchant import Merchant
from shopfit.onboarding import Job, make_versions
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry
from shopfit.settings import Settings, sqlite_url
from shopfit.tune.run_context import base_of, prepare
from shopfit.tune.trainer import make_accelerator
from tests.bench.results import Row, publish

RECIPE = "review-sentiment"
REACH = 1.5
_TEST = 20
WORDS = {
    "positive": ["arrived early", "works every day", "lovely colour", "my sister wants one too", "worth its price"],
    "negative": ["broke in a week", "the box was wet", "nobody answers", "smells of glue", "sent back at once"],
}
THINGS = ["tent", "grinder", "lamp", "novel", "boots", "kettle", "stove", "scarf"]


def shop(folder: Path, number: int, rows: int) -> Merchant:
    """A merchant whose reviews we write."""
    folder.mkdir()
    drawn = random.Random(number)
    (folder / "merchant.yaml").write_text(yaml.safe_dump({"name": folder.name}))
    for file, count in (("reviews.jsonl", rows), ("reviews.test.jsonl", _TEST)):
        lines = []
        for row in range(count):
            label = ("positive", "negative")[row % 2]
            said = " and ".join(drawn.sample(WORDS[label], 2))
            text = f"{drawn.choice(THINGS)} number {drawn.randrange(10_000)}: {said}."
            lines.append(json.dumps({"text": text, "label": label}) + "\n")
        (folder / file).write_text("".join(lines))
    return Merchant.open(folder)


def apart(home: Path) -> Settings:
    """An empty home with the packaged bases."""
    home.mkdir()
    (home / "bases").symlink_to(Settings.from_environment().home / "bases")
    return Settings(home=home, registry=sqlite_url(home / "registry.db"), blobs=str(home / "blobs"))


def one_after_another(merchants: list[Merchant], recipe: Recipe, settings: Settings) -> tuple[float, list[float]]:
    """Seconds on a warm base, and what each version reaches."""
    accelerator = make_accelerator(recipe)
    base = base_of(recipe, settings, str(accelerator.device))
    encoder, reached = LateEmbedder(settings.home), []
    encoder(["warm"])
    started = time.perf_counter()
    with Registry.open(settings) as registry:
        for merchant in merchants:
            context = prepare(merchant, recipe, settings=settings, accelerator=accelerator, base=base)
            job = Job(registry, settings, encoder.anew(), "bench", lambda *_: None)
            done = make_versions(job, context, time.perf_counter())
            assert done is not None
            reached.append(done.report.adapter.metrics[done.report.metric].value)
            print(f"alone  {merchant.name}: {time.perf_counter() - started:.0f} s", flush=True)
    return time.perf_counter() - started, reached


def together(merchants: list[Merchant], recipe: Recipe, settings: Settings) -> tuple[float, list[Outcome]]:
    """Seconds from the first thing that is done for a merchant, and the outcomes."""
    began: list[float] = []

    def note(_merchant: str, _what: str, _detail: str) -> None:
        if not began:
            began.append(time.perf_counter())

    def tell(outcome: Outcome) -> None:
        print(f"fleet  {outcome.merchant}: {time.perf_counter() - began[0]:.0f} s", flush=True)

    outcomes = onboard_fleet(merchants, recipe, settings=settings, actor="bench", reporter=note, ended=tell)
    return time.perf_counter() - began[0], outcomes


def over_processes(
    merchants: list[Merchant], recipe: Recipe, settings: Settings, workers: int
) -> tuple[float, list[Outcome]]:
    """Seconds of a fleet over processes, their start and the loading of their bases included, and the outcomes."""
    started = time.perf_counter()

    def tell(outcome: Outcome) -> None:
        print(f"{workers} processes  {outcome.merchant}: {time.perf_counter() - started:.0f} s", flush=True)

    options = {"settings": settings, "actor": "bench", "ended": tell}
    outcomes = onboard_on_ray(merchants, recipe, address=LOCAL, workers=workers, **options)
    return time.perf_counter() - started, outcomes


def main(count: int, workers: int, overrides: tuple[str, ...]) -> None:
    """Measure, and publish the table."""
    recipe = load_recipe(RECIPE, overrides=overrides)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        sizes = [10 + round(90 * number / max(1, count - 1)) for number in range(count)]
        random.Random(0).shuffle(sizes)
        merchants = [shop(place / f"shop-{number}", number, rows) for number, rows in enumerate(sizes)]
        fleet, outcomes = together(merchants, recipe, apart(place / "fleet"))
        spread, dealt = over_processes(merchants, recipe, apart(place / "processes"), workers)
        alone, reached = one_after_another(merchants, recipe, apart(place / "alone"))
    what = f"{count} merchants of 10 to 100 rows, whole job, {RECIPE}"
    metric = f"{recipe.evaluate.metric}, mean over them"
    rows = []
    for kind, seconds, made in (("one process", fleet, outcomes), (f"{workers} processes", spread, dealt)):
        met = alone / seconds >= REACH and not any(one.state == "failed" for one in made)
        rows.append(Row(f"{what}; {kind}", seconds, alone, "s", f"{REACH}x", met, alone / seconds))
        after = statistics.mean(one.after or 0.0 for one in made)
        rows.append(Row(f"{metric}; {kind}", after, statistics.mean(reached), "", "", None))
    publish("bench-fleet", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--merchants", type=int, default=32)
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    asked = parser.parse_args()
    quiet()
    main(asked.merchants, asked.workers, tuple(asked.overrides))
