"""One adapter at a time on PEFT's own layers: what every mixed batch is held against."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from shopfit.adapter.bundle import Bundle
from shopfit.adapter.head import Head
from shopfit.adapter.weights import head_of
from shopfit.base.load import Base
from shopfit.base.prefix import Prefix

_NAME = "a000"


@dataclass(frozen=True, slots=True)
class Worn:
    model: Any
    peft: Any = None
    head: Head | None = None
    offsets: tuple[float, ...] = ()

    def prefix(self, rows: int) -> Prefix | None:
        if self.peft is None:
            return None
        virtual = self.peft.peft_config[_NAME].num_virtual_tokens
        return Prefix(self.peft.get_prompt(batch_size=rows), torch.full((rows,), virtual))


@contextmanager
def wearing(base: Base, bundle: Bundle | None) -> Iterator[Worn]:
    """The base with the bundle's adapter on it, for as long as the context lasts; the bare base for None."""
    if bundle is None:
        yield Worn(base.model)
        return
    from peft import PeftModel

    folder = bundle.native if bundle.lora is None else bundle.lora
    peft = PeftModel.from_pretrained(
        base.model, folder, adapter_name=_NAME, autocast_adapter_dtype=base.quantization != "none"
    )
    peft.eval()
    if bundle.manifest.method == "prefix":
        yield Worn(base.model, peft)
        return
    try:
        yield Worn(peft.get_base_model(), head=head_of(bundle))
    finally:
        peft.unload()
        base.model.__dict__.pop("peft_config", None)


Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]


def learned(base: Base, rank: int, seed: int = 0) -> Factors:
    """Plain LoRA with random numbers, by layer."""
    torch.manual_seed(seed)
    return {
        name: (torch.randn(rank, layer.in_features) / 8, torch.randn(layer.out_features, rank) / 8)
        for name, layer in base.model.named_modules()
        if name.endswith("_proj")
    }
