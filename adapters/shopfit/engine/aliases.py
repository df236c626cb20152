"""Which version a reference names, without asking the registry for each request.

One thread asks for all references in use twice a second, so that a promotion or rollback reaches requests within a
second; while the registry does not answer, what was known stays valid.
"""

import threading
import time
from contextlib import suppress

from shopfit.errors import ShopfitError
from shopfit.registry import Reference, Registry, Version

INTERVAL = 0.5  # seconds between looks at the registry
_IDLE = 600.0  # seconds until a reference that nobody asks for is forgotten


class AliasBook:
    """Known references. Any thread may ask.

    Args:
        registry: where they are looked up.
        interval: seconds between looks.
    """

    def __init__(self, registry: Registry, *, interval: float = INTERVAL) -> None:
        self._registry = registry
        self._interval = interval
        self._known: dict[Reference, Version] = {}
        self._asked: dict[Reference, float] = {}
        self._lock = threading.Lock()
        self._looks = 0
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def known(self, reference: Reference) -> Version | None:
        """What `reference` names, if that is known."""
        with self._lock:
            version = self._known.get(reference)
            if version is not None:
                self._asked[reference] = time.monotonic()
            return version

    def resolve(self, reference: Reference) -> Version:
        """What `reference` names, asking the registry.

        Raises:
            UnknownReference: if it names nothing.
            RegistryError: if the registry cannot be read.
        """
        with self._lock:
            looks = self._looks
        version = self._registry.resolve(reference)
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
        numbers = self._registry.numbers(watched)
        with self._lock:
            self._looks += 1
            for reference in watched:
                if reference in self._known and self._known[reference].number != numbers.get(reference):
                    del self._known[reference], self._asked[reference]
