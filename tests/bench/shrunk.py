"""A base against a smaller one made of it: `make bench-shrunk DATA=path/to/data`.

`e5-small-multilingual` beside what `shopfit base shrink --languages zh,en` makes of it: numbers, memory of a process
that embeds, milliseconds a query, and what vectors are worth: five Chinese shops' reviews (cosine with the labels'
words; logistic regression on the other shops' rows), searches of the sample tea shop and of an English one.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from shopfit.base.embed import Embedder
from shopfit.base.shrinking import shrink
from shopfit.libraries import quiet
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.reading import read_rows
from shopfit.recipe.shipped import sample_folder
from shopfit.settings import Settings
from tests.bench.languages import E5 as NAME
from tests.bench.languages import SHOPS
from tests.bench.results import Row, publish

_ALONE = """
import resource, sys
from pathlib import Path
from shopfit.libraries import quiet
quiet()
from shopfit.base.embed import Embedder
embed = Embedder.load(Path(sys.argv[1]), sys.argv[2])
embed(["茶"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def reviews(folder: Path, embed: Embedder) -> tuple[float, float]:
    """Mean AUC over the shops: by the labels' words, and by a model of the other shops' rows."""
    vectors, gold = {}, {}
    for shop in SHOPS:
        for part, most in (("train", 160), ("test", 200)):
            rows = [line.rpartition("\t")[::2] for line in (folder / f"{shop}.{part}.tsv").read_text().splitlines()][
                :most
            ]
            vectors[shop, part] = embed([text for text, _ in rows])
            gold[shop, part] = np.array([int(label == "1") for _, label in rows])
    negative, positive = embed(["negative", "positive"])
    words, fitted = [], []
    for shop in SHOPS:
        others = [other for other in SHOPS if other != shop]
        asked, right = vectors[shop, "test"], gold[shop, "test"]
        words.append(roc_auc_score(right, asked @ (positive - negative)))
        model = LogisticRegression(C=10, max_iter=3000)
        model.fit(*(np.concatenate([found[other, "train"] for other in others]) for found in (vectors, gold)))
        fitted.append(roc_auc_score(right, model.predict_proba(asked)[:, 1]))
    return float(np.mean(words)), float(np.mean(fitted))


def searches(name: str, embed: Embedder) -> float:
    """NDCG@10 of a sample merchant's searches, by the cosine alone."""
    folder = sample_folder(name)
    assert folder is not None
    catalog = Merchant.open(folder).catalog("catalog.jsonl")
    items, found = embed.items([item.text for item in catalog.values()]), []
    for row in (row for part in ("searches", "searches.test") for row in read_rows(folder / f"{part}.jsonl")):
        said: Any = row.values
        order = np.argsort(-(items @ embed([said["query"]])[0]))[:10] if said.get("query") else []
        right = {place for place, item in enumerate(catalog) if item in set(said["relevant"])}
        gain = sum(1 / np.log2(2 + rank) for rank, place in enumerate(order) if place in right)
        found.append(gain / sum(1 / np.log2(2 + rank) for rank in range(min(10, len(right)))))
    return float(np.mean(found))


def measured(data: Path, home: Path, name: str) -> dict[str, float]:
    """Everything of one base."""
    embed = Embedder.load(home, name)
    texts = [f"想要一款适合{number}个人喝的清香型绿茶" for number in range(200)]
    embed(texts[:20])
    started = time.perf_counter()
    for text in texts[20:]:
        embed([text])
    a_query = (time.perf_counter() - started) / 180 * 1000
    words, fitted = reviews(data / "zh_reviews", embed)
    done = subprocess.run([sys.executable, "-c", _ALONE, str(home), name], capture_output=True, text=True, check=True)
    return {
        "ms a query": a_query,
        "memory of a process, MB": int(done.stdout.split()[-1]) / 1e3,
        "zh_reviews, words of labels, AUC": words,
        "zh_reviews, other shops' rows, AUC": fitted,
        "qingcha, NDCG@10": searches("qingcha", embed),
        "trailhead (English), NDCG@10": searches("trailhead", embed),
    }


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tokens", type=int, default=31_000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    home = Settings.from_environment().home
    with tempfile.TemporaryDirectory(prefix="shopfit-shrunk-") as temporary:
        done = shrink(NAME, home, Path(temporary) / "small", languages=["zh", "en"], tokens=options.tokens)
        small, whole = measured(options.data, home, str(done.folder)), measured(options.data, home, NAME)
    before, after = done.parameters[0] / 1e6, done.parameters[1] / 1e6
    rows = [Row("millions of numbers", after, before, "M", "3.5x fewer", before / after >= 3.5, before / after)]
    for what, value in small.items():
        quality = what.endswith(("AUC", "NDCG@10"))
        met = value >= 0.995 * whole[what] if quality else None
        rows.append(Row(what, value, whole[what], "", "within 0.5%" if quality else "", met, value / whole[what]))
    publish("bench-shrunk", rows)


if __name__ == "__main__":
    quiet()
    main()
