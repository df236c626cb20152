"""From the name in a request to a folder that vLLM loads plain LoRA from. It knows nothing of vLLM itself."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shopfit.adapter.bundle import LORA, Manifest
from shopfit.adapter.manifest_rules import printable
from shopfit.adapter.safe_reading import read_file
from shopfit.base.tensor_files import read_pieces
from shopfit.errors import BaseError, BundleError, Problem, ShopfitError, UnknownReference
from shopfit.registry import Registry, Version
from shopfit.registry.pinned_name import PinnedName
from shopfit.settings import Settings
from shopfit_vllm.plain_config import config_problems
from shopfit_vllm.served_base import ServedBase

logger = logging.getLogger("vllm.shopfit")  # below vLLM's, so that it is written where that is

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_AT_ONCE = 4  # adapters brought at a time
_OTHERS = "answer it with shopfit's own engine, or train it again as LoRA or AdaLoRA"


class AdapterResolver:
    """Finds adapters in the registry, checks that they fit the base, and brings them to local disk.

    It remembers nothing of a name: what asks for names that are not there leaves nothing behind.

    Args:
        settings: addresses of the registry and its blobs; bundles are brought to `settings.cache`.
        max_rank: the largest rank that the server loads.
    """

    def __init__(self, settings: Settings, max_rank: int) -> None:
        self._settings = settings
        self._max_rank = max_rank
        self._registry: Registry | None = None
        self._base: tuple[str, ServedBase] | None = None
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="shopfit-resolver")

    async def resolve(self, base_name: str, name: str) -> Path | None:
        """The folder of an adapter's plain LoRA. It never raises; why it refuses is logged.

        Args:
            base_name: the folder or Hub id that the server was told to serve.
            name: of one version for ever; see `PinnedName`. Any other is refused before any file or database is read.

        Returns:
            an absolute path that is that version's alone, its files verified; None if it cannot be served.
        """
        try:
            pinned = PinnedName.parse(name)
        except UnknownReference as error:
            logger.debug("%s", error.message)
            return None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self.bring, base_name, pinned)
        except ShopfitError as error:
            logger.warning("%s is not served: %s", pinned, "; ".join(line.strip() for line in error.lines))
        except Exception:  # whatever it is, vLLM would not catch it
            logger.exception("%s is not served", pinned)
        return None

    def bring(self, base_name: str, pinned: PinnedName) -> Path:
        """As `resolve`, on this thread.

        Raises:
            UnknownReference: if there is no such version.
            BundleError: if it has no plain LoRA, one that vLLM would compute differently, or damaged files.
            BaseError: if it is for another base, or the base's files cannot be read.
            RegistryError: if the registry cannot be read, or the cache cannot be written.
        """
        registry = self._open()
        version = _version(registry, pinned)
        self._check(registry.manifest(version), base_name)
        bundle = registry.fetch(version, self._settings.cache.absolute())
        folder = bundle.folder / LORA
        self._check_weights(folder, bundle.manifest, base_name)
        return folder

    def close(self) -> None:
        """End the threads, and close the registry."""
        self._threads.shutdown(cancel_futures=True)
        if self._registry is not None:
            self._registry.close()

    def _open(self) -> Registry:
        with self._lock:
            if self._registry is None:
                self._registry = Registry.open(self._settings)
            return self._registry

    def _served(self, name: str) -> ServedBase:
        with self._lock:  # whoever comes meanwhile waits, and does not hash it again
            if self._base is None or self._base[0] != name:
                self._base = (name, ServedBase.read(name))
            return self._base[1]

    def _check(self, manifest: Manifest, base_name: str) -> None:
        """Refuse what its manifest already tells is not to be served, before its weights are brought."""
        if not manifest.plain:
            what = "a prefix" if manifest.method == "prefix" else "DoRA"
            raise BundleError(
                f"{manifest.reference} is {what} (method {manifest.method}), which has no plain LoRA form that vLLM "
                "could serve",
                next_step=_OTHERS,
            )
        if manifest.rank > self._max_rank:
            raise BundleError(
                f"{manifest.reference} has rank {manifest.rank} (allowed: {self._max_rank} at most)",
                next_step="raise --max-lora-rank and SHOPFIT_MAX_LORA_RANK, or train it with a lower adapter.rank",
            )
        if manifest.base.fingerprint not in self._served(base_name).fingerprints:
            raise BaseError(
                f"{manifest.reference} was trained on the base {printable(manifest.base.name)} "
                f"({printable(manifest.base.fingerprint, 12)}), which is not {printable(base_name)}",
                next_step="serve it where that base is served",
            )

    def _check_weights(self, folder: Path, manifest: Manifest, base_name: str) -> None:
        there = {name.removeprefix(f"{LORA}/") for name in manifest.files if name.startswith(f"{LORA}/")}
        problems = [
            Problem(f"{LORA}/{printable(name)}", "is missing" if name not in there else "is not part of plain LoRA")
            for name in sorted(there ^ {_CONFIG, _WEIGHTS})
        ]
        if not problems:
            problems += config_problems(read_file(folder / _CONFIG) or b"", manifest.rank)
            problems += self._served(base_name).layer_problems(read_pieces(folder / _WEIGHTS), manifest.rank)
        if problems:
            raise BundleError(
                f"the {LORA}/ of {manifest.reference} does not fit the base {printable(base_name)}: vLLM would answer "
                "with the bare base, or with other numbers",
                problems=problems,
                next_step="train it again on this base",
            )


def _version(registry: Registry, pinned: PinnedName) -> Version:
    # one cheap statement first: `resolve` looks for names like an unknown one
    identity = registry.identities([pinned.reference]).get(pinned.reference)
    version = None if identity is None or not pinned.names(identity) else registry.resolve(pinned.reference)
    if version is None or PinnedName.of(version) != pinned:
        raise UnknownReference(
            f"the registry has no {pinned}", next_step="ask for what the gateway names, or check SHOPFIT_REGISTRY"
        )
    return version
