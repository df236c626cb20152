"""Which version a reference names, without asking the registry for each request.

One thread asks for all references in use twice a second, so that a promotion or rollback reaches requests within a
second; while the registry does not answer, what was known stays valid. Versions are compared by digest: in a registry
that was restored from a backup, the same number may name other weights. What names nothing is remembered for a moment,
so that asking for it again and again costs nothing.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from shopfit.errors import ShopfitError, UnknownReference
from shopfit.registry import Reference, Registry, Version

INTERVAL = 0.5  # seconds between looks at the registry
_IDLE = 600.0  # seconds until a reference that nobody asks for is forgotten
_UNKNOWN = 1.0  # seconds that a reference which names nothing is remembered
_MOST_UNKNOWN = 4096


class AliasBook:
    """Known references. Any thread may ask.

    Args:
        registry: where they are looked up.
        gone: is told the digest of a version that was removed, when no reference in use names it any more.
        interval: seconds between looks.
    """

    def __init__(self, registry: Registry, gone: Callable[[str], None], *, interval: float = INTERVAL) -> None:
        self._registry = registry
        self._gone = gone
        self._interval = interval
        self._known: dict[Reference, Version] = {}
        self._asked: dict[Reference, float] = {}
        self._unknown: OrderedDict[Reference, tuple[float, UnknownReference]] = OrderedDict()
        self._lock = threading.Lock()
        self._looks = 0
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def known(self, reference: Reference) -> Version | None:
        """What `reference` names, if that is known.

        Raises:
            UnknownReference: if it named nothing a moment ago.
        """
        with self._lock:
            version = self._known.get(reference)
            if version is not None:
                self._asked[reference] = time.monotonic()
            elif (remembered := self._unknown.get(reference)) is not None:
                until, error = remembered
                if time.monotonic() < until:
                    raise UnknownReference(error.message, problems=error.problems, next_step=error.next_step)
                del self._unknown[reference]
            return version

    def resolve(self, reference: Reference) -> Version:
        """What `reference` names, asking the registry.

        Raises:
            UnknownReference: if it names nothing.
            RegistryError: if the registry cannot be read.
        """
        with self._lock:
            looks = self._looks
        try:
            version = self._registry.resolve(reference)
        except UnknownReference as error:
            with self._lock:
                self._unknown[reference] = time.monotonic() + _UNKNOWN, error
                while len(self._unknown) > _MOST_UNKNOWN:
                    self._unknown.popitem(last=False)
            raise
        with self._lock:
            if self._looks == looks:  # else a look may have seen something newer: ask again the next time
                self._known[reference] = version
                self._asked[reference] = time.monotonic()
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._watch, name="shopfit-aliases", daemon=True)
                self._thread.start()
        return version

    def close(self) -> None:
        """Stop looking."""
        self._closing.set()

    def _watch(self) -> None:
        while not self._closing.wait(self._interval):
            with suppress(ShopfitError):  # what is known stays valid until the registry answers
                self._look()

    def _look(self) -> None:
        with self._lock:
            idle = time.monotonic() - _IDLE
            for reference in [reference for reference, asked in self._asked.items() if asked < idle]:
                del self._known[reference], self._asked[reference]
            watched = list(self._known)
        now = self._registry.identities(watched)
        removed: set[str] = set()
        with self._lock:
            self._looks += 1
            for reference in watched:
                known, found = self._known.get(reference), now.get(reference)
                if known is not None and (
                    found is None or found.digest != known.digest or found.number != known.number
                ):
                    del self._known[reference], self._asked[reference]
                    if found is None:
                        removed.add(known.digest)
            removed -= {version.digest for version in self._known.values()}
        for digest in removed:
            self._gone(digest)
