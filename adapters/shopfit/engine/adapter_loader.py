"""Loads the adapter that a request names into host memory, off the serving thread."""

import logging
import os
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from shopfit.adapter.artifacts import beside_weights, needed
from shopfit.adapter.bundle import BaseIdentity, Bundle, HeldBundle
from shopfit.adapter.packed_files import PackedFile, PackedFiles
from shopfit.adapter.stack import Packed, Stack
from shopfit.adapter.weights import load_weights
from shopfit.base.load import Base
from shopfit.engine.adapter_cache import AdapterCache, Loaded
from shopfit.engine.fair_thread_pool import Workers, closed
from shopfit.engine.validation import merchant_of
from shopfit.errors import RequestError, ShopfitError
from shopfit.registry import AliasCache, Reference, Registry, Version, fetching
from shopfit.tasks.tenant import Adapter, Tenant

logger = logging.getLogger(__name__)

# loader threads for a local blob store: they are CPU-bound, and more would slow the serving thread
_NEAR = max(4, (os.cpu_count() or 1) // 2)
_FAR = 32  # for a remote blob store: threads mostly wait for the network

Ready = Callable[[Loaded | Exception], None]


class _Fresh(NamedTuple):
    """A version that was packed just now, and what is to be kept of it."""

    reference: Reference
    version: Version
    file: PackedFile


class AdapterLoader:
    """Finds and loads adapters, each once however many requests name it.

    Args:
        base: the base they are for.
        stack: on that base.
        adapter_cache: where loaded adapters are kept.
        registry: where references are looked up; None where requests name bundles or tenants only.
        cache: folder that registry bundles are brought to; needed with a registry.
        disk: bytes of packed adapters kept there, so that they load faster.
        gone: called with an adapter that no reference names any more.
        erased: called with the name of a merchant that was erased, or has no version left.
        keeps: whether anything but adapters is cached of a merchant.
    """

    def __init__(
        self,
        base: Base,
        stack: Stack,
        adapter_cache: AdapterCache,
        registry: Registry | None,
        cache: Path | None,
        disk: int = 8 * 1024**3,
        gone: Callable[[Loaded], None] = lambda _: None,
        erased: Callable[[str], None] = lambda _: None,
        keeps: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.adapter_cache = adapter_cache
        self._base = base
        self._stack = stack
        self._registry = registry
        self._cache = cache
        layout = f"{base.fingerprint}-{stack.layout}"
        self._packed = None if cache is None else PackedFiles(cache, layout, disk)
        self._swept = False
        self._gone = gone
        self._merchant_kept = keeps
        self._book = None if registry is None else AliasCache(registry, self._drop, erased, self._keeps)
        self._loading: dict[Hashable, list[Ready]] = {}
        self._lock = threading.Lock()
        self._told: set[str] = set()
        most = _NEAR if registry is None or registry.near else _FAR
        self._workers = Workers("shopfit-loader", each=most // 2, most=most)

    def waiting(self, merchant: str) -> int:
        """Adapters of a merchant that no thread has begun to load."""
        return self._workers.waiting(merchant)

    def _drop(self, version: Version) -> None:
        if self._packed is not None:
            self._packed.remove(version.digest)
        if (loaded := self.adapter_cache.drop(version.digest)) is not None:
            self._gone(loaded)

    def _keeps(self, version: Version) -> bool:
        on_disk = self._packed is not None and version.digest in self._packed
        return on_disk or version.digest in self.adapter_cache or self._merchant_kept(version.merchant)

    def close(self) -> None:
        """End the threads; loads in progress are given up."""
        if self._book is not None:
            self._book.close()
        self._workers.close()
        self.adapter_cache.close()
        with self._lock:
            waiting = [ready for several in self._loading.values() for ready in several]
            self._loading.clear()
        for ready in waiting:
            ready(closed())

    def hold(self, adapter: Adapter) -> Loaded | None:
        """The adapter, if it is in host memory; see `AdapterCache.hold`.

        Raises:
            UnknownReference: if the reference is malformed.
            RequestError: if there is no registry to look it up.
        """
        if isinstance(adapter, str):
            reference = Reference.parse(adapter)
            version = self._known_registry()[1].known(reference)
            loaded = None if version is None else self.adapter_cache.hold(version.digest)
            return loaded if loaded is None or version is None else loaded.named(version.name)
        return self.adapter_cache.hold(_key(adapter))

    def bring(self, adapter: Adapter, ready: Ready) -> None:
        """Load an adapter on another thread.

        Args:
            adapter: one that `hold` did not find.
            ready: called with the adapter, held, or with the error of loading it; it must not raise.

        Raises:
            EngineEnded: if the engine is closed.
        """
        name = adapter if isinstance(adapter, str) else _key(adapter)
        with self._lock:
            if (waiting := self._loading.get(name)) is not None:
                waiting.append(ready)
                return
            self._loading[name] = [ready]
        try:
            self._workers.submit(merchant_of(adapter), lambda: self._load(name, adapter))
        except ShopfitError:
            with self._lock:
                self._loading.pop(name, None)
            raise

    def let_go(self, loaded: Loaded | Exception) -> None:
        """Release an adapter again: the `ready` of `bring` where nobody waits for it."""
        if isinstance(loaded, Loaded):
            self.adapter_cache.release(loaded)

    def load(self, adapter: Adapter) -> Loaded:
        """Load an adapter on this thread, and hold it.

        Raises:
            UnknownReference: if it names nothing.
            BundleError: if its files are broken.
            BaseError: if it belongs to another base.
            RegistryError: if the registry cannot be read.
        """
        loaded, fresh = self._loaded(adapter)
        self._keep(fresh)
        return loaded

    def _loaded(self, adapter: Adapter) -> "tuple[Loaded, _Fresh | None]":
        """As `load`; and what is to be kept on disk of it, after all who wait have it."""
        if not isinstance(adapter, str):
            key = _key(adapter)
            tenant = Tenant.of(adapter) if isinstance(adapter, Bundle) else adapter
            return self.adapter_cache.hold(key) or self.adapter_cache.put(self._of_tenant(key, tenant)), None
        reference, book = Reference.parse(adapter), self._known_registry()[1]
        version = book.known(reference) or book.resolve(reference)
        loaded, fresh = self.adapter_cache.hold(version.digest), None
        if loaded is None:
            made, file = self._of_version(version)
            loaded = self.adapter_cache.put(made)
            fresh = None if file is None else _Fresh(reference, version, file)
        book.watch(reference, version)  # it may have been removed while it was loaded
        return loaded.named(version.name), fresh

    def _load(self, name: Hashable, adapter: Adapter) -> None:
        fresh = None
        try:
            got: Loaded | Exception
            got, fresh = self._loaded(adapter)
        except Exception as error:
            got = error
        with self._lock:
            waiting = self._loading.pop(name, [])
        for ready in waiting:  # each waiting request holds the adapter itself
            ready(got if isinstance(got, Exception) else self.adapter_cache.put(got).named(got.tenant.name))
        self.let_go(got)
        del got
        self._keep(fresh)

    def _keep(self, fresh: "_Fresh | None") -> None:
        """Keep what was packed just now on disk; the first call also removes what the registry no longer has."""
        if self._registry is None or self._book is None or self._packed is None:
            return
        if not self._swept:
            with suppress(ShopfitError):
                self._packed.sweep(self._registry.digests)
                self._swept = True
        if fresh is not None:
            self._packed.write(fresh.version.digest, fresh.file)
            self._book.watch(fresh.reference, fresh.version)  # it may have been removed while it was written

    def _of_version(self, version: Version) -> tuple[Loaded, PackedFile | None]:
        registry, _ = self._known_registry()
        assert self._cache is not None
        assert self._packed is not None
        file = self._packed.read(version.digest)
        bundle = None if file is None else fetching.kept(version, file.contents, beside_weights)
        packed = None if file is None or bundle is None else self._stack.unpack(file)
        if bundle is not None and packed is not None:
            return self._of_tenant(version.digest, Tenant.of(bundle, version.name), packed), None
        bundle = registry.read(version, needed, self._cache)
        loaded = self._of_tenant(version.digest, Tenant.of(bundle, version.name))
        if loaded.weights is None or loaded.weights.packed is None:
            return loaded, None
        contents = {path: bundle.contents[path] for path in beside_weights(bundle.contents)}
        return loaded, self._stack.packed_file(loaded.weights.packed, contents)

    def _of_tenant(self, key: Hashable, tenant: Tenant, packed: Packed | None = None) -> Loaded:
        weights = None
        if tenant.bundle is not None:
            weights = load_weights(tenant.bundle, self._base, self._stack, packed)
            self._tell_form(tenant.name, tenant.bundle.manifest.base)
        prompter = tenant.prompter(self._base.tokenizer, self._base.scorer)
        if isinstance(tenant.bundle, HeldBundle):  # its files were read; they need not stay in memory
            tenant = replace(tenant, bundle=HeldBundle(tenant.bundle.manifest, {}))
        return Loaded(key, tenant, prompter, weights)

    def _tell_form(self, name: str, evaluated: BaseIdentity) -> None:
        """Log, once a combination, that an adapter was evaluated on the base in another dtype or quantization, or with
        another floor of its cosines.
        """
        known = None if evaluated.floor is None else self._base.measured_floor  # older bundles do not say it
        form, own = _form(evaluated, evaluated.floor), _form(self._base, known)
        with self._lock:
            told = form == own or form in self._told
            self._told.add(form)
        if not told:
            logger.warning(
                "%s was evaluated on the base in %s, which is here in %s: what its report says may not hold exactly",
                name,
                form,
                own,
            )

    def _known_registry(self) -> tuple[Registry, AliasCache]:
        if self._registry is None or self._book is None or self._cache is None:
            raise RequestError(
                "this engine has no registry to look up references",
                next_step="make it with Engine.load, or name a bundle",
            )
        return self._registry, self._book


def _form(base: Base | BaseIdentity, floor: float | None) -> str:
    by = f" by {base.rounding}" if base.rounding else ""
    quantized = "" if base.quantization == "none" else f", quantized as {base.quantization}{by}"
    return f"{base.dtype}{quantized}" + ("" if floor is None else f", with a measured floor of cosines of {floor:g}")


def _key(adapter: Bundle | Tenant) -> Hashable:
    """Bundles are identified by their digest; tenants, which may change a bundle's recipe or items, by their own."""
    return adapter.digest if isinstance(adapter, Bundle) else ("tenant", adapter.identity)
