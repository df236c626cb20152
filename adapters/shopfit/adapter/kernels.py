"""Low-rank products for batches whose rows belong to different adapters.

An adapter is in a slot of a stack: A as (S, r, in), B as (S, r, out), for S slots. A plan, made once a step, says which
rows use which slot; every layer then adds x A^T B to the base's output, by the cheapest of three layouts:

one     all rows use one slot: plain matrix products
grid    rows are in slot order, equally many a slot, no slot skipped: batched products on the stack itself, no copies
rows    anything else: each row's weights are gathered, then batched products (as in Punica, arXiv:2310.18547);
        low-rank weights are smaller than the rows' activations, so sorting the rows would cost more
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from shopfit.errors import BundleError
from shopfit.methods.method import Factors


@dataclass(frozen=True, slots=True)
class Plan:
    """Which slots B rows use, and by which layout. Made by `plan`.

    Args:
        layout: one of the three, or "bare" if no row has an adapter.
        first: for one and grid: the lowest slot.
        last: for grid: the slot after the highest.
        index: for rows: (B,) slot of each row.
    """

    layout: Literal["bare", "one", "grid", "rows"]
    first: int = 0
    last: int = 0
    index: Tensor | None = None

    def on(self, device: torch.device) -> "Plan":
        """The same for slots on a device."""
        return self if self.index is None else replace(self, index=self.index.to(device))


def plan(slots: Sequence[int]) -> Plan:
    """Choose the layout of a step.

    Args:
        slots: of each of the B rows; 0 is the bare base.
    """
    used = sorted(set(slots))
    if used == [0]:
        return Plan("bare")
    if len(used) == 1:
        return Plan("one", first=used[0])
    first, last = used[0], used[-1] + 1
    depth, rest = divmod(len(slots), last - first)
    if not rest and list(slots) == [slot for slot in range(first, last) for _ in range(depth)]:
        return Plan("grid", first, last)
    return Plan("rows", index=torch.tensor(slots))


def scale_of(scales: Sequence[float], plan: Plan) -> Tensor:
    """Scales of rows in a shape that broadcasts to what `shrink` returns.

    Args:
        scales: of each of the B rows; rows of one slot have the same.
        plan: not bare.
    """
    if plan.layout == "one":
        return torch.tensor(scales[0])
    every = len(scales) // (plan.last - plan.first) if plan.layout == "grid" else 1
    return torch.tensor(scales[::every])[:, None, None]


def shrink(x: Tensor, down: Tensor, plan: Plan) -> Tensor:
    """x A^T of each row with its own A.

    Args:
        x: (B, T, in), or (B, in).
        down: (S, r, in).
        plan: not bare.

    Returns:
        (B * T, r) for one, (slots, rows a slot * T, r) for grid, (B, T, r) for rows.
    """
    if plan.layout == "one":
        return x.reshape(-1, x.shape[-1]) @ down[plan.first].T
    weights = down[plan.index] if plan.layout == "rows" else down[plan.first : plan.last]
    cells = x.reshape(len(weights), -1, x.shape[-1])
    return torch.bmm(weights, cells.transpose(1, 2)).transpose(1, 2)


def expand(out: Tensor, low: Tensor, up: Tensor, plan: Plan) -> Tensor:
    """out + low B of each row with its own B; in place when gradients are disabled.

    Args:
        out: (B, T, out), or (B, out), as the base computed it.
        low: as `shrink` returned it, or r of its columns.
        up: (S, r, out).
        plan: the same as in `shrink`.
    """
    keep = torch.is_grad_enabled()
    if plan.layout == "one":
        flat, weights = out.view(-1, out.shape[-1]), up[plan.first]
        return (torch.addmm(flat, low, weights) if keep else flat.addmm_(low, weights)).view_as(out)
    weights = up[plan.index] if plan.layout == "rows" else up[plan.first : plan.last]
    cells = out.view(len(weights), -1, out.shape[-1])
    return (torch.baddbmm(cells, low, weights) if keep else cells.baddbmm_(low, weights)).view_as(out)


def rescale(out: Tensor, bias: Tensor | None, beyond: Tensor, rows: Tensor | None, count: int) -> Tensor:
    """out + beyond (out - bias) in some rows: what the base computed without its bias, times 1 + beyond.

    The other rows stay as they are, bit for bit. In place when gradients are disabled.

    Args:
        out: (B, T, out), or (B, out), as the base computed it.
        bias: (out,), if there is one.
        beyond: (N, out), or (1, out) for all N rows.
        rows: (N,) places of the rows; None for all B.
        count: B.
    """
    cells = out.view(count, -1, out.shape[-1])
    old = cells if rows is None else cells[rows]
    new = torch.addcmul(old, old if bias is None else old - bias.to(old.dtype), beyond.unsqueeze(1))
    if rows is None:
        return new.view_as(out)
    keep = torch.is_grad_enabled()
    return (cells.index_copy(0, rows, new) if keep else cells.index_copy_(0, rows, new)).view_as(out)


def check_finite(factors: Factors, dtype: torch.dtype, name: str) -> None:
    """Refuse an adapter with which a row could become NaN or infinite, which could reach other rows of its forward.

    Args:
        factors: its weights.
        dtype: that they are multiplied in.
        name: of the adapter, for messages.

    Raises:
        BundleError: naming the first layer whose numbers, or the product of their norms, are not finite in `dtype`.
    """
    kind, largest = str(dtype).removeprefix("torch."), torch.finfo(dtype).max
    for layer, (down, up) in factors.items():
        norms = [float(torch.linalg.vector_norm(part.to(dtype), dtype=torch.float64)) for part in (down, up)]
        if math.isfinite(norms[0] + norms[1]) and norms[0] * norms[1] <= largest:
            continue
        what = f"is not finite in {kind}: the norms of A and B are {norms[0]:.3g} and {norms[1]:.3g}"
        raise BundleError(
            f"the adapter {name} cannot be served: {layer} {what}", next_step="train it again with a lower tune.lr"
        )
