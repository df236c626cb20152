"""Where an adapter's weights start: from nothing, or from what other adapters of the same base have learned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shopfit.adapter.bundle import Bundle, HeldBundle
from shopfit.adapter.fusing import ADAPTER
from shopfit.adapter.head import Head
from shopfit.adapter.peft_config import ADALORA_EPSILON
from shopfit.adapter.stack import Factors, check_finite
from shopfit.adapter.weights import check_prefix, head_of, read_weights
from shopfit.base.load import Base


@dataclass(frozen=True, slots=True)
class Start:
    """Weights to start from: one of the two forms, or neither to start from scratch.

    Args:
        name: for messages and manifests, such as `scratch` or `house/review-sentiment@3`.
        factors: plain LoRA by layer name, the scale in B.
        prefix: (layers, 2, heads, n, dim) keys and values of n virtual tokens.
        head: what is known of labels, on an encoder.
        labels: choose: those that they were taught.
        kept: whether they are taken as they are, without training.
    """

    name: str = "scratch"
    factors: Factors | None = None
    prefix: Tensor | None = None
    head: Head | None = None
    labels: frozenset[str] = frozenset()
    kept: bool = False

    @property
    def title(self) -> str:
        """Its name, and whether it stays as it is."""
        return f"{self.name} as it is" if self.kept else self.name

    @property
    def scratch(self) -> bool:
        """Whether there is nothing to start from."""
        return self.factors is None and self.prefix is None


def start_from(bundle: Bundle | HeldBundle, name: str, base: Base) -> Start:
    """The weights of a finished adapter, to start another one from.

    Args:
        bundle: the finished adapter.
        name: its reference.
        base: the base that the new adapter is for.

    Raises:
        BaseError: if it was trained on another base.
        BundleError: if its weights cannot be read, or are not finite.
    """
    weights, labels = read_weights(bundle, base), frozenset(bundle.manifest.labels)
    if isinstance(weights, Tensor):
        check_prefix(weights, name)
        return Start(name, prefix=weights, labels=labels)
    check_finite(weights, torch.float32, name)
    return Start(name, factors=weights, head=head_of(bundle), labels=labels)


def blend(adapters: Sequence[Factors], shares: Sequence[float]) -> dict[str, tuple[Tensor, Tensor]]:
    """The weighted sum of adapters, exactly: their factors side by side, so ranks add up.

    Args:
        adapters: N of them.
        shares: N factors.
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
        U (out, k), s (k,) falling, V (k, in), with up @ down close to U diag(s) V; k is at most `rank` and R.
    """
    left, r_left = torch.linalg.qr(up)  # (out, R), (R, R)
    right, r_right = torch.linalg.qr(down.T)  # (in, R), (R, R)
    u, s, v = torch.linalg.svd(r_left @ r_right.T)
    keep = min(rank, len(s))
    return left @ u[:, :keep], s[:keep], v[:keep] @ right.T


def begin(peft: Any, method: str, start: Start) -> None:
    """Give a fresh adapter the weights to start from; what the start does not reach stays fresh.

    LoRA keeps the start's own factors where its rank allows, and their best approximation where it does not. AdaLoRA
    takes their singular values and vectors. A prefix takes the start's first virtual tokens.

    Args:
        peft: PEFT's model, its adapter called "default".
        method: lora, adalora or prefix.
        start: of the same kind: factors for lora and adalora, a prefix for prefix.
    """
    with torch.no_grad():
        if start.prefix is not None and method == "prefix":
            _begin_prefix(peft, start.prefix)
        elif start.factors is not None and method in {"lora", "adalora"}:
            _begin_layers(peft, method, start.factors)


def _begin_layers(peft: Any, method: str, factors: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    for name, layer in peft.get_base_model().named_modules():
        if name not in factors or not hasattr(layer, "lora_A"):
            continue
        down, up = (part.to(layer.base_layer.weight.device) for part in factors[name])
        if method == "adalora":
            _begin_adalora(layer, down, up)
            continue
        a, b, scale = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight, layer.scaling[ADAPTER]
        if len(down) > len(a):
            u, s, v = compress(down, up, len(a))
            down, up = s.sqrt()[:, None] * v, u * s.sqrt()
        a[: len(down)] = down
        b[:, : up.shape[1]] = up / scale


def _begin_adalora(layer: Any, down: Tensor, up: Tensor) -> None:
    a, b, e = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER], layer.lora_E[ADAPTER]
    scale = layer.scaling[ADAPTER] / (float(layer.ranknum[ADAPTER]) + ADALORA_EPSILON)
    u, s, v = compress(down, up, len(a))
    a[: len(v)], b[:, : len(s)] = v, u
    e[: len(s), 0] = s / scale


def _begin_prefix(peft: Any, prefix: Tensor) -> None:
    """(layers, 2, heads, n, dim) back to PEFT's (n, layers * 2 * heads * dim)."""
    weight = peft.prompt_encoder[ADAPTER].embedding.weight
    rows = prefix.permute(3, 0, 1, 2, 4).flatten(1)[: len(weight)]
    weight[: len(rows)] = rows.to(weight)
