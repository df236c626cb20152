"""Base class and arithmetic of methods whose update of a layer is a product of two small matrices, B A."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter

from shopfit.methods.method import Beginning, Factors, Form, PeftMethod
from shopfit.recipe.adapter_section import Adapter

NO_PLAIN_FORM = "train it again as LoRA or AdaLoRA, without what is named above"
DEFAULT_ALPHA = 8  # PEFT's, where adapter_config.json does not say


class LowRankMethod(PeftMethod):
    """A method whose trained adapters equal plain LoRA, so that every engine can serve them."""

    form = Form.FACTORS
    adds_up = True
    parts: ClassVar[str]  # the matrices of a layer in PEFT: A, B and maybe E
    converted: ClassVar[frozenset[str]]  # keys of adapter_config.json that `plain` takes into account

    def size_in_words(self, settings: Adapter) -> str:
        """Its rank and its target layers."""
        blocks = "" if settings.layers == "all" else f" of the {settings.layers.replace(':', ' ')} blocks"
        return f"rank {settings.rank} on {settings.targets}{blocks}"

    def slot_rank(self, settings: Adapter) -> int:
        """Its rank."""
        return settings.rank

    @abstractmethod
    def plain(
        self, parts: Mapping[str, Tensor], config: Mapping[str, Any], module: str, where: str
    ) -> tuple[Tensor, Tensor]:
        """Convert one layer to plain LoRA, exactly.

        Args:
            parts: its matrices, float32.
            config: of adapter_config.json.
            module: the layer's name in the base's model.
            where: the weights are, for messages.

        Returns:
            A (r, in) and B (out, r), scale folded into B; r may differ between layers, and be 0.

        Raises:
            BundleError: if the configuration is invalid in PEFT, or the weights have another rank.
        """

    @abstractmethod
    def initialise_layer(self, layer: Any, down: Tensor, up: Tensor) -> None:
        """Initialise one of PEFT's layers as the product up @ down, or its best approximation of the layer's rank."""

    def initialise(self, peft: Any, beginning: Beginning) -> None:
        """Initialise every layer that the start has factors for."""
        factors = beginning.factors
        if factors is None:
            return
        with torch.no_grad():
            for name, layer in peft.get_base_model().named_modules():
                if name in factors and hasattr(layer, "lora_A"):
                    down, up = (part.to(layer.base_layer.weight.device) for part in factors[name])
                    self.initialise_layer(layer, down, up)

    def up_projections(self, peft: Any) -> list[Parameter]:
        """Every B."""
        named = peft.named_parameters()
        return [weight for name, weight in named if ".lora_B." in name and weight.requires_grad]

    def unload(self, peft: Any) -> None:
        """Remove PEFT's layers from the base."""
        peft.unload()


def weighted_sum(adapters: Sequence[Factors], shares: Sequence[float]) -> dict[str, tuple[Tensor, Tensor]]:
    """The weighted sum of adapters, exactly: their factors concatenated, so ranks add up.

    Args:
        adapters: N of them.
        shares: N weights.
    """
    blended = {}
    for layer in dict.fromkeys(layer for factors in adapters for layer in factors):
        parts = [(factors[layer], share) for factors, share in zip(adapters, shares, strict=True) if layer in factors]
        downs = torch.cat([down for (down, _), _ in parts])
        ups = torch.cat([up * share for (_, up), share in parts], dim=1)
        blended[layer] = (downs, ups)
    return blended


def compress(down: Tensor, up: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best approximation of a low-rank product by one of a rank at most `rank` (Eckart and Young, 1936).

    Args:
        down: (R, in).
        up: (out, R).
        rank: 1 or more.

    Returns:
        U (out, k), s (k,) descending, V (k, in), with up @ down close to U diag(s) V; k is at most `rank` and R.
    """
    left, r_left = torch.linalg.qr(up)  # (out, R), (R, R)
    right, r_right = torch.linalg.qr(down.T)  # (in, R), (R, R)
    u, s, v = torch.linalg.svd(r_left @ r_right.T)
    keep = min(rank, len(s))
    return left @ u[:, :keep], s[:keep], v[:keep] @ right.T


def shown(value: object) -> str:
    """A value of a configuration, for messages."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
