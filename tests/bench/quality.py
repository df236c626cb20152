"""What a new shop gets from few examples, on real data: `make bench-quality DATA=path/to/data`.

reviews          six shops that no starter has seen, 5 positive and 5 negative reviews each; starter and scratch
intents          each of CLINC150's six domains is a merchant: 15 intents, 5 questions each; starters of the other five
movie            liked and disliked titles, will this one be liked: 16, 64 and 256 examples
office           the next product of a history among 20: 64 examples, users disjoint from those of the test
shopping_intent  which of four products fits an intention, and which of four intentions two products: 64 examples

Every run goes the way of the main job: `prepare`, `making`, and the engine with the finished bundle. Options:
`--sets reviews,intents`, `--seeds 3`, `--first 2` to begin with that seed, `--shops apparel,software` of the reviews,
`--set KEY=VALUE` for every recipe, `--home DIR` to keep starters in and to find them again, `--threads 1` beside other
work. Seeds share starters: they are the house's.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from shopfit.adapter.bundle import Bundle
from shopfit.base.by_language import encoder_of, settled
from shopfit.base.embed import LateEmbedder
from shopfit.base.load import Base, load_base
from shopfit.engine import Engine, Tenant
from shopfit.evaluation.assess import assess
from shopfit.evaluation.contenders import compare
from shopfit.evaluation.intervals import Interval, bootstrap
from shopfit.evaluation.metrics import measure
from shopfit.libraries import quiet
from shopfit.merchant.examples import Example
from shopfit.merchant.merchant import Merchant
from shopfit.pipeline import trained_run
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.names import HOUSE
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry
from shopfit.settings import Settings
from shopfit.starter import fit_starter
from shopfit.tasks import ChoosePredictions, Predictions, RankPredictions
from shopfit.tune.run_context import RunContext, prepare
from shopfit.tune.trainer import make_accelerator
from tests.bench.results import Row, publish
from tests.bench.shops import domains, intent_shop, intention_shop, movie_shop, office_shop, review_shop

HELD_OUT = ("apparel", "camera_photo", "gourmet_food", "magazines", "software", "toys_games")
OURS = "adapter"
_INTENTS = "data.file=intents.jsonl"
_REVIEWS = ("data.max_test=150", "prompt.max_tokens=256")


@dataclass(slots=True)
class Table:
    """Metrics by system, over merchants and seeds.

    Args:
        name: of the set.
        metrics: that are measured.
        values: a list a (system, metric) of (seed, value).
        by_user: our 95% intervals, users drawn again and again, where test rows name their users.
        starts: how often each start was chosen.
        seconds: that each adapter took to make.
        megabytes: size of each bundle.
    """

    name: str
    metrics: tuple[str, ...]
    values: defaultdict[tuple[str, str], list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    by_user: defaultdict[str, list[Interval]] = field(default_factory=lambda: defaultdict(list))
    starts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    def add(
        self, system: str, seed: int, predictions: Predictions, k: int = 10, users: Sequence[str | None] = ()
    ) -> None:
        for metric, value in measure(predictions, list(self.metrics), k).items():
            self.values[system, metric].append((seed, value))
            if system == OURS and any(users):
                self.by_user[metric].append(bootstrap(predictions, metric, k, users))

    def of(self, system: str, metric: str) -> tuple[float, float]:
        """Mean over merchants and seeds, and the standard deviation of the seeds' means."""
        by_seed = defaultdict(list)
        for seed, value in self.values[system, metric]:
            by_seed[seed].append(value)
        means = [mean(values) for values in by_seed.values()]
        return mean(means), stdev(means) if len(means) > 1 else 0.0

    def show(self) -> None:
        names = list(dict.fromkeys(metric for _, metric in self.values))
        print(f"\n{self.name:<40}" + "".join(f"{metric:>18}" for metric in names))
        for system in dict.fromkeys(system for system, _ in self.values):
            cells = [self.of(system, metric) if (system, metric) in self.values else None for metric in names]
            shown = "".join(f"{'':>18}" if cell is None else f"{cell[0]:>10.3f} ±{cell[1]:.3f} " for cell in cells)
            print(f"{system:<40}" + shown)
        cost = f"{mean(self.seconds):.0f} s and {mean(self.megabytes):.1f} MB a merchant"
        print(f"starts: {dict(self.starts)}; {cost}", flush=True)

    def rows(self, reach: dict[str, Callable[[float], float]]) -> list[Row]:
        """Our number a metric, beside the best other system; what to reach may depend on that one."""
        rows = []
        for metric, wanted in reach.items():
            ours, spread = self.of(OURS, metric)
            others = {system: self.of(system, metric)[0] for system, name in self.values if name == metric}
            others = {name: value for name, value in others.items() if not name.startswith(("adapter", "the starter"))}
            best = max(others, key=others.__getitem__)
            goal = wanted(others[best])
            drawn = self.by_user.get(metric)
            ends = drawn and f"{mean(one.low for one in drawn):.3f} to {mean(one.high for one in drawn):.3f}"
            users = f"; {ends} by user" if ends else ""
            what = f"{self.name}, {metric} (±{spread:.3f}{users}); peer: {best}"
            rows.append(
                Row(what, ours, others[best], metric, f"at least {goal:.3f}", ours >= goal, ours / others[best])
            )
        return rows


@dataclass(frozen=True, slots=True)
class Bench:
    """What every run needs.

    Args:
        data: the data sets' folder.
        folders: where merchants' folders go.
        settings: of the home with the registry.
        embed: texts to vectors.
        bases: loaded ones, by name.
        changes: to every recipe.
        shops: of the reviews, those that are measured.
        untrained: changes that keep reviews in other languages from being trained on.
    """

    data: Path
    folders: Path
    settings: Settings
    embed: LateEmbedder
    bases: dict[str, Base]
    changes: tuple[str, ...] = ()
    shops: tuple[str, ...] = HELD_OUT
    untrained: tuple[str, ...] = ()

    def recipe(self, name: str, seed: int, *changes: str) -> Recipe:
        return load_recipe(name, overrides=[f"tune.seed={seed}", *changes, *self.changes])

    def base(self, recipe: Recipe) -> Base:
        recipe = settled(recipe, "en")
        if recipe.base not in self.bases:
            self.bases[recipe.base] = load_base(recipe.base, self.settings.home)
        return self.bases[recipe.base]

    def house(self, name: str) -> "Bench":
        """A house of its own, with its own starters."""
        return replace(self, settings=settings_in(self.settings.home / name, self.settings.home))

    def starter(self, recipe: Recipe, donors: Sequence[Path]) -> Bundle:
        """The house's starter: the one that is there, else fitted as the recipe says."""
        with Registry.open(self.settings) as registry:
            known = registry.versions(HOUSE, recipe.name)
        if not known:
            started = time.perf_counter()
            done = fit_starter(donors, recipe, settings=self.settings, actor="bench", reporter=_say)
            assert done is not None
            print(f"starter from {len(donors)} shops in {time.perf_counter() - started:.0f} s", flush=True)
            known = [done.version]
        with Registry.open(self.settings) as registry:
            return registry.fetch(known[0], self.settings.cache)

    @contextmanager
    def made(
        self, folder: Path, recipe: Recipe, table: Table | None = None
    ) -> Iterator[tuple[Engine, Tenant, RunContext]]:
        """An adapter, made and not registered, and an engine to ask it; its cost goes into the table."""
        started = time.perf_counter()
        accelerator = make_accelerator(recipe)
        context = prepare(
            Merchant.open(folder), recipe, settings=self.settings, base=self.base(recipe), accelerator=accelerator
        )
        with (
            Registry.open(self.settings) as registry,
            trained_run(
                context,
                registry,
                settings=self.settings,
                embed=self.embed.called(encoder_of(context.recipe)),
                reporter=_say,
            ) as made,
        ):
            assert made is not None
            if table is not None:
                table.seconds.append(time.perf_counter() - started)
                table.megabytes.append(made.bundle.size / 1e6)
                table.starts[made.bundle.manifest.start.split("@")[0]] += 1
            with Engine(context.base, slots=1, embed=self.embed) as engine:
                yield engine, Tenant.of(made.bundle), context

    def everyone(self, table: Table, seed: int, folder: Path, recipe: Recipe) -> dict[str, Predictions]:
        """An adapter beside base, priors and baselines, all into the table."""
        with self.made(folder, recipe, table) as (engine, tenant, context):
            embed = self.embed.called(encoder_of(context.recipe))
            contenders = compare(engine, tenant, context.seen, context.splits.test, context.prompter, embed)
            found = {one.name: one.predictions for one in contenders}
        for name, predictions in found.items():
            table.add(name, seed, predictions, recipe.evaluate.k, [row.group for row in context.splits.test])
        table.show()
        return found


def reviews(bench: Bench, seeds: Sequence[int]) -> list[Row]:
    table = Table("reviews, 5+5", ("auc", "macro_f1", "log_loss"))
    source = bench.data / "reviews"
    shops = sorted({path.name.split(".")[0] for path in source.glob("*.t4.train")})
    target = bench.folders / "reviews"
    folders = {shop: review_shop(source, target, shop, share=shop not in HELD_OUT) for shop in shops}
    donors = [
        folder for shop, folder in folders.items() if shop not in HELD_OUT and shop != "tools_hardware"
    ]  # 27 rows
    starter = bench.starter(bench.recipe("review-sentiment", 0, *_REVIEWS), donors)
    for seed in seeds:
        for shop in bench.shops:
            recipe = bench.recipe("review-sentiment", seed, *_REVIEWS, "data.shots=10")
            bench.everyone(table, seed, folders[shop], recipe)
            scratch = recipe.model_copy(update={"start": "scratch"})
            with bench.made(folders[shop], scratch) as (engine, tenant, context):
                table.add("adapter from scratch", seed, assess(engine, tenant, context.splits.test))
                alone = replace(tenant, name="starter", bundle=starter, blend=None)
                table.add("the starter itself", seed, assess(engine, alone, context.splits.test))
            table.show()
    return table.rows({"auc": lambda _: 0.94, "macro_f1": lambda _: 0.84})


def intents(bench: Bench, seeds: Sequence[int]) -> list[Row]:
    table = Table("intents, 15 x 5", ("accuracy", "macro_f1", "log_loss"))
    source = bench.data / "intents" / "clinc_dev.json"
    folders = {domain: intent_shop(source, bench.folders / "intents", domain) for domain in domains(source)}
    for domain, folder in folders.items():
        house = bench.house(domain)
        others = [other for name, other in folders.items() if name != domain]
        house.starter(bench.recipe("support-intent", 0, _INTENTS), others)
        asked = [row for other in others for row in _test_rows(bench, other)[::5]]
        for seed in seeds:
            recipe = bench.recipe("support-intent", seed, _INTENTS, "data.shots=75")
            with house.made(folder, recipe, table) as (engine, tenant, context):
                contenders = compare(engine, tenant, context.seen, context.splits.test, context.prompter, bench.embed)
                for one in contenders:
                    table.add(one.name, seed, one.predictions)
                inside = next(one.predictions for one in contenders if one.kind == OURS)
                table.values[OURS, "oos_auroc"].append((seed, _apart(engine, tenant, inside, asked)))
            scratch = recipe.model_copy(update={"start": "scratch"})
            with house.made(folder, scratch) as (engine, tenant, context):
                inside = assess(engine, tenant, context.splits.test)
                table.add("adapter from scratch", seed, inside)
                table.values["adapter from scratch", "oos_auroc"].append((seed, _apart(engine, tenant, inside, asked)))
            table.show()
    return table.rows({"accuracy": lambda _: 0.935})


def _test_rows(bench: Bench, folder: Path) -> list[Example]:
    recipe = bench.recipe("support-intent", 0, _INTENTS, "data.shots=75")
    return prepare(
        Merchant.open(folder),
        recipe,
        settings=bench.settings,
        base=bench.base(recipe),
        accelerator=make_accelerator(recipe),
    ).splits.test


def _apart(engine: Engine, tenant: Tenant, inside: Predictions, others: Sequence[Example]) -> float:
    """How well confidence tells a merchant's own questions, answered already, from others: area under the ROC curve."""
    outside = assess(engine, tenant, [replace(row, label=tenant.labels[0]) for row in others])
    assert isinstance(inside, ChoosePredictions)
    assert isinstance(outside, ChoosePredictions)
    sure = np.concatenate([inside.probabilities.max(1), outside.probabilities.max(1)])
    return float(roc_auc_score([1] * len(inside.gold) + [0] * len(outside.gold), sure))


def movie(bench: Bench, seeds: Sequence[int]) -> list[Row]:
    rows = []
    folder = movie_shop(bench.data / "movie", bench.folders / "movie")
    for shots, reach in ((16, 0.74), (64, 0.75), (256, 0.77)):
        table = Table(f"movie, {shots}", ("auc", "log_loss"))
        for seed in seeds:
            recipe = bench.recipe(
                "behaviour-prediction",
                seed,
                "data.history_catalog=null",
                "data.near_duplicate=1",
                f"data.shots={shots}",
            )
            bench.everyone(table, seed, folder, recipe)
        rows += table.rows({"auc": lambda _, reach=reach: reach})
    return rows


def office(bench: Bench, seeds: Sequence[int]) -> list[Row]:
    table = Table("office, 64", ("ndcg@k", "hr@k", "mrr"))
    for seed in seeds:
        folder = office_shop(bench.data / "office", bench.folders / f"office-{seed}", seed)
        recipe = bench.recipe(
            "product-recommendation", seed, "data.shots=64", "data.near_duplicate=1", "evaluate.candidates=20"
        )
        found = bench.everyone(table, seed, folder, recipe)
        known = _items(folder)
        for name, predictions in found.items():
            if isinstance(predictions, RankPredictions):
                cold = [place for place, right in enumerate(predictions.relevant) if not right & known]
                part = RankPredictions(
                    tuple(predictions.candidates[place] for place in cold),
                    tuple(predictions.scores[place] for place in cold),
                    tuple(predictions.relevant[place] for place in cold),
                    predictions.catalog_size,
                )
                table.values[name, "ndcg, cold"].append((seed, measure(part, ["ndcg@k"], 10)["ndcg@k"]))
        table.show()
    return table.rows({"ndcg@k": lambda best: 1.1 * best})


def _items(folder: Path) -> set[str]:
    """Items of the rows that may be trained on: all others are cold."""
    rows = map(json.loads, (folder / "searches.jsonl").read_text(encoding="utf-8").splitlines())
    return {item for row in rows for item in (*row["history"], *row["relevant"])}


def shopping_intent(bench: Bench, seeds: Sequence[int]) -> list[Row]:
    rows = []
    for task in ("task1", "task2"):
        table = Table(f"shopping_intent {task}, 64", ("hr@k", "mrr"))
        for seed in seeds:
            target = bench.folders / f"shopping-{task}-{seed}"
            folder = intention_shop(bench.data / "shopping_intent" / f"{task}.jsonl", target, seed)
            plain = ("data.catalog=null", "evaluate.k=1", "evaluate.metric=hr@k", "data.near_duplicate=1")
            recipe = bench.recipe("product-recommendation", seed, "data.shots=64", *plain)
            bench.everyone(table, seed, folder, recipe)
        rows += table.rows({"hr@k": lambda _: 0.60})
    return rows


def settings_in(home: Path, bases: Path) -> Settings:
    """Those of a home of its own that shares the bases of another."""
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "bases").exists():
        (home / "bases").symlink_to(bases / "bases")
    return Settings(home, f"sqlite:///{home}/registry.db", str(home / "blobs"))


def _say(what: str, detail: str) -> None:
    if what in {"start", "tuned", "blend"}:
        print(f"    {what}: {detail}", flush=True)


SETS = {each.__name__: each for each in (reviews, intents, movie, office, shopping_intent)}


def measure_sets(
    title: str | None,
    sets: Mapping[str, Callable[[Bench, Sequence[int]], list[Row]]],
    shops: Sequence[str],
    target: str,
    add: Callable[[argparse.ArgumentParser], object] = lambda _: None,
    untrained: Callable[[argparse.Namespace], tuple[str, ...]] = lambda _: (),
) -> None:
    """Measure the sets that the command line asks for, each in a house of its own unless it names one.

    Args:
        title: what `--help` says.
        sets: by name.
        shops: of the reviews, unless others are asked for.
        target: of the results.
        add: adds options of its own.
        untrained: as for `Bench`, by the options.
    """
    parser = argparse.ArgumentParser(description=title, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", default=",".join(sets))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--shops", default=",".join(shops))
    parser.add_argument("--home", type=Path, help="keep the registry with its starters here")
    parser.add_argument("--threads", type=int, default=2)
    add(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    real, rows = Settings.from_environment(), list[Row]()
    for name in options.sets.split(","):
        with tempfile.TemporaryDirectory(prefix=f"shopfit-{target}-") as temporary:
            folders, home = Path(temporary), options.home or Path(temporary)
            settings = settings_in(home, real.home)
            changes, asked = tuple(options.changes), tuple(options.shops.split(","))
            embed = LateEmbedder(home)
            bench = Bench(options.data, folders, settings, embed, {}, changes, asked, untrained(options))
            rows += sets[name](bench, range(options.first, options.first + options.seeds))
            publish(target, rows)


if __name__ == "__main__":
    quiet()
    measure_sets(__doc__, SETS, HELD_OUT, "bench-quality")
