"""One merchant's search: its catalogs' indexes are made once, kept on disk, and shared by processes."""

import fcntl
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from shopfit.base.by_language import encoder_of
from shopfit.base.embed import LateEmbedder, Vectors
from shopfit.base.segment_files import SegmentFiles
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.search import CatalogIndex, Embed, Source
from shopfit.merchant.segments import Segment, covering, keys_of
from shopfit.recipe.schema import Recipe
from shopfit.settings import index_bytes, indexes

logger = logging.getLogger(__name__)

Say = Callable[[str], object]
"""Told in a line what is being made, how far it is and how long it takes."""

_FEW = 256  # texts that are embedded at once, though another process may embed the same
_BATCH, _PART = 64, 256  # texts an embedding; embeddings until what there is goes to disk
_MEASURED, _FEWEST = 16, 6  # embeddings that tell how long all will take; the fewest, where they are slow
_EVERY = 10.0  # seconds between two lines
_LOOK = 0.2  # seconds until a process that waits for another looks again


class MerchantEmbedder:
    """Turns texts into vectors, and keeps what is made of one merchant's catalogs.

    Args:
        embed: that of all merchants.
        merchant: its slug.
        say: told how far an index is; by default that is logged.
    """

    def __init__(self, embed: LateEmbedder, merchant: str, say: Say = logger.info) -> None:
        self._embed, self.merchant = embed, merchant
        self._folder = indexes(embed.home, merchant)
        self._say = say
        self._latest: tuple[Catalog, CatalogIndex] | None = None

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Embed N texts that are no items: nothing of them is written."""
        return self._embed(texts)

    def items(self, texts: Sequence[str]) -> Vectors:
        """Embed N texts that are found, and of which nothing is written either, such as plain titles."""
        return self._embed.items(texts)

    def similarity(self, cosines: Any) -> Any:
        """Cosines as similarities; see `Profile`."""
        return self._embed.similarity(cosines)

    def index(self, catalog: Catalog, before: CatalogIndex | None = None) -> CatalogIndex:
        """The index of a catalog; an earlier one, if it is given, saves work. Any thread may call it."""
        latest = self._latest
        if latest is not None and latest[0] is catalog:
            return latest[1]
        earlier = before if before is not None or latest is None else latest[1]
        files = SegmentFiles(self._folder, *self._embed.kind, index_bytes())
        index = CatalogIndex(catalog, self, before=earlier, source=KeptSource(self._embed.items_once, files, self._say))
        self._latest = catalog, index
        return index

    @property
    def name(self) -> str:
        """That of its encoder."""
        return self._embed.name

    @property
    def fingerprint(self) -> str:
        """That of its encoder."""
        return self._embed.fingerprint

    @property
    def follows(self) -> bool:
        """Whether recipes say which encoder it has."""
        return self._embed.follows

    def called(self, name: str) -> "MerchantEmbedder":
        """That of the same merchant with another encoder."""
        return self if name == self.name else MerchantEmbedder(self._embed.called(name), self.merchant, self._say)

    def of(self, merchant: str) -> "MerchantEmbedder":
        """That of a merchant: another's indexes are another's."""
        return self if merchant == self.merchant else MerchantEmbedder(self._embed, merchant, self._say)


def with_encoder(embed: Embed | None, name: str) -> Embed | None:
    """An embedder with another encoder, if recipes say which one it has.

    Args:
        embed: any; None for none.
        name: of the encoder.
    """
    return embed.called(name) if isinstance(embed, MerchantEmbedder | LateEmbedder) and embed.follows else embed


def for_parts(embed: Embed | None, recipe: Recipe) -> Embed | None:
    """The embedder of score fusion whose facts are vectors: that with the encoder that made them."""
    return embed.called(encoder_of(recipe)) if isinstance(embed, MerchantEmbedder | LateEmbedder) else embed


def encoder_name(embed: Embed | None) -> str:
    """That of an embedder's encoder; empty if there is none, or it is not of the usual kind."""
    return embed.name if isinstance(embed, MerchantEmbedder | LateEmbedder) else ""


def encoder_fingerprint(embed: Embed | None) -> str:
    """That of an embedder's encoder; empty if there is none, or it is not of the usual kind."""
    return embed.fingerprint if isinstance(embed, MerchantEmbedder | LateEmbedder) else ""


def of_merchant(embed: Embed | None, merchant: str) -> Embed | None:
    """An embedder for one merchant's search: one that keeps indexes, if it is the usual kind."""
    if isinstance(embed, MerchantEmbedder):
        return embed.of(merchant)
    return MerchantEmbedder(embed, merchant) if isinstance(embed, LateEmbedder) else embed


def catalog_index(catalog: Catalog, embed: Embed | None, before: CatalogIndex | None = None) -> CatalogIndex:
    """The index of a catalog, kept on disk if the embedder keeps any.

    Args:
        catalog: its items.
        embed: turns texts into vectors; None to find by words only.
        before: an earlier index with the same `embed`.
    """
    if isinstance(embed, MerchantEmbedder):
        return embed.index(catalog, before)
    return CatalogIndex(catalog, embed, before=before)


class KeptSource(Source):
    """Segments on disk; what is not there is made, by one process at a time if it is much.

    Args:
        embed: turns one or more texts into vectors.
        files: where segments are kept.
        say: told how far it is.
        clock: gives seconds.
    """

    def __init__(
        self, embed: Embed, files: SegmentFiles, say: Say = logger.info, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._embed, self._files, self._say, self._clock = embed, files, say, clock

    def held(self, known: Sequence[Segment]) -> Sequence[Segment]:
        """What is on disk."""
        return self._files.open(known)

    def made(self, texts: Sequence[str]) -> Sequence[Segment]:
        """Segments that hold N texts, which are kept as far as the disk takes them."""
        folder = self._files.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            logger.warning("indexes cannot be kept in %s: %s", folder, error)
        if len(texts) <= _FEW:
            return [self._files.add(Segment.of(texts, self._embed(texts)))]
        with self._alone(folder):
            held, rows = covering(keys_of(texts), self._files.open())  # another process may have made them meanwhile
            left = [texts[place] for place in np.flatnonzero(rows < 0).tolist()]
            return [*held, *self._built(left)] if left else held

    def _built(self, texts: Sequence[str]) -> Iterator[Segment]:
        """Segments of texts, each on disk before the next is begun, so that a process that is stopped loses little."""
        ordered = sorted(texts, key=len)
        batches = [ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH)]
        started = said = self._clock()
        measured, told, done, part, vectors = started, False, 0, list[str](), list[Vectors]()
        for number, batch in enumerate(_mixed(batches), start=1):
            vectors.append(self._embed(batch))
            part += batch
            done += len(batch)
            if number == len(batches) or not number % _PART:
                yield self._files.add(Segment.of(part, np.concatenate(vectors)))
                part, vectors = [], []
            now = self._clock()
            if number == 1:  # it also loads the encoder, and is not one of those that tell
                measured = now
            seconds = (now - measured) / max(1, number - 1)
            left = seconds * (len(batches) - number)
            late = number > _FEWEST and now - started >= _EVERY / 2
            if not told and left and (number > _MEASURED or late):
                self._say(f"{len(texts):,} items are read for search, once: about {now - started + left:.0f} s")
                told, said = True, now
            elif number > 1 and now - said >= _EVERY:
                self._say(f"{done:,} of {len(texts):,} items are read for search, {left:.0f} s left")
                said = now

    @contextmanager
    def _alone(self, folder: Path) -> Iterator[None]:
        """A context in which nobody else makes segments in a folder; on filesystems without locks, others may."""
        try:
            handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            yield
            return
        try:
            said = -_EVERY
            while not _locked(handle):
                if self._clock() - said >= _EVERY:
                    said = self._clock()
                    self._say("another process reads the catalog for search: this one waits for it")
                time.sleep(_LOOK)
            yield
        finally:
            os.close(handle)


def _locked(handle: int) -> bool:
    """Whether the lock is ours now, or there are none on this filesystem."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _mixed(batches: list[list[str]]) -> list[list[str]]:
    """Batches in an order whose beginning is like the whole: first some of every length."""
    draw, few = random.Random(0), _MEASURED + 1
    first = sorted({len(batches) * (2 * place + 1) // (2 * few) for place in range(few)})
    rest = sorted(set(range(len(batches))) - set(first))
    return [batches[place] for part in (first, rest) for place in draw.sample(part, len(part))]
