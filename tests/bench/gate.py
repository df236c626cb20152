"""How often gates promote what is in truth worse, and what is better: `python -m tests.bench.gate path/to/data`.

Few-shot models on MiniLM's vectors are the adapters: fitted to a few rows of a real set, now and then with wrong
labels; they meet a base (cosine with the labels' names, or with the request) and a prior (the majority, popularity).
The truth is the difference on all rows that are left, about a thousand. The gates see a handful of test rows, drawn
again and again, and what three-fold cross-validation answered on the rows that were learned from.

value      promote if the metric is better on the test rows
interval   promote if its plain 95% percentile interval is above 0, too
test       promote if the test rows prove it (`evidence`)
ours       promote if the test rows prove it, or they together with the answers from cross-validation

Options: `--draws 16` models a set, `--home DIR` with the packaged bases.
"""

import argparse
import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from shopfit.base.embed import Embedder
from shopfit.evaluation.evidence import weigh
from shopfit.evaluation.metrics import measure
from shopfit.libraries import quiet
from shopfit.recipe.tasks import METRICS
from shopfit.settings import Settings
from shopfit.tasks import ChoosePredictions, Predictions, RankPredictions, metric_of, pooled
from tests.bench.results import Row, publish
from tests.bench.shops import intent_shop, intention_shop, office_shop, review_shop

TEST_ROWS = (4, 8, 16, 32, 64, 128)
RULES = ("value", "interval", "test", "ours")
TRUTHS = ((-1.0, -0.02), (-0.02, 0.02), (0.02, 0.1), (0.1, 0.2), (0.2, 1.0))
_MOST, _SAMPLES, _RESAMPLES, _ROUNDING = 1000, 4, 300, 1e-9
Floats = np.ndarray


@dataclass(frozen=True, slots=True)
class Chooses:
    """Rows of a choose set.

    Args:
        vectors: (N, D) of the texts.
        gold: (N,) labels.
        names: (L, D) vectors of the labels' names.
    """

    vectors: Floats
    gold: Floats
    names: Floats

    def fit(self, rows: Floats, wrong: Floats) -> "Answers":
        """A logistic regression on rows, of which some have another label than they should."""
        gold = np.where(wrong, (self.gold[rows] + 1) % len(self.names), self.gold[rows])
        if len(set(gold)) < 2:
            return self.prior(rows)
        model = LogisticRegression(C=10, max_iter=300).fit(self.vectors[rows], gold)
        shares = np.full((len(self.gold), len(self.names)), 1e-6)
        shares[:, model.classes_] = model.predict_proba(self.vectors)
        return Answers(self, shares / shares.sum(1, keepdims=True))

    def base(self) -> "Answers":
        """By the labels' names alone."""
        shares = np.exp(20 * self.vectors @ self.names.T)
        return Answers(self, shares / shares.sum(1, keepdims=True))

    def prior(self, rows: Floats) -> "Answers":
        """How frequent labels are."""
        counts = np.bincount(self.gold[rows], minlength=len(self.names)) + 1.0
        return Answers(self, np.tile(counts / counts.sum(), (len(self.gold), 1)))

    def said(self, scores: Floats, rows: Floats) -> Predictions:
        return ChoosePredictions(tuple(map(str, range(len(self.names)))), scores[rows], self.gold[rows])


@dataclass(frozen=True, slots=True)
class Ranks:
    """Rows of a rank set, C candidates each.

    Args:
        features: (N, C, F) what there is to learn from; the first one is the base's own score.
        gold: (N,) place of the right candidate.
        items: (N, C) ids.
    """

    features: Floats
    gold: Floats
    items: Floats

    def fit(self, rows: Floats, wrong: Floats) -> "Answers":
        """A logistic regression of right or wrong on rows, of which some have another right answer than they should."""
        places = self.features.shape[1]
        gold = np.where(wrong, (self.gold[rows] + 1) % places, self.gold[rows])
        right = (np.arange(places) == gold[:, None]).ravel()
        width = self.features.shape[2]
        model = LogisticRegression(C=1, max_iter=300, class_weight="balanced")
        model.fit(self.features[rows].reshape(-1, width), right)
        return Answers(self, model.decision_function(self.features.reshape(-1, width)).reshape(len(self.gold), places))

    def base(self) -> "Answers":
        return Answers(self, self.features[:, :, 0])

    def prior(self, rows: Floats) -> "Answers":
        """How popular items are."""
        names, counts = np.unique(self.items[rows, self.gold[rows]], return_counts=True)
        known = dict(zip(names, counts, strict=True))
        return Answers(self, np.array([[float(known.get(item, 0)) for item in pool] for pool in self.items]))

    def said(self, scores: Floats, rows: Floats) -> Predictions:
        pools = tuple(tuple(map(str, self.items[row])) for row in rows)
        right = tuple(frozenset({str(self.items[row, self.gold[row]])}) for row in rows)
        return RankPredictions(pools, tuple(scores[rows]), right, len(np.unique(self.items)))


@dataclass(frozen=True, slots=True)
class Answers:
    """A system's scores for every row of a set."""

    of: Chooses | Ranks
    scores: Floats

    def on(self, rows: Floats) -> Predictions:
        return self.of.said(self.scores, rows)


def choose_set(folder: Path, file: str, embed: Embedder) -> Chooses:
    rows = [json.loads(line) for part in ("", ".test") for line in (folder / f"{file}{part}.jsonl").open()]
    rows = random.Random(0).sample(rows, min(_MOST, len(rows)))
    labels = sorted({row["label"] for row in rows})
    gold = np.array([labels.index(row["label"]) for row in rows])
    return Chooses(embed([row["text"][:600] for row in rows]), gold, embed(labels))


def rank_set(folder: Path, embed: Embedder) -> Ranks:
    """Cosine with the request and with what was seen last, and the product of both vectors, by candidate."""
    catalog = folder / "catalog.jsonl"
    titles = {item["id"]: item["title"] for item in map(json.loads, catalog.open())} if catalog.is_file() else {}
    rows = [json.loads(line) for part in ("", ".test") for line in (folder / f"searches{part}.jsonl").open()]
    rows = random.Random(0).sample(rows, min(_MOST, len(rows)))
    draw = random.Random(1)
    pools = [row.get("candidates") or [*draw.sample(sorted(titles), 19), row["relevant"][0]] for row in rows]
    pools = [sorted(set(pool)) for pool in pools]
    kept = [place for place, pool in enumerate(pools) if len(pool) == max(map(len, pools))]
    seen = [[titles[item] for item in rows[place].get("history", []) if item in titles][-5:] for place in kept]
    asked = embed([str(rows[place].get("query") or past[-1]) for place, past in zip(kept, seen, strict=True)])
    items = np.array([pools[place] for place in kept])
    vectors = embed([titles.get(item, item) for item in items.ravel()]).reshape(*items.shape, -1)
    product = asked[:, None] * vectors  # (N, C, D)
    gold = np.array([pools[place].index(rows[place]["relevant"][0]) for place in kept])
    return Ranks(np.concatenate([product.sum(2, keepdims=True), 5 * product], 2), gold, items)


def sets(data: Path, home: Path, folder: Path) -> Iterator[tuple[str, Chooses | Ranks, tuple[str, ...]]]:
    embed = Embedder.load(home, remember=False)
    for shop in ("apparel", "camera_photo"):
        yield f"reviews, {shop}", choose_set(review_shop(data / "reviews", folder, shop), "reviews", embed), _CHOOSE
    zh = folder / "zh"
    zh.mkdir()
    for part, name in (("train", "reviews.jsonl"), ("test", "reviews.test.jsonl")):
        files = sorted((data / "zh_reviews").glob(f"*.{part}.tsv"))
        lines = [line.rpartition("\t") for file in files for line in file.read_text(encoding="utf-8").splitlines()]
        rows = [{"text": text, "label": "好" if label == "1" else "差"} for text, _, label in lines]
        (zh / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    yield "zh_reviews", choose_set(zh, "reviews", embed), _CHOOSE
    for domain in ("banking", "travel"):
        shop_folder = intent_shop(data / "intents" / "clinc_dev.json", folder, domain)
        yield f"intents, {domain}", choose_set(shop_folder, "intents", embed), _CHOOSE
    for task in ("task1", "task2"):
        shop_folder = intention_shop(data / "shopping_intent" / f"{task}.jsonl", folder, seed=0)
        yield f"shopping_intent, {task}", rank_set(shop_folder, embed), ("ndcg@k",)
    yield "office", rank_set(office_shop(data / "office", folder, seed=0), embed), ("ndcg@k",)


_CHOOSE = ("accuracy", "macro_f1", "log_loss")


def judge(adapter: Predictions, rival: Predictions, metric: str, held: tuple[Predictions, Predictions]) -> list[bool]:
    """What each rule says."""
    tested = weigh(adapter, rival, metric, resamples=_RESAMPLES)
    better = tested.gain.value > _ROUNDING
    proven = better and tested.proves(0.0)
    together = tested
    if better and not proven:
        both = pooled([adapter, held[0]]), pooled([rival, held[1]])
        together = weigh(*both, metric, resamples=_RESAMPLES)
    return [better, better and plain(adapter, rival, metric) > _ROUNDING, proven, better and together.proves(0.0)]


def difference(first: Predictions, second: Predictions, metric: str) -> float:
    """By how much the first is better."""
    ahead, behind = (measure(one, [metric])[metric] for one in (first, second))
    return behind - ahead if METRICS[metric].lower_is_better else ahead - behind


def plain(first: Predictions, second: Predictions, metric: str) -> float:
    """Lower end of the percentile interval, for few rows as for many."""
    sign = -1 if METRICS[metric].lower_is_better else 1
    systems = [metric_of(one.task, metric).of(one, 10) for one in (first, second)]
    rows = first.rows
    drawn = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), _RESAMPLES).astype(np.float64)
    found = sign * (systems[0](drawn) - systems[1](drawn))
    found = found[~np.isnan(found)]
    return float(np.percentile(found, 2.5)) if len(found) else float("nan")


def main() -> None:
    """Draw, judge, count, print."""
    options = argparse.ArgumentParser()
    options.add_argument("data", type=Path)
    options.add_argument("--draws", type=int, default=16)
    options.add_argument("--home", type=Path, default=Settings.from_environment().home)
    asked = options.parse_args()
    quiet()
    counts: defaultdict[tuple[str, int, int], Floats] = defaultdict(lambda: np.zeros(len(RULES) + 1))
    with tempfile.TemporaryDirectory() as folder:
        for name, rows, metrics in sets(asked.data, asked.home, Path(folder)):
            print(f"{name}: {len(rows.gold)} rows", flush=True)
            for number in range(asked.draws):
                draw_one(rows, metrics, np.random.default_rng(number), counts)
    table(counts)


def draw_one(
    rows: Chooses | Ranks,
    metrics: tuple[str, ...],
    draw: np.random.Generator,
    counts: defaultdict[tuple[str, int, int], Floats],
) -> None:
    """One adapter: fit it, cross-validate it, and let every gate see it through test sets of every size."""
    order = draw.permutation(len(rows.gold))
    learned = order[: int(draw.choice([16, 24, 48, 90]))]
    rest = order[len(learned) :]
    wrong = draw.random(len(learned)) < draw.choice([0, 0.2, 0.4])
    adapter, base, prior = rows.fit(learned, wrong), rows.base(), rows.prior(learned)
    parts = [np.arange(part, len(learned), 3) for part in range(3)]
    held: dict[str, list[Predictions]] = defaultdict(list)
    for part in parts:
        others = np.delete(np.arange(len(learned)), part)
        held["adapter"].append(rows.fit(learned[others], wrong[others]).on(learned[part]))
        held["prior"].append(rows.prior(learned[others]).on(learned[part]))
        held["base"].append(base.on(learned[part]))
    for metric in metrics:
        for kind, rival in (("base", base), ("prior", prior)):
            truth = difference(adapter.on(rest), rival.on(rest), metric)
            place = next((place for place, (low, high) in enumerate(TRUTHS) if low <= truth < high), len(TRUTHS) - 1)
            place = 0 if truth < TRUTHS[0][0] else place
            crossed = pooled(held["adapter"]), pooled(held[kind])
            for size in TEST_ROWS:
                for _ in range(_SAMPLES):
                    seen = draw.choice(rest, size, replace=False)
                    counts[metric, place, size] += [1, *judge(adapter.on(seen), rival.on(seen), metric, crossed)]


def table(counts: defaultdict[tuple[str, int, int], Floats]) -> None:
    """Promoted, in percent, by metric, truth and test rows; the rows are kept, as of every benchmark."""
    kept = []
    for metric in dict.fromkeys(metric for metric, _, _ in sorted(counts)):
        print(f"\n{metric:<16}{'test rows':>10}{'tried':>8}" + "".join(f"{rule:>10}" for rule in RULES))
        for place, (low, high) in enumerate(TRUTHS):
            for size in TEST_ROWS:
                tried, *promoted = counts[metric, place, size]
                if not tried:
                    continue
                shares = [100 * one / tried for one in promoted]
                truth = f"{low:+.2f} to {high:+.2f}"
                print(f"{truth:<16}{size:>10}{tried:>8.0f}" + "".join(f"{share:>9.1f}%" for share in shares))
                what = f"{metric}, truth {truth}, {size} test rows"
                kept.append(Row(what, shares[-1], shares[0], "% promoted", "", None))
    publish("bench-gate", kept)


if __name__ == "__main__":
    main()
