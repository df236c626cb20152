"""Which version a reference names, for servers: without asking the registry for each request.

One thread looks several times a second at the one marker that every change of the registry moves, and asks for all
references in use when it moved, so that a promotion or rollback reaches requests within a second. While the registry
does not answer, the last known versions stay valid. Versions are compared by digest: in a registry that was restored
from a backup, the same number may name other weights. A version is watched as long as anything of it is cached, also
when no alias names it any more. References that name nothing are cached for a moment, too.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from shopfit.errors import ShopfitError, UnknownReference
from shopfit.registry.reference import Reference
from shopfit.registry.version import Revision, Version

if TYPE_CHECKING:
    from shopfit.registry.registry import Registry

INTERVAL = 0.25  # seconds between looks at the registry's revision
IDLE = 600.0  # seconds until a reference that nobody asks for is forgotten
_AT_LEAST = 5.0  # seconds until all references are asked for even if the revision stays
_UNKNOWN = 1.0  # seconds that a reference which names nothing is remembered
_MOST_UNKNOWN = 4096


class AliasCache:
    """Known references. Any thread may ask.

    Args:
        registry: where they are looked up.
        gone: called with a version that was removed, when no reference in use names it any more.
        erased: called with the name of a merchant that was erased, or whose last version was removed.
        kept: whether anything of a version is cached: it is then watched even if no request asks for it.
        interval: seconds between looks at the registry.
        idle: seconds until a reference that nobody asks for is forgotten, where nothing of it is cached.
        revision: the registry's, where another part of the process follows it already; asked for by default.
    """

    def __init__(
        self,
        registry: "Registry",
        gone: Callable[[Version], None] = lambda _: None,
        erased: Callable[[str], None] = lambda _: None,
        kept: Callable[[Version], bool] = lambda _: False,
        *,
        interval: float = INTERVAL,
        idle: float = IDLE,
        revision: Callable[[], Revision] | None = None,
    ) -> None:
        self._registry = registry
        self._gone = gone
        self._erased = erased
        self._kept = kept
        self._interval = interval
        self._idle = idle
        self._revision = revision or registry.revision
        self._lost: list[Version] = []  # removed; whether their merchants were erased is still to be asked
        self._known: dict[Reference, Version] = {}
        self._asked: dict[Reference, float] = {}
        self._unknown: OrderedDict[Reference, tuple[float, UnknownReference]] = OrderedDict()
        self._compared: Revision | None = None  # the registry's when all references were; None if some are newer
        self._due = 0.0  # time.monotonic() of the next comparison, whatever the revision
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        """How many references it watches."""
        return len(self._known)

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
                    raise ShopfitError.from_document(error.document())  # another one: a traceback stays with each
                del self._unknown[reference]
            return version

    def resolve(self, reference: Reference) -> Version:
        """What `reference` names, asking the registry.

        Raises:
            UnknownReference: if it names nothing.
            RegistryError: if the registry cannot be read.
        """
        try:
            version = self._registry.resolve(reference)
        except UnknownReference as error:
            with self._lock:
                self._unknown[reference] = time.monotonic() + _UNKNOWN, error
                while len(self._unknown) > _MOST_UNKNOWN:
                    self._unknown.popitem(last=False)
            raise
        with self._lock:
            self._add(reference, version)
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._watch, name="shopfit-aliases", daemon=True)
                self._thread.start()
        return version

    def watch(self, reference: Reference, version: Version) -> None:
        """Keep watching a version that was loaded for a reference, if the reference no longer names it."""
        with self._lock:
            if self._known.get(reference) is not version:
                self._watch_number(version)

    def close(self) -> None:
        """Stop looking at the registry."""
        self._closing.set()

    def _watch(self) -> None:
        while not self._closing.wait(self._interval):
            with suppress(ShopfitError):  # the last known versions stay valid until the registry answers
                self._look()

    def _look(self) -> None:
        revision, now = self._revision(), time.monotonic()
        with self._lock:
            if revision == self._compared and now < self._due:
                return
            self._compared, self._due = revision, now + _AT_LEAST
        try:
            self._compare()
        except ShopfitError:
            with self._lock:
                self._compared = None
            raise

    def _compare(self) -> None:
        """Ask for every reference that is watched, and act on what changed."""
        with self._lock:
            idle = time.monotonic() - self._idle
            for reference in [reference for reference, asked in self._asked.items() if asked < idle]:
                if not self._kept(self._known[reference]):
                    del self._known[reference], self._asked[reference]
            watched = dict(self._known)
        now = self._registry.identities(watched)
        removed: dict[str, Version] = {}
        with self._lock:
            for reference, known in watched.items():
                found = now.get(reference)
                if self._known.get(reference) is not known or (
                    found is not None and found.digest == known.digest and found.number == known.number
                ):
                    continue
                del self._known[reference], self._asked[reference]
                if found is None or reference.number is not None:
                    removed[known.digest] = known
                else:  # the alias moved on; the version may still be kept
                    self._watch_number(known)
                if found is None:
                    self._lost.append(known)
            for version in self._known.values():
                removed.pop(version.digest, None)
        for version in removed.values():
            self._gone(version)
        while self._lost:
            if self._registry.erased(self._lost[-1]):
                self._erased(self._lost[-1].merchant)
            self._lost.pop()

    def _watch_number(self, version: Version) -> None:
        reference = Reference(version.merchant, version.recipe, version.number)
        if reference not in self._known:
            self._add(reference, version)

    def _add(self, reference: Reference, version: Version) -> None:
        """Watch a reference, which may have changed since it was read: so the next look compares."""
        self._known[reference], self._asked[reference] = version, time.monotonic()
        self._compared = None
