"""What of the registry every request needs at hand: the merchants' catalogs, releases and limits, as they are now."""

import asyncio
import contextlib
import logging
import threading

from shopfit.errors import ShopfitError
from shopfit.registry import Limits, Registry, Release, Revision
from shopfit.serve.registry_threads import RegistryThreads

logger = logging.getLogger(__name__)

INTERVAL = 0.25  # seconds between looks: what others change is seen that much later


class RegistryState:
    """A copy that follows the registry. It is read again only when the registry's revision has moved.

    Args:
        registry: that it follows.
        threads: that ask it.

    Attributes:
        catalogs: identity of the catalog that a merchant sent, by merchant.
        releases: canaries and shadows under way, by (merchant, recipe).
        limits: by merchant, where it has its own.
    """

    def __init__(self, registry: Registry, threads: RegistryThreads) -> None:
        self.catalogs: dict[str, str] = {}
        self.releases: dict[tuple[str, str], list[Release]] = {}
        self.limits: dict[str, Limits] = {}
        self._registry = registry
        self._threads = threads
        self._revision: Revision | None = None
        self._reading = threading.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read it, and follow it from now on.

        Raises:
            RegistryError: if it cannot be read.
        """
        await self.refresh()
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Follow it no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def revision(self) -> Revision:
        """The registry's, as it was seen last: after `start`, on any thread."""
        assert self._revision is not None
        return self._revision

    async def refresh(self) -> None:
        """Read what has changed, as after an own change.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        await self._threads.run(self._read)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self.refresh()
            except ShopfitError:  # what was known stays valid until the registry answers
                logger.warning("the registry cannot be read; what was known of it stays", exc_info=True)
                await asyncio.sleep(1)

    def _read(self) -> None:
        with self._reading:  # one after the other, so that what was read last is what is known
            revision = self._registry.revision()  # before what it is about, or a change between would be missed
            if revision == self._revision:
                return
            releases: dict[tuple[str, str], list[Release]] = {}
            for release in self._registry.releases():
                releases.setdefault((release.merchant, release.recipe), []).append(release)
            limits, catalogs = self._registry.limits(), self._registry.catalogs()
            self.releases, self.limits, self.catalogs = releases, limits, catalogs
            self._revision = revision
