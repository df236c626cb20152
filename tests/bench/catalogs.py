"""`make bench-catalogs`: what a large catalog costs, on a synthetic one whose items are of a shop's length.

Search only: the encoder is the packaged one, and nothing is trained. A new process is one that has imported nothing.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from shopfit.adapter.items import written
from shopfit.base.embed import LateEmbedder
from shopfit.base.merchant_search import MerchantEmbedder
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.segments import Segment, words_of
from shopfit.recipe.shipped import sample_folder
from shopfit.settings import Settings, indexes

_MERCHANT, _QUERY, _TIMES = "bench", "warm tent for two", 5
_PROCESS = """
import sys, time
from pathlib import Path
began = time.perf_counter()
from shopfit.adapter.items import parsed
from shopfit.base.embed import LateEmbedder
from shopfit.base.merchant_search import MerchantEmbedder
home, file = map(Path, sys.argv[1:])
embed = MerchantEmbedder(LateEmbedder(home, remember=False), "bench")
embed(["warm"])
ready = time.perf_counter()
catalog = parsed(file.read_bytes(), str(file))
read = time.perf_counter()
index = embed.index(catalog)
index.search({query!r}, [], tuple(catalog), 200)
print(ready - began, read - ready, time.perf_counter() - read)
"""


def synthetic(size: int) -> Catalog:
    """A catalog of the words of the sample merchant's, as often as words are (Zipf), some 25 an item."""
    folder = sample_folder("trailhead")
    assert folder is not None
    draw, sample = random.Random(0), Merchant.open(folder).catalog("catalog.jsonl")
    words = sorted({word for item in sample.values() for word in words_of(item.text)})
    draw.shuffle(words)
    weights = [1 / (3 + place) for place in range(len(words))]
    items = {}
    for number in range(size):
        said = draw.choices(words, weights, k=draw.randint(12, 38))
        title, description = f"{' '.join(said[:5])} {number}", " ".join(said[7:])
        fields = {"id": f"i{number}", "title": title, "brand": said[5], "category": said[6], "description": description}
        items[f"i{number}"] = Item(f"i{number}", title, {**fields, "price": 9.5})
    return Catalog(items)


def changed(catalog: Catalog, title: str) -> Catalog:
    """The catalog with another title of one item."""
    old = catalog["i7"]
    return Catalog({**catalog, "i7": Item("i7", title, {**old.fields, "title": title})})


def seconds(work: Callable[[], object]) -> float:
    """The median of some runs."""
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return sorted(times)[_TIMES // 2]


def new_process(home: Path, file: Path) -> tuple[float, float, float]:
    """Seconds of a new process: to import and load the encoder, to read the catalog, and to index and search it."""
    script = _PROCESS.format(query=_QUERY)
    done = subprocess.run(
        [sys.executable, "-c", script, str(home), str(file)], check=True, capture_output=True, text=True, env=os.environ
    )
    loaded, read, searched = map(float, done.stdout.split())
    return loaded, read, searched


def main() -> None:
    """Measure, and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--items", type=int, default=100_000)
    size = options.parse_args().items
    home = Settings.from_environment().home
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "home"
        place.mkdir()
        (place / "bases").symlink_to(home / "bases")
        catalog, file = synthetic(size), Path(folder) / "catalog.jsonl"
        file.write_text(written(catalog.values()), encoding="utf-8")
        _measure(catalog, file, place)


def _measure(catalog: Catalog, file: Path, home: Path) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        print(line, flush=True)

    encoder = LateEmbedder(home, remember=False)
    embed = MerchantEmbedder(encoder, _MERCHANT, say)
    began = time.perf_counter()
    index = embed.index(catalog)
    whole = time.perf_counter() - began
    told = next((found[1] for line in said if (found := re.search(r"about (\d+) s", line))), "nothing")
    kept = sum(path.stat().st_size for path in indexes(home, _MERCHANT).iterdir())
    rows = [("first index", f"{whole:.0f} s; {told} s said beforehand; {kept / 1e6:.0f} MB kept")]
    loaded, read, searched = new_process(home, file)
    what = "new process: imports and encoder / catalog read / index and search"
    rows.append((what, f"{loaded:.2f} / {read:.2f} / {searched:.2f} s"))
    pool = tuple(catalog)
    rows.append(("search in a warm process", f"{1000 * seconds(lambda: index.search(_QUERY, [], pool, 200)):.0f} ms"))
    numbers = iter(range(10_000))

    def change() -> None:
        items = changed(catalog, f"another tent {next(numbers)}")
        MerchantEmbedder(encoder, _MERCHANT, say).index(items, index)

    rows.append(("one changed item in a warm process", f"{1000 * seconds(change):.0f} ms"))
    file.write_text(written(changed(catalog, "one more tent").values()), encoding="utf-8")
    *_, searched = new_process(home, file)
    rows.append(("one changed item, new process: index and search", f"{searched:.2f} s"))
    matrix = np.random.default_rng(0).normal(size=(len(catalog), encoder.kind[1])).astype(np.float32)
    asked = np.ascontiguousarray(matrix[:1].T)
    rows.append(("exact cosine with every item", f"{1000 * seconds(lambda: matrix @ asked):.1f} ms"))
    texts = [item.text for item in catalog.values()]
    empty = np.zeros((len(texts), 0), np.float32)
    began = time.perf_counter()
    Segment.of(texts, empty)
    rows.append(("words of every item counted anew", f"{time.perf_counter() - began:.1f} s"))
    print(f"\n{len(catalog):,} items, {len(os.sched_getaffinity(0))} cores\n\n| what | measured |\n| --- | --- |")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
