"""From the adapter that a request names to its weights in host memory, off the serving thread."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from shopfit.adapter.bundle import Bundle
from shopfit.adapter.stack import Stack
from shopfit.adapter.weights import load_weights
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.engine.aliases import AliasBook
from shopfit.engine.memory import HostMemory, Loaded
from shopfit.engine.requests import Adapter
from shopfit.engine.tenant import Tenant, needed
from shopfit.errors import RequestError
from shopfit.registry import Reference, Registry, Version

_LOADERS = 4  # threads: a loader mostly waits for the registry, or hashes


class Library:
    """Finds and loads adapters, each once however many requests name it.

    Args:
        base: the base they are for.
        stack: on that base.
        memory: where they are kept.
        registry: where references are looked up; None where requests name bundles or tenants only.
        cache: folder that registry bundles are brought to; needed with a registry.
    """

    def __init__(
        self, base: Base, stack: Stack, memory: HostMemory, registry: Registry | None, cache: Path | None
    ) -> None:
        self.memory = memory
        self._base = base
        self._stack = stack
        self._registry = registry
        self._cache = cache
        self._book = None if registry is None else AliasBook(registry)
        self._loading: dict[Hashable, Future[Loaded]] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_LOADERS, thread_name_prefix="shopfit-loader")

    def close(self) -> None:
        """End the threads; what is being loaded is given up."""
        if self._book is not None:
            self._book.close()
        self.memory.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def hold(self, adapter: Adapter) -> Loaded | None:
        """The adapter, if it is in host memory; see `HostMemory.hold`.

        Raises:
            UnknownReference: if the reference is malformed.
            RequestError: if there is no registry to look it up.
        """
        if isinstance(adapter, str):
            reference = Reference.parse(adapter)
            version = self._known_registry()[1].known(reference)
            return None if version is None else self.memory.hold(version.digest)
        return self.memory.hold(_key(adapter))

    def bring(self, adapter: Adapter, ready: Callable[[Loaded | BaseException], None]) -> None:
        """Load an adapter on another thread.

        Args:
            adapter: what `hold` did not find.
            ready: called with the adapter, held, or with why it cannot be had; it must not raise.

        Raises:
            RequestError: if the engine is closed.
        """
        name = adapter if isinstance(adapter, str) else _key(adapter)
        with self._lock:
            future = self._loading.get(name)
            if future is None:
                try:
                    future = self._loading[name] = self._threads.submit(self._load, name, adapter)
                except RuntimeError:
                    raise closed() from None

        def loaded(future: Future[Loaded]) -> None:
            if future.cancelled():
                ready(closed())
            elif (error := future.exception()) is not None:
                ready(error)
            else:
                ready(self.memory.put(future.result()))

        future.add_done_callback(loaded)

    def load(self, adapter: Adapter) -> Loaded:
        """The adapter, held, on this thread.

        Raises:
            UnknownReference: if it names nothing.
            BundleError: if its files are broken.
            BaseError: if it belongs to another base.
            RegistryError: if the registry cannot be read.
        """
        if isinstance(adapter, str):
            version = self._resolve(adapter)
            return self.memory.hold(version.digest) or self.memory.put(self._of_version(version))
        key = _key(adapter)
        tenant = Tenant.of(adapter) if isinstance(adapter, Bundle) else adapter
        return self.memory.hold(key) or self.memory.put(self._of_tenant(key, tenant))

    def _load(self, name: Hashable, adapter: Adapter) -> Loaded:
        try:
            loaded = self.load(adapter)
            self.memory.release(loaded)  # each of those who wait holds it for itself
            return loaded
        finally:
            with self._lock:
                self._loading.pop(name, None)

    def _resolve(self, reference: str) -> Version:
        parsed, book = Reference.parse(reference), self._known_registry()[1]
        return book.known(parsed) or book.resolve(parsed)

    def _of_version(self, version: Version) -> Loaded:
        registry, _ = self._known_registry()
        assert self._cache is not None
        # a copy in the cache saves the way to a distant store; from a near one, reading what it takes is faster
        bundle = registry.read(version, needed) if registry.near else registry.fetch(version, self._cache)
        return self._of_tenant(version.digest, Tenant.of(bundle, version.name))

    def _of_tenant(self, key: Hashable, tenant: Tenant) -> Loaded:
        weights = None if tenant.bundle is None else load_weights(tenant.bundle, self._base, self._stack)
        prompter = Prompter(
            tenant.recipe, self._base.tokenizer, tenant.catalog, tenant.history, encoder=self._base.encoder
        )
        return Loaded(key, tenant, prompter, weights)

    def _known_registry(self) -> tuple[Registry, AliasBook]:
        if self._registry is None or self._book is None or self._cache is None:
            raise RequestError(
                "this engine has no registry to look up references",
                next_step="make it with Engine.load, or name a bundle",
            )
        return self._registry, self._book


def _key(adapter: Bundle | Tenant) -> Hashable:
    """Bundles are known by their content; tenants, which may change a bundle's recipe or items, by themselves."""
    return adapter.digest if isinstance(adapter, Bundle) else ("tenant", id(adapter))


def closed() -> RequestError:
    """What requests to a closed engine get."""
    return RequestError("this engine is closed", next_step="load a new one")
