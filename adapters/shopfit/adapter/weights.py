"""An adapter's weights in host memory, ready for serving: packed for a slot of the stack, or as a prefix."""

from dataclasses import dataclass
from typing import assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shopfit.adapter.artifacts import HEAD
from shopfit.adapter.bundle import LORA, NATIVE, Bundle, HeldBundle
from shopfit.adapter.head import Head, read_head
from shopfit.adapter.stack import Packed, Stack
from shopfit.adapter.weight_files import CONFIG, NORM_SCALES, WEIGHTS, read_dora, read_plain, read_prefix
from shopfit.base.attention import text_config
from shopfit.base.load import Base
from shopfit.errors import BaseError, BundleError
from shopfit.methods import METHODS, Form
from shopfit.methods.method import Factors, NormScales

Key = frozenset[tuple[str, str]]
"""Identity of an adapter: path and SHA-256 of every file of its bundle, never a name."""


@dataclass(frozen=True, slots=True, eq=False)
class Dora:
    """What is read of a DoRA adapter.

    Args:
        factors: as of LoRA, with the norm scales folded into B.
        norm_scales: by which the base's outputs are multiplied.
    """

    factors: Factors
    norm_scales: NormScales


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """One adapter's weights: exactly one of `packed` and `prefix`.

    Args:
        key: of its bundle.
        packed: plain LoRA or DoRA: it takes a slot.
        prefix: (layers, 2, heads, n, dim) keys and values of n virtual tokens: it takes no slot.
        head: of a `choose` adapter on an encoder.
        classes: (L, D + 1) of the head, as it is asked.
    """

    key: Key
    packed: Packed | None = None
    prefix: Tensor | None = None
    head: Head | None = None
    classes: NDArray[np.float64] | None = None

    @property
    def bytes(self) -> int:
        """Size in memory."""
        prefix = 0 if self.prefix is None else self.prefix.nbytes
        head = 0 if self.head is None else self.head.prototypes.nbytes  # biases are few
        classes = 0 if self.classes is None else self.classes.nbytes
        return prefix + head + classes + (0 if self.packed is None else self.packed.bytes)

    @property
    def prefix_length(self) -> int:
        """Virtual tokens; 0 for LoRA."""
        return 0 if self.prefix is None else self.prefix.shape[3]


def load_weights(bundle: Bundle | HeldBundle, base: Base, stack: Stack, packed: Packed | None = None) -> Weights:
    """Read a bundle's weights. Thread-safe: it changes neither the base nor the stack.

    Args:
        bundle: of an adapter for `base`.
        base: the base.
        stack: on that base; its layout is what LoRA is packed for.
        packed: its low-rank weights, where they were packed before; then they are not read.

    Raises:
        BaseError: if the adapter was trained on another base.
        BundleError: if its weights are missing, cannot be read, are not finite on this base, or do not fit it.
    """
    key = frozenset(bundle.manifest.files.items())
    if packed is None:
        weights = read_weights(bundle, base)
        if isinstance(weights, Tensor):
            prefix = weights.to(base.device, base.model.dtype)
            check_prefix(prefix, bundle.manifest.reference)
            return Weights(key, prefix=prefix)
        factors, scales = (weights.factors, weights.norm_scales) if isinstance(weights, Dora) else (weights, None)
        packed = stack.pack(factors, bundle.manifest.reference, scales)
    else:
        check_base(bundle, base)
    head = head_of(bundle)
    width = getattr(text_config(base.model), "hidden_size", None)
    if head is not None and width is not None and head.prototypes.shape[1] != width:
        raise BundleError(
            f"{HEAD} of {bundle.manifest.reference} has rows of {head.prototypes.shape[1]} numbers, "
            f"and the base {base.name} has vectors of {width}",
            next_step="train it again on this base",
        )
    classes = None if head is None else head.classes.double().numpy()
    return Weights(key, packed=packed, head=head, classes=classes)


def check_prefix(prefix: Tensor, name: str) -> None:
    """Refuse a prefix with which a row could become NaN or infinite.

    Args:
        prefix: in the base's dtype.
        name: of the adapter, for messages.

    Raises:
        BundleError: if it is not finite.
    """
    if not torch.isfinite(prefix).all():
        kind = str(prefix.dtype).removeprefix("torch.")
        raise BundleError(
            f"the prefix of {name} is not finite in {kind}", next_step="train it again with a lower tune.lr"
        )


def read_weights(bundle: Bundle | HeldBundle, base: Base) -> Factors | Dora | Tensor:
    """A bundle's weights as they are on disk: plain LoRA by layer, DoRA, or (layers, 2, heads, n, dim) of a prefix.

    Raises:
        BaseError: if the adapter was trained on another base.
        BundleError: if its weights are missing or cannot be read.
    """
    check_base(bundle, base)
    form = METHODS[bundle.manifest.method].form
    scales = None if bundle.manifest.plain else bundle.read(f"{NATIVE}/{NORM_SCALES}")
    folder = LORA if form is Form.FACTORS and scales is None else NATIVE
    where = f"{folder}/{WEIGHTS} of {bundle.manifest.reference}"
    content = bundle.read(f"{folder}/{WEIGHTS}")
    if content is None:
        raise BundleError(f"{where} is missing", next_step="bring the bundle again, or train it again")
    weights: Factors | Dora | Tensor
    match form:
        case Form.FACTORS if scales is not None:
            weights = Dora(*read_dora(content, where, bundle.read(f"{folder}/{CONFIG}"), scales))
            size = max(len(down) for down, _ in weights.factors.values())
        case Form.FACTORS:
            weights = read_plain(content, where, bundle.read(f"{folder}/{CONFIG}"))
            size = len(next(iter(weights.values()))[0])
        case Form.PREFIX:
            weights = read_prefix(content, where, *base.check_prefix_shape())
            size = weights.shape[3]
        case other:
            assert_never(other)
    if size != bundle.manifest.rank:
        raise BundleError(
            f"{where} has rank {size}, where its manifest says {bundle.manifest.rank}",
            next_step="bring the bundle again, or train it again",
        )
    return weights


def head_of(bundle: Bundle | HeldBundle) -> Head | None:
    """The classifier head of a bundle; None if its adapter has none.

    Raises:
        BundleError: if it cannot be read.
    """
    content = bundle.read(HEAD)
    return (
        None
        if content is None
        else read_head(content, bundle.manifest.labels, f"{HEAD} of {bundle.manifest.reference}")
    )


def check_base(bundle: Bundle | HeldBundle, base: Base) -> None:
    """Refuse an adapter that was trained on another base.

    Raises:
        BaseError: naming both fingerprints.
    """
    wanted = bundle.manifest.base
    if not base.known_by(wanted.fingerprint):
        raise BaseError(
            f"the adapter {bundle.manifest.reference} was trained on {wanted.name} "
            f"with fingerprint {wanted.fingerprint}, "
            f"but the base loaded is {base.name} with fingerprint {base.fingerprint}",
            next_step="load the base it was trained on, or train the adapter again on this one",
        )
