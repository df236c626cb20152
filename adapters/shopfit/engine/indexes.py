"""Search indexes of merchants' catalogs: each is built once, on its own thread, and replaces the old one when ready.

When a catalog changes, its old index is used until the new one is built. Texts that were embedded once, by this process
or another that shares its home, are not embedded again.
"""

import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass

from shopfit.base.merchant_search import catalog_index, of_merchant, with_encoder
from shopfit.engine.fair_thread_pool import Workers
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.search import CatalogIndex, Embed

_KEPT = 128  # indexes, of all merchants
_EACH = 4  # catalogs of one merchant that are searched, such as products and articles


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """An index and its catalog, which is kept so that Python does not reuse its id."""

    merchant: str
    catalog: Catalog
    encoder: str
    index: "Future[CatalogIndex]"


class Indexes:
    """Indexes of catalogs. Any thread may use it.

    Args:
        embed: turns texts into vectors; None to search by words only.
    """

    def __init__(self, embed: Embed | None) -> None:
        self._embed = embed
        self._made: OrderedDict[tuple[int, str], _Made] = OrderedDict()
        self._lock = threading.Lock()
        self._workers = Workers("shopfit-index", each=1, most=8)

    def close(self) -> None:
        """Build no more indexes."""
        self._workers.close()

    def of(self, merchant: str, catalog: Catalog, encoder: str) -> "Future[CatalogIndex]":
        """The future index of a catalog under an encoder; building it begins with the first call.

        Raises:
            EngineEnded: if the engine is closed.
        """
        with self._lock:
            key = id(catalog), encoder
            made = self._made.get(key)
            if made is not None and not _failed(made.index):
                self._made.move_to_end(key)
                return made.index
            made = self._made[key] = _Made(merchant, catalog, encoder, Future())
            self._let_go(merchant)
        try:
            self._workers.submit(merchant, lambda: self._make(made))
        except Exception:
            with self._lock:
                self._made.pop(key, None)
            raise
        return made.index

    def ready(self, merchant: str, catalog: Catalog, encoder: str) -> CatalogIndex | None:
        """The index of a catalog; until it is built, the merchant's latest index that shares items with it; else None.

        Building it begins in any case.
        """
        wanted = self.of(merchant, catalog, encoder)
        if wanted.done():
            return wanted.result()
        return self._before(merchant, catalog, encoder)

    def encoders(self, merchant: str) -> set[str]:
        """The encoders that catalogs of a merchant are indexed with; none if no catalog is."""
        with self._lock:
            return {made.encoder for made in self._made.values() if made.merchant == merchant}

    def forget(self, merchant: str) -> None:
        """Drop all indexes of a merchant's catalogs."""
        with self._lock:
            for place in [place for place, made in self._made.items() if made.merchant == merchant]:
                del self._made[place]

    def _make(self, made: _Made) -> None:
        try:
            before = self._before(made.merchant, made.catalog, made.encoder)
            embed = of_merchant(with_encoder(self._embed, made.encoder), made.merchant)
            made.index.set_result(catalog_index(made.catalog, embed, before))
        except Exception as error:
            made.index.set_exception(error)

    def _before(self, merchant: str, catalog: Catalog, encoder: str) -> CatalogIndex | None:
        with self._lock:
            mine = [made for made in self._made.values() if (made.merchant, made.encoder) == (merchant, encoder)]
        others = [made for made in mine if made.catalog is not catalog]
        indexes = (made.index.result() for made in reversed(others) if made.index.done() and not _failed(made.index))
        return next((index for index in indexes if any(item in index for item in catalog)), None)

    def _let_go(self, merchant: str) -> None:
        mine = [place for place, made in self._made.items() if made.merchant == merchant]
        for place in mine[:-_EACH]:
            del self._made[place]
        while len(self._made) > _KEPT:
            self._made.popitem(last=False)


def _failed(index: "Future[CatalogIndex]") -> bool:
    return index.done() and index.exception() is not None
