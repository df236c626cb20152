"""The catalogs that merchants sent to the gateway, in an engine process: each is read when it is first needed."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from shopfit.merchant.catalog import Catalog

if TYPE_CHECKING:
    from shopfit.registry import Registry

_MOST = 1024  # merchants whose catalogs stay in memory
_READERS = 4  # catalogs that are read at a time


class CurrentCatalogs:
    """Which merchants' catalogs an engine has, by digest. Any thread may ask.

    Args:
        registry: where they are.
        set_catalog: gives the engine a merchant's; None takes it away.
        has_catalog: whether the engine has one of a merchant: it drops those of merchants whose versions are all gone.
        most: merchants whose catalogs stay; those not asked for the longest go first, unless they are being asked.
    """

    def __init__(
        self,
        registry: "Registry",
        set_catalog: Callable[[str, Catalog | None], None],
        has_catalog: Callable[[str], bool],
        most: int = _MOST,
    ) -> None:
        self._registry = registry
        self._set = set_catalog
        self._has = has_catalog
        self._most = most
        self._digests: OrderedDict[str, str] = OrderedDict()
        self._waiting: dict[tuple[str, str], list[Callable[[Exception | None], None]]] = {}
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._readers = ThreadPoolExecutor(_READERS, "shopfit-catalogs")

    def is_current(self, merchant: str, digest: str) -> bool:
        """Whether the engine has this catalog of a merchant; the empty digest is that of its bundles."""
        with self._lock:
            known = self._digests.get(merchant, "")
            if known == digest and known:
                self._digests.move_to_end(merchant)
            return known == digest and self._has(merchant) == bool(known)

    def bring(self, merchant: str, digest: str, ready: Callable[[Exception | None], None]) -> None:
        """Read a merchant's catalog on another thread and give it to the engine.

        Args:
            merchant: whose it is.
            digest: as the gateway knows it.
            ready: called with None, or with the error of reading it; it must not raise.
        """
        with self._lock:
            waiting = self._waiting.setdefault((merchant, digest), [])
            waiting.append(ready)
            if len(waiting) > 1:
                return
        self._readers.submit(self._read, merchant, digest)

    def hold(self, merchant: str) -> None:
        """A request of the merchant is under way."""
        with self._lock:
            self._held[merchant] += 1

    def release(self, merchant: str) -> None:
        """It is over."""
        with self._lock:
            self._held[merchant] -= 1
            if self._held[merchant] <= 0:
                del self._held[merchant]

    def _read(self, merchant: str, digest: str) -> None:
        failed: Exception | None = None
        try:
            catalog, found = self._stored(merchant) if digest else (None, "")
            with self._lock:
                self._set(merchant, catalog)
                self._digests.pop(merchant, None)
                if catalog is not None:
                    self._digests[merchant] = found
                self._shrink()
        except Exception as error:  # whatever it is, those who wait are told
            failed = error
        with self._lock:
            waiting = self._waiting.pop((merchant, digest), [])
        for ready in waiting:
            ready(failed)

    def _stored(self, merchant: str) -> tuple[Catalog | None, str]:
        """The catalog that a merchant has now, and its own digest: it may have changed since a request named one."""
        current = self._registry.current_catalog(merchant)
        return (None, "") if current is None else (current[0], current[1].digest)

    def _shrink(self) -> None:
        for merchant in [name for name in self._digests if not self._held[name]]:
            if len(self._digests) <= self._most:
                return
            del self._digests[merchant]
            self._set(merchant, None)
