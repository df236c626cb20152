"""The stack: slots for many LoRA adapters on every linear layer of one base, each row of a batch with its own.

A slot is one contiguous block of memory with all weights of an adapter (one a device, where the base's layers are
spread over several), so that loading one is a single copy. Layers see it as strided views. Slot 0 is the bare base. The
base's weights never change, so quantized bases work too, and PEFT's global active adapter is not used.

In decoding, a row stays for many steps of one token. So each row may get a copy of its slot, in row order: one
batched product reads all copies in place, and nothing is gathered from step to step.

All slots have one rank, that of the largest adapter in them; it falls again when that adapter leaves, and ranks above
`max_rank` are refused. So a large adapter costs a bounded amount of memory, and only while it is loaded.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shopfit.adapter.dora_slots import Rescaling, pack_norm_scales
from shopfit.adapter.kernels import Plan, check_finite, expand, plan, scale_of, shrink
from shopfit.adapter.layer_lock import turns_of
from shopfit.adapter.packed_files import PackedFile
from shopfit.adapter.slab import Group, Slab, Views
from shopfit.adapter.training_kernels import Run, add_products, runs_of
from shopfit.base.adaptable import adaptable_layers, linear_layers
from shopfit.base.load import Base
from shopfit.base.placement import device_of
from shopfit.base.shared_inputs import Shared, shared_inputs, tells_rows_apart
from shopfit.errors import BaseError, BundleError
from shopfit.methods import METHODS
from shopfit.methods.method import Factors, NormScales
from shopfit.recipe.adapter_section import Adapter

MAX_RANK = 64  # on all linear layers of smollm2-135m, 32 slots take 2.6 GB; of rank 8, 0.3 GB


@dataclass(frozen=True, slots=True)
class Step:
    """What the layers on one device do in a forward.

    Args:
        plan: which slots its rows use.
        rank: of the slots.
        rescaling: what DoRA multiplies; None without any.
        scale: of the products, in a shape that broadcasts to what `shrink` returns; None for 1.
        runs: of rows that are trained, on a CPU; else none.
    """

    plan: Plan
    rank: int
    rescaling: Rescaling | None
    scale: Tensor | None = None
    runs: Sequence[Run] = ()


class Stack:
    """Slots for adapters on a base.

    Args:
        base: its adaptable layers add the stack's products inside of `rows`, and only there.
        slots: adapters at a time.
        rank: least rank of the slots; it is higher only while an adapter in one of them needs that.
        max_rank: of an adapter; one of a higher rank is refused.
        dtype: of the slots' numbers; by default the base's, and float32 on a quantized one.

    `tells_rows_apart` says whether rows of different adapters can share a forward on this base. `layout` names what
    `pack` makes: of one base and one layout, packed adapters have the same numbers in the same places.
    """

    def __init__(
        self, base: Base, slots: int, rank: int = 8, max_rank: int = MAX_RANK, *, dtype: torch.dtype | None = None
    ) -> None:
        self.slots = slots
        self.max_rank = max_rank
        self._turns = turns_of(base.model)
        self._runner = 0
        self._dtype = dtype or (torch.float32 if base.quantization != "none" else base.model.dtype)
        layers = adaptable_layers(base.model)
        self._base_name = base.name
        groups = [
            Group(
                names, [layers[name] for name in names], *_widths([layers[name] for name in names]), Shared(len(names))
            )
            for names in shared_inputs(base.model, layers)
        ]
        self._idle = linear_layers(base.model).keys() - {name for group in groups for name in group.names}
        self.tells_rows_apart = tells_rows_apart(base.model, layers)
        self._least = self.rank = min(rank, max_rank)
        self._held = [0] * (slots + 1)  # rank of the adapter in each slot
        on: dict[torch.device, list[Group]] = {}
        for group in groups:
            on.setdefault(device_of(base.model, group.names[0]), []).append(group)
        self._slabs = [Slab(some, slots, self.rank, self._dtype, device) for device, some in on.items()]
        self._groups = [group for slab in self._slabs for group in slab.groups]
        shape = [(group.names, group.width, group.outs) for group in self._groups]
        told = json.dumps([str(self._dtype), shape])
        self.layout = hashlib.sha256(told.encode()).hexdigest()[:32]

    def link(self) -> None:
        """Point the layers at the slots anew: needed when `weights` were changed from outside."""
        for slab in self._slabs:
            slab.link()

    def train(self) -> None:
        """From now on backward passes add to `gradients`, slot by slot."""
        for slab in self._slabs:
            slab.train()

    def size(self, rank: int) -> int:
        """Numbers in a slot for adapters of `rank`."""
        return sum(slab.size(rank) for slab in self._slabs)

    def pack(self, factors: Factors, name: str, norm_scales: NormScales | None = None) -> "Packed":
        """Pack an adapter in a slot's memory layout, on the CPU.

        Args:
            factors: its weights.
            name: of the adapter, for messages.
            norm_scales: of DoRA, by which the factors' B are multiplied already.

        Raises:
            BaseError: if it has weights for a layer that the base does not have, or of another shape.
            BundleError: if its rank is above `max_rank`, or weights or their products are not finite in the slots.
        """
        rank = max((down.shape[0] for down, _ in factors.values()), default=1)
        if rank > self.max_rank:
            raise BundleError(
                f"the adapter {name} has rank {rank} (allowed here: 1 to {self.max_rank}, max_rank of the engine)",
                next_step=f"make the engine with max_rank={rank}, which gives every slot room for it, "
                "or train the adapter with a smaller adapter.rank",
            )
        # numpy asks the kernel for huge pages: touching 10 MB for the first time takes half as long, or less; and it
        # copies hundreds of small matrices in a tenth of torch's time
        numbers = np.empty(self.size(rank), np.float32)
        at, missing = 0, set(factors) - self._idle  # what never runs on text has no effect

        def lay(weights: Tensor | None, width: int, layer: str) -> None:
            nonlocal at
            first, at = at, at + rank * width
            laid = first
            if weights is not None:
                laid += weights.shape[0] * weights.shape[1]
                self._check_shape(weights, (rank, width), layer, name)
                numbers[first:laid].reshape(weights.shape)[...] = weights.detach().float().cpu().numpy()
            if laid < at:
                numbers[laid:at] = 0

        for group in self._groups:
            for layer in group.names:
                lay(factors[layer][0] if layer in factors else None, group.width, layer)
            for layer, out in zip(group.names, group.outs, strict=True):
                lay(factors[layer][1].T if layer in factors else None, out, layer)
            missing -= set(group.names)
        if missing:
            raise BaseError(
                f"the adapter {name} has weights for {min(missing)}, which the base {self._base_name} has not",
                next_step="train it again on this base",
            )
        flat = torch.from_numpy(numbers).to(self._dtype)
        if not self._harmless(flat):
            check_finite(factors, self._dtype, name)
        if not norm_scales:
            return Packed(rank, flat)
        outs = {layer: out for group in self._groups for layer, out in zip(group.names, group.outs, strict=True)}
        return Packed(rank, flat, pack_norm_scales(norm_scales, outs, self._dtype, name))

    def packed_file(self, packed: "Packed", contents: Mapping[str, bytes]) -> PackedFile | None:
        """A packed adapter as it is kept on disk; None if `unpack` could not check it.

        Args:
            packed: from `pack`.
            contents: of its bundle's other files, by path.
        """
        parts = [packed.flat] if packed.beyond is None else [packed.flat, packed.beyond]
        if not all(map(self._harmless, parts)):
            return None
        return PackedFile(packed.rank, tuple(part.view(torch.uint8).numpy().data for part in parts), contents)

    def unpack(self, kept: PackedFile) -> "Packed | None":
        """The adapter of which `packed_file` was kept; None if that cannot be told, or it does not fit these slots."""
        if type(kept.rank) is not int or not 0 < kept.rank <= self.max_rank:
            return None
        outs = sum(slab.dora.size for slab in self._slabs)
        sizes = [number * self._dtype.itemsize for number in (self.size(kept.rank), outs)]
        if [part.nbytes for part in kept.weights] not in (sizes[:1], sizes):
            return None
        parts = [torch.frombuffer(part, dtype=self._dtype) for part in kept.weights]
        return Packed(kept.rank, *parts) if all(map(self._harmless, parts)) else None

    def _harmless(self, weights: Tensor) -> bool:
        """Whether no product of these weights can be NaN or infinite; False for some that are not ordinary.

        One norm of all is enough for ordinary ones: |B A x| <= |B| |A| <= |A|^2 + |B|^2 for any x of length 1.
        """
        return float(torch.linalg.vector_norm(weights, dtype=torch.float32)) ** 2 <= torch.finfo(self._dtype).max

    def _check_shape(self, weights: Tensor, shape: tuple[int, int], layer: str, name: str) -> None:
        rows, width = weights.shape
        if width != shape[1] or rows > shape[0]:
            raise BaseError(
                f"the adapter {name} has weights of shape {tuple(weights.shape)} for {layer}, "
                f"which takes (rank, {shape[1]}) on the base {self._base_name}",
                next_step="train it again on this base",
            )

    def put(self, slot: int, packed: "Packed") -> None:
        """Copy an adapter into a slot. No forward may run meanwhile.

        Args:
            slot: 1 to `slots`.
            packed: from `pack`.
        """
        before, others = self._held[slot], max(self._held[:slot] + self._held[slot + 1 :])
        needed = max(self._least, packed.rank, others)
        if needed > self.rank or 2 * needed <= self.rank:
            self._resize(needed)
        sizes = [slab.size(packed.rank) for slab in self._slabs]
        outs = [slab.dora.size for slab in self._slabs]
        parts = torch.split(packed.flat, sizes)
        beyond = [None] * len(outs) if packed.beyond is None else torch.split(packed.beyond, outs)
        for slab, flat, scales in zip(self._slabs, parts, beyond, strict=True):
            slab.dora.put(slot, scales)
            slab.put(slot, flat, packed.rank, before)
        self._held[slot] = packed.rank

    def take_out(self, slot: int) -> None:
        """Set a slot to zero. No forward may run meanwhile.

        Args:
            slot: 1 to `slots`.
        """
        self.put(slot, Packed(0, torch.empty(0, dtype=self._dtype)))

    def _resize(self, rank: int) -> None:
        """Change the rank of all slots; if memory does not suffice, they stay as they are."""
        made = [slab.resized(rank) for slab in self._slabs]
        for slab, weights in zip(self._slabs, made, strict=True):
            slab.take(weights, rank)
        self.rank = rank

    @contextmanager
    def rows(
        self, slots: Sequence[int], *, decoding: bool = False, scales: Sequence[float] | None = None
    ) -> Iterator[None]:
        """A context in which each row of a forward uses its slot.

        Args:
            slots: one a row; 0 for the bare base.
            decoding: whether rows are one token each, and stay for many steps: then each row may get a copy of its
                slot.
            scales: of each row's products; 1 by default.

        Raises:
            BaseError: if an adapter is being trained on the base, or several adapters cannot share a forward on it
                (see `tells_rows_apart`).
        """
        wanted = plan(slots)
        if not self.tells_rows_apart and wanted.layout in {"grid", "rows"}:
            raise BaseError(
                f"the base {self._base_name} does not keep the rows of a batch apart in each of its layers, so that "
                "rows of different adapters cannot share a forward",
                next_step="run each adapter's rows by themselves",
            )
        if wanted.layout == "bare":
            self._turns.check(self._base_name)
            yield
            return
        with self._turns.forward(self._base_name):
            self._runner = threading.get_ident()
            try:
                for slab in self._slabs:
                    scale = None if scales is None else scale_of(scales, wanted).to(slab.device, self._dtype)
                    step, of = Step(wanted.on(slab.device), slab.rank, slab.dora.of(slots), scale), slab.views
                    if slab.gradients is not None and scales is not None and slab.device.type == "cpu":
                        step = replace(step, runs=runs_of(slots, scales))
                    if decoding and wanted.layout == "rows" and slab.gradients is None:
                        step, of = replace(step, plan=Plan("grid", last=len(slots))), slab.copied(slots)
                    for group, views in zip(slab.groups, of, strict=True):
                        for place, layer in enumerate(group.layers):
                            layer.forward = partial(self._forward, layer, group, views, place, step)
                yield
            finally:
                for group in self._groups:
                    group.shared.forget()
                    for layer in group.layers:
                        layer.__dict__.pop("forward", None)

    def _forward(self, layer: Any, group: Group, views: Views, place: int, step: Step, x: Tensor) -> Tensor:
        out: Tensor = type(layer).forward(layer, x)
        if threading.get_ident() != self._runner:
            return out  # this thread runs the bare base while another is inside of `rows`
        kind = out.dtype
        if step.runs and torch.is_grad_enabled():
            made = out.to(self._dtype)
            return add_products(made, x, group.shared, views.down, views.ups[place], place, step.runs).to(kind)
        if step.rescaling is not None:
            out = step.rescaling.apply(layer, out.to(self._dtype))
        low = group.shared.of(place, x, lambda: _low(x.to(self._dtype), views.down, step))
        low = low[..., place * step.rank : (place + 1) * step.rank]
        if kind != self._dtype:
            return expand(out.to(self._dtype), low, views.ups[place], step.plan).to(kind)
        return expand(out, low, views.ups[place], step.plan)

    def factors(self, flat: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The factors of every layer, as views of a slot's numbers: A (rank, in) and B (out, rank).

        Args:
            flat: in the layout of a slot, of the slots' rank, on one device.
        """
        found: dict[str, tuple[Tensor, Tensor]] = {}
        at = 0

        def cut(width: int) -> Tensor:
            nonlocal at
            first, at = at, at + self.rank * width
            return flat[first:at].view(self.rank, width)

        for group in self._groups:
            downs = [cut(group.width) for _ in group.names]
            ups = [cut(out).T for out in group.outs]
            found.update(zip(group.names, zip(downs, ups, strict=True), strict=True))
        return found

    @property
    def gradients(self) -> list[Tensor]:
        """The gradients of `weights`, once `train` was called."""
        return [slab.gradients for slab in self._slabs if slab.gradients is not None]

    @property
    def weights(self) -> list[Tensor]:
        """On each of the base's devices, (slots + 1, size) weights of all slots; row 0, the bare base, stays zero."""
        return [slab.weights for slab in self._slabs]


@dataclass(frozen=True, slots=True)
class Packed:
    """An adapter in a slot's memory layout.

    Args:
        rank: of every layer; lower ones are padded with zeros.
        flat: all weights, concatenated.
        beyond: of DoRA, (sum of all layers' outputs,): what its factors of the base's outputs are beyond 1.
    """

    rank: int
    flat: Tensor
    beyond: Tensor | None = None

    @property
    def bytes(self) -> int:
        """Size in memory."""
        return self.flat.nbytes + (0 if self.beyond is None else self.beyond.nbytes)


def _low(x: Tensor, down: Tensor, step: Step) -> Tensor:
    low = shrink(x, down, step.plan)
    return low if step.scale is None else low * step.scale


def rank_note(settings: Adapter) -> str:
    """A note for an adapter whose rank is above engines' default `max_rank`; empty if it is not.

    Args:
        settings: a recipe's `adapter` section.
    """
    rank = METHODS[settings.method].slot_rank(settings)
    if rank <= MAX_RANK:
        return ""
    return f"; engines take rank {MAX_RANK} unless they are made with max_rank={rank}"


def _widths(layers: Sequence[Any]) -> tuple[int, list[int]]:
    """The input width, and the output width of each layer."""
    if isinstance(layers[0], nn.Linear):
        return layers[0].in_features, [layer.out_features for layer in layers]
    return layers[0].nx, [layer.nf for layer in layers]
