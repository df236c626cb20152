"""Shops that do not speak English, on real data: `make bench-languages DATA=path/to/data`.

zh_reviews       five Chinese shops in turn: 5 positive and 5 negative reviews each, a starter of the other four
cross            the same ten, with a starter of English shops alone
qingcha          the sample tea shop's searches, all of them, beside BM25, the bare base and MiniLM
leder            the same of the sample leather shop, in German

Ours go the way of the main job, as far as the version that needs no training (`tune.steps=0`), which what is trained
must beat; `--trained` goes on to that one. Starters are of the last four blocks. Peers in the same run: TF-IDF of
characters (1 to 3) and logistic regression, the bare base (cosine with the labels' words), logistic regression on its
vectors, each from the ten rows and with the other shops' rows, too; and SnowNLP if it is installed. Options as of
`bench-quality`: `--sets`, `--seeds`, `--first`, `--shops`, `--set KEY=VALUE`, `--home DIR`, `--threads`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shopfit.evaluation.assess import assess
from shopfit.evaluation.contenders import compare
from shopfit.libraries import quiet
from shopfit.merchant.examples import Example, load_examples
from shopfit.merchant.merchant import Merchant
from shopfit.recipe.shipped import sample_folder
from shopfit.tasks import ChoosePredictions
from tests.bench.quality import HELD_OUT, Bench, Table, measure_sets
from tests.bench.results import Row
from tests.bench.shops import review_shop, zh_review_shop

E5 = "e5-small-multilingual"
SHOPS = ("books", "clothes", "fruit", "phones", "tablets")
_DONATED, _TESTED = 160, 200
_ZH = (
    f"base={E5}",
    "prompt.max_tokens=128",
    f"data.max_test={_TESTED}",
    "adapter.layers=last:4",
)


def zh_reviews(bench: Bench, seeds: Sequence[int]) -> list[Row]:
    """Each shop in turn, its starter from the other four."""
    table = Table("zh_reviews, 5+5", ("auc", "macro_f1"))
    folders = {shop: zh_review_shop(bench.data / "zh_reviews", bench.folders / "zh", shop, _DONATED) for shop in SHOPS}
    for shop in bench.shops:
        house, others = bench.house(f"zh-{shop}"), [folder for name, folder in folders.items() if name != shop]
        starter = house.starter(bench.recipe("review-sentiment", 0, *_ZH), others)
        for seed in seeds:
            recipe = bench.recipe("review-sentiment", seed, *_ZH, "data.shots=10", *bench.untrained)
            with house.made(folders[shop], recipe, table) as (engine, tenant, context):
                test = context.splits.test
                for one in compare(engine, tenant, context.seen, test, context.prompter, house.embed.called(E5)):
                    table.add(one.name, seed, one.predictions)
                alone = replace(tenant, name="starter", bundle=starter, blend=None)
                table.add("the starter itself", seed, assess(engine, alone, test))
                rest = [row for other in others for row in _rows(bench, other)]
                for name, predictions in _peers(house.embed.called(E5), context.seen, rest, test).items():
                    table.add(name, seed, predictions)
            table.show()
    return table.rows({"auc": lambda _: 0.96, "macro_f1": lambda _: 0.90})


def cross(bench: Bench, seeds: Sequence[int]) -> list[Row]:
    """The same shops, with a starter that has read English reviews alone."""
    table = Table("zh_reviews from English, 5+5", ("auc", "macro_f1"))
    source, target = bench.data / "reviews", bench.folders / "english"
    shops = sorted({path.name.split(".")[0] for path in source.glob("*.t4.train")})
    donors = [review_shop(source, target, shop, share=True) for shop in shops if shop not in HELD_OUT][:8]
    house = bench.house("cross")
    starter = house.starter(bench.recipe("review-sentiment", 0, *_ZH), donors)
    for shop in bench.shops:
        folder = zh_review_shop(bench.data / "zh_reviews", bench.folders / "cross", shop, _DONATED)
        for seed in seeds:
            recipe = bench.recipe("review-sentiment", seed, *_ZH, "data.shots=10", *bench.untrained)
            with house.made(folder, recipe, table) as (engine, tenant, context):
                test = context.splits.test
                for one in compare(engine, tenant, context.seen, test, context.prompter, house.embed.called(E5)):
                    table.add(one.name, seed, one.predictions)
                alone = replace(tenant, name="starter", bundle=starter, blend=None)
                table.add("the starter itself", seed, assess(engine, alone, test))
            scratch = recipe.model_copy(update={"start": "scratch"})
            with house.made(folder, scratch) as (engine, tenant, context):
                table.add("the ten alone", seed, assess(engine, tenant, context.splits.test))
            table.show()
    return table.rows({"auc": lambda best: best, "macro_f1": lambda best: best})


def qingcha(bench: Bench, seeds: Sequence[int]) -> list[Row]:
    """Searches of the sample tea shop."""
    return _searches(bench, seeds, "qingcha")


def leder(bench: Bench, seeds: Sequence[int]) -> list[Row]:
    """Searches of the sample leather shop."""
    return _searches(bench, seeds, "leder")


def _searches(bench: Bench, seeds: Sequence[int], name: str) -> list[Row]:
    table, folder = Table(f"{name}, searches", ("ndcg@k", "hr@k", "mrr")), sample_folder(name)
    assert folder is not None
    for seed in seeds:
        recipe = bench.recipe(
            "product-recommendation",
            seed,
            f"base={E5}",
            f"serve.encoder={E5}",
            "evaluate.baselines=[bm25, encoder-cosine, minilm-cosine]",
        )
        bench.everyone(table, seed, folder, recipe)
    return table.rows({"ndcg@k": lambda best: 1.1 * best})


def _rows(bench: Bench, folder: Path) -> list[Example]:
    recipe = bench.recipe("review-sentiment", 0, *_ZH)
    return load_examples(Merchant.open(folder), recipe, recipe.data.file, catalog=None, history=None)


def _peers(embed: Any, ten: Sequence[Example], rest: Sequence[Example], test: Sequence[Example]) -> dict[str, Any]:
    """Simple models of the ten rows, and of them and the other shops' rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    def text(rows: Sequence[Example]) -> list[str]:
        return [str(row.fields["text"]) for row in rows]

    def gold(rows: Sequence[Example]) -> list[int]:
        return [int(row.label == "positive") for row in rows]

    found = {}
    for name, rows in (("ten", list(ten)), ("with the other shops", [*ten, *rest])):
        words = make_pipeline(TfidfVectorizer(analyzer="char", ngram_range=(1, 3)), LogisticRegression(max_iter=2000))
        words.fit(text(rows), gold(rows))
        found[f"TF-IDF, {name}"] = _predicted(words.predict_proba(text(test))[:, 1], gold(test))
        model = LogisticRegression(max_iter=2000).fit(embed(text(rows)), gold(rows))
        found[f"logistic regression on e5, {name}"] = _predicted(
            model.predict_proba(embed(text(test)))[:, 1], gold(test)
        )
    try:
        from snownlp import SnowNLP
    except ImportError:
        return found
    found["SnowNLP"] = _predicted(np.array([SnowNLP(one).sentiments for one in text(test)]), gold(test))
    return found


def _predicted(positive: Any, gold: Sequence[int]) -> ChoosePredictions:
    return ChoosePredictions(("negative", "positive"), np.column_stack([1 - positive, positive]), np.array(gold))


SETS = {each.__name__: each for each in (zh_reviews, cross, qingcha, leder)}


if __name__ == "__main__":
    quiet()
    measure_sets(
        __doc__,
        SETS,
        SHOPS,
        "bench-languages",
        lambda parser: parser.add_argument("--trained", action="store_true"),
        lambda options: () if options.trained else ("tune.steps=0",),
    )
