"""What makes a base smaller or faster on small machines: `make bench-small DATA=path/to/data`.

Each against the same base as it is loaded by default (float32, packed for the processor), in turns, a query at a time:

- encoders: what `shopfit base shrink --languages zh,en` makes of e5-small-multilingual; `quantization: int8`; both; the
  last layers left out; the feed-forward units and heads that do least left out. What vectors are worth: five Chinese
  shops' reviews (cosine with the labels' words; logistic regression on the other shops' rows), searches of the sample
  tea shop and of an English one.
- the decoder smollm2-135m in int8 and nf4: a review classified, 32 rows with an adapter each decoded, and reviews of
  an English shop by the bare base.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import nn

from shopfit.adapter.adapted_model import Bare
from shopfit.adapter.stack import Packed, Stack
from shopfit.base.embed import Embedder
from shopfit.base.encode import PlainTokenizer
from shopfit.base.load import Base, load_base
from shopfit.base.scoring.questions import Question
from shopfit.base.shrinking import shrink
from shopfit.engine.offline_scoring import score
from shopfit.libraries import quiet
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.reading import read_rows
from shopfit.recipe.shipped import sample_folder
from shopfit.settings import Settings
from shopfit.tasks.ranking_metrics import Ranking
from tests.bench.engine import decode_step
from tests.bench.languages import E5 as NAME
from tests.bench.languages import SHOPS
from tests.bench.results import Row, publish

DECODER, ROWS, RANK = "smollm2-135m", 32, 8
QUERIES, REVIEWS = 100, 80
WHOLE = "as it is"
_ALONE = """
import sys
from pathlib import Path
from shopfit.libraries import quiet
quiet()
import torch
from shopfit.base.embed import Embedder
from shopfit.base.load import load_base
def own():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
empty = own()
embed = Embedder(load_base(sys.argv[2], Path(sys.argv[1]), quantization=sys.argv[3]))
embed(["茶"])
print(own() - empty)
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
    """NDCG@10 of a sample merchant's searches, by the cosine alone, of those with words."""
    folder = sample_folder(name)
    assert folder is not None
    catalog = Merchant.open(folder).catalog("catalog.jsonl")
    items, found = embed.items([item.text for item in catalog.values()]), []
    for row in (row for part in ("searches", "searches.test") for row in read_rows(folder / f"{part}.jsonl")):
        said: Any = row.values
        if said.get("query"):
            cosines = (items @ embed([said["query"]])[0]).astype(np.float64)
            found.append(Ranking.of(list(catalog), cosines, set(said["relevant"])).ndcg(10))
    return float(np.mean(found))


def turns(ask: Mapping[str, Callable[[int], object]], count: int) -> dict[str, float]:
    """Median milliseconds of each, asked in turns, so that a slow minute of the machine is everybody's."""
    times: dict[str, list[float]] = {name: [] for name in ask}
    for number in range(count):
        for name, one in ask.items():
            started = time.perf_counter()
            one(number)
            times[name].append(time.perf_counter() - started)
    return {name: float(np.median(some[len(some) // 10 :])) * 1e3 for name, some in times.items()}


def qualities(data: Path, embed: Embedder) -> dict[str, float]:
    """What an encoder's vectors are worth."""
    words, fitted = reviews(data / "zh_reviews", embed)
    found = {"reviews by words, AUC": words, "reviews by rows, AUC": fitted}
    return found | {f"{name}, NDCG@10": searches(name, embed) for name in ("qingcha", "trailhead")}


def memory(home: Path, name: str, quantization: str) -> float:
    """Megabytes that are a process's own, besides mapped files: after it has embedded a text, less those before."""
    command = [sys.executable, "-c", _ALONE, str(home), name, quantization]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]) / 1e3


def without_layers(base: Base, count: int) -> Base:
    """An encoder without its last layers."""
    layers = base.model.encoder.layer
    base.model.encoder.layer = nn.ModuleList(list(layers)[: len(layers) - count])
    return base


def without_units(base: Base, share: float) -> Base:
    """An encoder without the feed-forward units whose weights are smallest, smaller matrices in place of the old."""
    for layer in base.model.encoder.layer:
        into, out = layer.intermediate.dense, layer.output.dense
        norms = into.weight.norm(dim=1) * out.weight.norm(dim=0)
        kept = norms.topk(round(len(norms) * (1 - share))).indices.sort().values
        layer.intermediate.dense = _linear(into.weight[kept], into.bias[kept])
        layer.output.dense = _linear(out.weight[:, kept], out.bias)
    return base


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    from shopfit.base.prepack import prepack

    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.contiguous(), bias.clone()
    layer.requires_grad_(False)
    prepack(layer)
    return layer


def variants(home: Path, small: str) -> dict[str, Base]:
    """The encoder as it is, and what may be smaller or faster."""
    return {
        WHOLE: load_base(NAME, home),
        "shrunk to zh and en": load_base(small, home),
        "int8": load_base(NAME, home, quantization="int8"),
        "shrunk, int8": load_base(small, home, quantization="int8"),
        "last layer left out": without_layers(load_base(NAME, home), 1),
        "last 3 of 12 layers left out": without_layers(load_base(NAME, home), 3),
        "1 of 10 feed-forward units left out": without_units(load_base(NAME, home), 0.1),
        "3 of 10 feed-forward units left out": without_units(load_base(NAME, home), 0.3),
    }


def speeds(bases: Mapping[str, Base]) -> Iterator[Row]:
    """Milliseconds of one query, in turns."""
    texts = [f"想要一款适合{number}个人喝的清香型绿茶" for number in range(QUERIES)]
    for threads in (1, 2):
        torch.set_num_threads(threads)
        embedders = {name: Embedder(base, remember=False) for name, base in bases.items()}
        took = turns({name: partial(_one, embed, texts) for name, embed in embedders.items()}, QUERIES)
        for name, one in took.items():
            if name != WHOLE:
                ratio = took[WHOLE] / one
                yield Row(f"{name}: a query, {threads} threads", one, took[WHOLE], "ms", "1.5x", ratio >= 1.5, ratio)


def _one(embed: Embedder, texts: list[str], number: int) -> None:
    embed([texts[number]])


def memories(home: Path, small: str) -> Iterator[Row]:
    """What loading takes."""
    loaded = memory(home, NAME, "none")
    kinds = (("shrunk", small, "none"), ("int8", NAME, "int8"), ("shrunk, int8", small, "int8"))
    for name, which, quantization in kinds:
        took_up = memory(home, which, quantization)
        ratio = loaded / took_up
        yield Row(f"{name}: memory of the base", took_up, loaded, "MB", "2x less", ratio >= 2, ratio)


def worths(data: Path, bases: Mapping[str, Base]) -> Iterator[Row]:
    """What vectors are worth."""
    torch.set_num_threads(2)
    before = qualities(data, Embedder(bases[WHOLE]))
    for name, base in bases.items():
        for what, value in (qualities(data, Embedder(base)) if name != WHOLE else {}).items():
            ratio = value / before[what]
            yield Row(f"{name}: {what}", value, before[what], "", "within 0.5%", ratio >= 0.995, ratio)


def decoders(data: Path, home: Path) -> Iterator[Row]:
    """Rows of the decoder: peers are the same base in float32."""
    torch.set_num_threads(2)
    bases = {name: load_base(DECODER, home, quantization=name) for name in ("none", "int8", "nf4")}
    lines = (data / "reviews" / "apparel.t2.test").read_text().splitlines()[:REVIEWS]
    said = [line.rpartition("\t")[::2] for line in lines]
    plain = PlainTokenizer.of(bases["none"].tokenizer)
    labels = tuple(plain.encode(f" {label}", special=False) for label in ("negative", "positive"))
    asked = [Question(plain.encode(f"Review: {' '.join(text.split()[:80])}\nSentiment:"), labels) for text, _ in said]

    def ask(base: Base, number: int) -> Any:
        return score(Bare(base.model), base.scorer, [asked[number]])[0]

    took = turns({name: partial(ask, base) for name, base in bases.items()}, 20)
    ids, steps = torch.randint(0, 40_000, (ROWS, 48)), {}
    for name, base in bases.items():
        stack = Stack(base, ROWS, rank=RANK)
        for slot in range(1, ROWS + 1):
            stack.put(slot, Packed(RANK, torch.randn(stack.size(RANK)) * 0.01))
        with stack.rows(list(range(1, ROWS + 1)), decoding=True):
            steps[name] = decode_step(base.model, ids) * 1e3
    right, quality = [int(label == "1") for _, label in said], {}
    for name, base in bases.items():
        answers = [ask(base, number) for number in range(len(asked))]
        quality[name] = roc_auc_score(right, [float(one[1] - one[0]) for one in answers])
    for name in ("int8", "nf4"):
        for what, found in (("a review", took), (f"a step of {ROWS} rows, an adapter each", steps)):
            yield Row(
                f"{DECODER}, {name}: {what}", found[name], found["none"], "ms", "", None, found["none"] / found[name]
            )
        ratio = quality[name] / quality["none"]
        what = f"{DECODER}, {name}: {REVIEWS} reviews, bare base, AUC"
        yield Row(what, quality[name], quality["none"], "", "within 0.5%", ratio >= 0.995, ratio)


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tokens", type=int, default=31_000)
    options = parser.parse_args()
    home = Settings.from_environment().home
    with tempfile.TemporaryDirectory(prefix="shopfit-small-") as temporary:
        done = shrink(NAME, home, Path(temporary) / "small", languages=["zh", "en"], tokens=options.tokens)
        before, after = done.parameters[0] / 1e6, done.parameters[1] / 1e6
        ratio = before / after
        rows = [Row("shrunk: millions of numbers", after, before, "M", "3.5x fewer", ratio >= 3.5, ratio)]
        small, bases = str(done.folder), variants(home, str(done.folder))
        parts = (speeds(bases), decoders(options.data, home), memories(home, small), worths(options.data, bases))
        for row in itertools.chain(*parts):
            print(f"{row.what}: {row.ours:.3f}", flush=True)
            rows.append(row)
    publish("bench-small", rows)


if __name__ == "__main__":
    quiet()
    main()
