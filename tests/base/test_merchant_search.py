"""Indexes on disk: made once for all processes, never another's, and made anew where they are damaged."""

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from shopfit.base.embed import LateEmbedder
from shopfit.base.load import Base
from shopfit.base.merchant_search import KeptSource, MerchantEmbedder, catalog_index, of_merchant
from shopfit.base.segment_files import SegmentFiles
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.search import CatalogIndex
from shopfit.settings import index_bytes, indexes

WIDTH = 8


class Encoder:
    """Vectors that a text decides, and which texts it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        draws = [np.random.default_rng(list(text.encode())).normal(size=WIDTH) for text in texts]
        vectors = np.array(draws, np.float32).reshape(len(texts), WIDTH)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def catalog(*titles: str) -> Catalog:
    return Catalog({f"i{place}": Item(f"i{place}", title, {"title": title}) for place, title in enumerate(titles)})


def numbered(count: int) -> Catalog:
    return catalog(*(f"tent {number} {'with a porch ' * (number % 7)}" for number in range(count)))


def files(home: Path, merchant: str = "acme", encoder: str = "one", most: int = 10**9) -> SegmentFiles:
    return SegmentFiles(indexes(home, merchant), encoder, WIDTH, most)


def made(items: Catalog, kept: SegmentFiles, **options: object) -> tuple[CatalogIndex, Encoder]:
    """An index by another process: it knows only what is on disk."""
    encoder = Encoder()
    return CatalogIndex(items, encoder, source=KeptSource(encoder, kept, **options)), encoder  # type: ignore[arg-type]


def same(one: CatalogIndex, other: CatalogIndex, items: Catalog) -> None:
    for query in ("tent 3", "porch", "lamp"):
        found, wanted = (index.scores(query, [items["i0"]], list(items)) for index in (one, other))
        assert found.keys() == wanted.keys()
        for name, scores in found.items():
            np.testing.assert_allclose(scores, wanted[name], atol=1e-6)


@pytest.mark.parametrize("count", [1, 40, 1500])
def test_what_was_made_once_is_read(home: Path, count: int) -> None:
    items = numbered(count)
    first, encoder = made(items, files(home))
    assert sorted(encoder.asked) == sorted(item.text for item in items.values())
    again, idle = made(items, files(home))
    assert not idle.asked
    fresh = CatalogIndex(items, Encoder())
    same(first, fresh, items)
    same(again, fresh, items)


def test_only_what_changed_is_made(home: Path) -> None:
    items = numbered(300)
    before, _ = made(items, files(home))
    changed = Catalog({**items, "i7": Item("i7", "a lamp", {"title": "a lamp"})})
    encoder = Encoder()
    warm = CatalogIndex(changed, encoder, before=before, source=KeptSource(encoder, files(home)))
    assert encoder.asked == ["a lamp"]
    same(warm, CatalogIndex(changed, Encoder()), changed)
    other, idle = made(changed, files(home))
    assert not idle.asked
    same(other, CatalogIndex(changed, Encoder()), changed)


def test_an_index_of_a_catalog_that_keeps_changing_stays_small(home: Path) -> None:
    items = numbered(20)
    index, _ = made(items, files(home))
    for number in range(60):
        items = Catalog({**items, "i7": Item("i7", f"lamp {number}", {"title": f"lamp {number}"})})
        encoder = Encoder()
        index = CatalogIndex(items, encoder, before=index, source=KeptSource(encoder, files(home)))
        assert encoder.asked == [f"lamp {number}"]
    assert len(list(indexes(home, "acme").glob("*.safetensors"))) <= 17
    same(index, CatalogIndex(items, Encoder()), items)
    again, idle = made(items, files(home))
    assert not idle.asked
    same(again, index, items)


@pytest.mark.parametrize("other", [{"merchant": "beta"}, {"encoder": "two"}])
def test_another_merchants_and_another_encoders_are_never_used(home: Path, other: dict[str, str]) -> None:
    items = numbered(30)
    made(items, files(home))
    _, encoder = made(items, files(home, **other))
    assert len(encoder.asked) == 30


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 9)


def altered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def of_something_else(path: Path) -> None:
    save_file({"keys": np.zeros(3, np.float32)}, path)


def not_finite(path: Path) -> None:
    arrays = load_file(path)
    arrays["vectors"][3] = np.nan
    save_file(arrays, path)


@pytest.mark.parametrize("damage", [cut, altered, emptied, of_something_else, not_finite])
def test_a_damaged_file_is_noticed_and_made_anew(home: Path, damage: Callable[[Path], None]) -> None:
    items = numbered(30)
    made(items, files(home))
    (path,) = indexes(home, "acme").glob("*.safetensors")
    damage(path)
    index, encoder = made(items, files(home))
    assert len(encoder.asked) == 30
    same(index, CatalogIndex(items, Encoder()), items)
    assert not made(items, files(home))[1].asked


def test_vectors_that_are_not_finite_are_not_kept(home: Path) -> None:
    def broken(texts: Sequence[str]) -> np.ndarray:
        return np.full((len(texts), WIDTH), np.nan, np.float32)

    CatalogIndex(numbered(3), broken, source=KeptSource(broken, files(home)))
    assert len(made(numbered(3), files(home))[1].asked) == 3


def test_what_was_not_used_for_the_longest_goes_first(home: Path) -> None:
    items = [catalog(*(f"{name} {number}" for number in range(300))) for name in ("tent", "lamp", "stove")]
    for place, one in enumerate(items[:2]):
        made(one, files(home, f"m{place}"))
        for path in indexes(home, f"m{place}").glob("*.safetensors"):
            os.utime(path, (1000 + place, 1000 + place))
    size = sum(path.stat().st_size for path in (home / "indexes").glob("*/*.safetensors"))
    made(items[0], files(home, "m0"))  # used again
    made(items[2], files(home, "m2", most=int(1.2 * size)))
    assert [name for name in ("m0", "m1", "m2") if list(indexes(home, name).glob("*.safetensors"))] == ["m0", "m2"]


def test_what_a_killed_process_left_half_written_goes(home: Path) -> None:
    made(catalog("tent"), files(home, "m0"))
    dead, alive = (indexes(home, "m0") / f".half-{name}" for name in ("dead", "alive"))
    for half in (dead, alive):
        half.write_bytes(b"vectors")
    os.utime(dead, (1000, 1000))
    made(catalog("lamp"), files(home, "m1"))
    assert not dead.exists()
    assert alive.exists()


def test_two_that_begin_together_embed_once(home: Path) -> None:
    items, encoders = numbered(1500), [Encoder(), Encoder()]

    def make(encoder: Encoder) -> None:
        CatalogIndex(items, encoder, source=KeptSource(encoder, files(home)))

    with ThreadPoolExecutor(2) as pool:  # which raises here what is raised there
        list(pool.map(make, encoders))
    assert sorted(len(encoder.asked) for encoder in encoders) == [0, 1500]


def test_who_waits_for_another_process_says_so(home: Path) -> None:
    folder = indexes(home, "acme")
    folder.mkdir(parents=True)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    said: list[str] = []
    waiting = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        waiting.set()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: made(numbered(400), files(home), say=say))
        assert waiting.wait(60)
        os.close(handle)
        done.result()
    assert "waits" in said[0]


def test_how_long_it_takes_is_said_before_and_then_how_far_it_is(home: Path) -> None:
    now, said = [0.0], []
    encoder = Encoder()

    def slow(texts: Sequence[str]) -> np.ndarray:
        now[0] += len(texts) * 0.002 * max(map(len, texts)) / 10 + (5 if not encoder.asked else 0)
        return encoder(texts)

    source = KeptSource(slow, files(home), lambda line: said.append((now[0], line)), lambda: now[0])
    CatalogIndex(numbered(6000), slow, source=source)
    first, *rest = said
    assert "6,000 items" in first[1]
    about = float(first[1].split("about ")[1].removesuffix(" s"))
    assert abs(about - now[0]) < 0.3 * now[0]
    assert first[0] < 0.35 * now[0]
    times = [first[0], *(time for time, _ in rest), now[0]]
    assert max(later - earlier for earlier, later in pairwise(times)) < 12
    assert all(" of 6,000 " in line and line.endswith("s left") for _, line in rest)


def test_a_process_that_was_stopped_leaves_what_it_had_made(home: Path) -> None:
    items, encoder = numbered(20_000), Encoder()

    def stopped(texts: Sequence[str]) -> np.ndarray:
        if len(encoder.asked) > 17_000:
            raise KeyboardInterrupt
        return encoder(texts)

    with pytest.raises(KeyboardInterrupt):
        CatalogIndex(items, stopped, source=KeptSource(stopped, files(home)))
    assert len(made(items, files(home))[1].asked) <= 20_000 - 16_000


def test_a_home_that_cannot_be_written_only_keeps_nothing(home: Path) -> None:
    (home / "indexes").write_text("no folder")
    index, encoder = made(numbered(3), files(home))
    assert len(encoder.asked) == 3
    same(index, CatalogIndex(numbered(3), Encoder()), numbered(3))


def test_nothing_is_written_for_a_merchant_that_was_erased_meanwhile(home: Path) -> None:
    folder = indexes(home, "acme")

    def erasing(texts: Sequence[str]) -> np.ndarray:
        folder.rmdir()
        return Encoder()(texts)

    CatalogIndex(numbered(3), erasing, source=KeptSource(erasing, files(home)))
    assert not folder.exists()


@pytest.mark.parametrize("said", ["0", "-1", "nan", "inf", "much"])
def test_a_bound_that_is_none_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from shopfit.errors import ShopfitError

    monkeypatch.setenv("SHOPFIT_INDEX_GB", said)
    with pytest.raises(ShopfitError, match="SHOPFIT_INDEX_GB"):
        index_bytes()


def test_an_embedder_keeps_each_merchants_indexes_apart(home: Path, encoder: Base) -> None:
    everyones = LateEmbedder(home, str(encoder.folder))
    embed = of_merchant(everyones, "acme")
    assert isinstance(embed, MerchantEmbedder)
    items = numbered(20)
    index = catalog_index(items, embed)
    assert catalog_index(items, embed) is index
    same(index, CatalogIndex(items, everyones), items)
    catalog_index(items, of_merchant(embed, "beta"))
    assert sorted(path.name for path in (home / "indexes").iterdir()) == ["acme", "beta"]


def test_a_process_reads_what_another_made(home: Path, encoder: Base) -> None:
    items = numbered(20)
    script = f"""
from itertools import pairwise
from pathlib import Path
from shopfit.base.embed import LateEmbedder
from shopfit.base.merchant_search import MerchantEmbedder
from tests.base.test_merchant_search import numbered
MerchantEmbedder(LateEmbedder(Path({str(home)!r}), {str(encoder.folder)!r}), "acme").index(numbered(20))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    kept = {path: path.stat().st_ino for path in indexes(home, "acme").glob("*.safetensors")}
    assert len(kept) == 1
    MerchantEmbedder(LateEmbedder(home, str(encoder.folder)), "acme").index(items)
    assert {path: path.stat().st_ino for path in indexes(home, "acme").glob("*.safetensors")} == kept
