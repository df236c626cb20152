"""The entry point that vLLM calls in each of its processes (group `vllm.general_plugins`)."""

from typing import TYPE_CHECKING

from vllm.lora.request import LoRARequest
from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

from shopfit.settings import Settings
from shopfit_vllm.resolver import AdapterResolver
from shopfit_vllm.settings import max_lora_rank

if TYPE_CHECKING:
    from pathlib import Path

_NAME = "shopfit"


class RegistryResolver(LoRAResolver):  # type: ignore[misc]  # vLLM is not in the environment that checks types
    """vLLM's interface to `AdapterResolver`."""

    def __init__(self, adapters: AdapterResolver) -> None:
        self._adapters = adapters

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
        """See `AdapterResolver.resolve`."""
        folder = await self._adapters.resolve(base_model_name, lora_name)
        return None if folder is None else LoRARequest(lora_name, _number(folder), str(folder))


def register() -> None:
    """Register the resolver with vLLM, once a process. Nothing is read before an adapter is asked for.

    Raises:
        ShopfitError: if the settings in the environment are not valid.
    """
    if _NAME not in LoRAResolverRegistry.get_supported_resolvers():
        resolver = RegistryResolver(AdapterResolver(Settings.from_environment(), max_lora_rank()))
        LoRAResolverRegistry.register_resolver(_NAME, resolver)


def _number(folder: "Path") -> int:
    """An id from 1 on, by the digest in the path; vLLM's HTTP server replaces it by a counter."""
    return int(folder.parent.name[:12], 16) + 1
