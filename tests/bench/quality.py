"""What a new shop gets from ten examples, on real data: `make bench-quality DATA=path/to/data`.

reviews    six shops that no starter has seen, 5 positive and 5 negative reviews each, their own test sets

Everything goes through the main job, as a platform would run it: donors' folders, `starter fit`, `adapter`. Options:
`--sets reviews`, `--seeds 3`.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev

import torch

from shopfit.cli.terminal import quiet
from shopfit.engine import Engine, Tenant
from shopfit.evaluation.assess import assess
from shopfit.evaluation.metrics import measure
from shopfit.onboard import onboard, prepare
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry
from shopfit.settings import Settings
from shopfit.starter import fit_starter
from tests.bench.results import Row, publish
from tests.bench.shops import review_shop

HELD_OUT = ("apparel", "camera_photo", "gourmet_food", "magazines", "software", "toys_games")
SHOTS, MAX_TEST = 10, 300
METRICS = ("auc", "macro_f1", "log_loss")
REACH = {"auc": 0.94, "macro_f1": 0.84}


@dataclass(slots=True)
class Table:
    """Metrics by system, over shops and seeds.

    Args:
        values: a list a (system, metric) of (seed, value).
        starts: how often each start was chosen.
        seconds: of each run.
    """

    values: defaultdict[tuple[str, str], list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    starts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    seconds: list[float] = field(default_factory=list)

    def add(self, system: str, seed: int, values: dict[str, float]) -> None:
        for metric in METRICS:
            if metric in values:
                self.values[system, metric].append((seed, values[metric]))

    def of(self, system: str, metric: str) -> tuple[float, float]:
        """Mean over shops and seeds, and the standard deviation of the seeds' means."""
        by_seed = defaultdict(list)
        for seed, value in self.values[system, metric]:
            by_seed[seed].append(value)
        means = [mean(values) for values in by_seed.values()]
        return mean(means), stdev(means) if len(means) > 1 else 0.0

    def show(self) -> None:
        systems = list(dict.fromkeys(system for system, _ in self.values))
        print(f"\n{'system':<32}" + "".join(f"{metric:>18}" for metric in METRICS))
        for system in systems:
            cells = [self.of(system, metric) for metric in METRICS if (system, metric) in self.values]
            print(f"{system:<32}" + "".join(f"{value:>10.3f} ±{spread:.3f} " for value, spread in cells))
        print(f"starts: {dict(self.starts)}; {mean(self.seconds):.0f} s a merchant")


def reviews(data: Path, seeds: Sequence[int]) -> list[Row]:
    table = Table()
    source = data / "reviews"
    shops = sorted({path.name.split(".")[0] for path in source.glob("*.t4.train")})
    real = Settings.from_environment()
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="shopfit-quality-") as temporary:
            home = Path(temporary)
            (home / "bases").symlink_to(real.home / "bases")
            settings = Settings(home, f"sqlite:///{home}/registry.db", str(home / "blobs"))
            folders = {shop: review_shop(source, home / "shops", shop, share=shop not in HELD_OUT) for shop in shops}
            donors = [folder for shop, folder in folders.items() if shop not in HELD_OUT]
            started = time.perf_counter()
            done = fit_starter(donors, _recipe(seed), settings=settings, actor="bench", say=_say)
            assert done is not None
            print(f"seed {seed}: starter from {len(donors)} shops in {time.perf_counter() - started:.0f} s", flush=True)
            for shop in HELD_OUT:
                _one(table, folders[shop], seed, settings, done.version.name)
                table.show()
    rows = []
    for metric, reach in REACH.items():
        ours, spread = table.of("adapter, start: auto", metric)
        peer = max(table.of(system, metric)[0] for system in ("base", "minilm-logreg", "adapter, start: scratch"))
        what = f"reviews, 5+5 examples, {metric} (±{spread:.3f} over seeds); peer: best other"
        rows.append(Row(what, ours, peer, metric, f"at least {reach}", ours >= reach, ours / peer))
    return rows


def _one(table: Table, folder: Path, seed: int, settings: Settings, starter: str) -> None:
    """One held-out shop: from its ten examples, by itself and with what others learned."""
    recipe = _recipe(seed, shots=SHOTS)
    for start in ("auto", "scratch"):
        started = time.perf_counter()
        done = onboard(folder, recipe.model_copy(update={"start": start}), settings=settings, actor="bench", say=_say)
        assert done is not None
        if start == "auto":
            table.seconds.append(time.perf_counter() - started)
            table.starts[done.report.start.split("@")[0]] += 1
        for system in done.report.systems:
            values = {name: interval.value for name, interval in system.metrics.items() if interval.defined}
            if system.kind == "adapter":
                table.add(f"adapter, start: {start}", seed, values)
            elif start == "auto":
                table.add(system.name, seed, values)
    ground = prepare(folder, recipe, settings=settings)
    with Registry.open(settings) as registry, Engine(ground.base, slots=1) as engine:
        bundle = registry.fetch(registry.resolve(starter), settings.cache)
        asked = Tenant("starter", recipe, ground.splits.labels, bundle=bundle)
        table.add("the starter itself", seed, measure(assess(engine, asked, ground.splits.test), list(METRICS), 10))


def _recipe(seed: int, shots: int | None = None) -> Recipe:
    overrides = [f"tune.seed={seed}", f"data.max_test={MAX_TEST}"]
    return load_recipe("review-sentiment", overrides=[*overrides, f"data.shots={shots}"] if shots else overrides)


def _say(what: str, detail: str) -> None:
    if what in {"start", "tuned"}:
        print(f"    {what}: {detail}", flush=True)


def main() -> None:
    """Measure the sets that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", default="reviews")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(2)
    rows = []
    for name in options.sets.split(","):
        rows += {"reviews": reviews}[name](options.data, range(options.seeds))
    publish("bench-quality", rows)


if __name__ == "__main__":
    quiet()
    main()
