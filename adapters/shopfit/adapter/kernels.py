"""Low-rank products for batches whose rows belong to different adapters.

An adapter lies in a slot of a stack: A as (S, r, in), B as (S, r, out), S slots. A plan says once a step which rows
belong to which slot; every layer then adds x A^T B onto what the base computed, by the cheapest of three ways:

one     all rows belong to one slot: plain products
grid    rows lie in slot order, equally many a slot: batched products on the stack itself, nothing copied but the rows
rows    anything else: each row's weights are gathered, then batched products (Punica, arXiv:2310.18547, has the idea)
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

_SPARSE = 3  # reading a slot that no row uses costs a third of gathering one
_WASTE = 1.25  # cells a row that a grid may have


@dataclass(frozen=True, slots=True)
class Plan:
    """How B rows find their adapters. Made by `plan`.

    Args:
        way: of the three, or "bare" where no row has an adapter.
        first: one and grid: the lowest slot.
        last: grid: the slot after the highest.
        depth: grid: rows a slot.
        cells: grid: (B,) cell of each row; None where rows and cells are the same.
        index: rows: (B,) slot of each row.
    """

    way: Literal["bare", "one", "grid", "rows"]
    first: int = 0
    last: int = 0
    depth: int = 1
    cells: Tensor | None = None
    index: Tensor | None = None

    @property
    def moves(self) -> bool:
        """Whether it takes copies of rows or of weights."""
        return self.way == "rows" or self.cells is not None


def plan(slots: Sequence[int], *, device: torch.device | str = "cpu") -> Plan:
    """Choose the way for a step.

    Args:
        slots: of each of the B rows; 0 is the bare base.
        device: where the stack lies.
    """
    used = sorted(set(slots))
    if used == [0]:
        return Plan("bare")
    if len(used) == 1:
        return Plan("one", first=used[0])
    first, last = used[0], used[-1] + 1
    seats = dict.fromkeys(used, 0)
    cells = []
    depth = max(Counter(slots).values())
    for slot in slots:
        cells.append((slot - first) * depth + seats[slot])
        seats[slot] += 1
    size = (last - first) * depth
    if last - first <= _SPARSE * len(used) and size <= _WASTE * len(slots):
        same = cells == list(range(size))
        return Plan("grid", first, last, depth, None if same else torch.tensor(cells, device=device))
    return Plan("rows", index=torch.tensor(slots, device=device))


def shrink(x: Tensor, down: Tensor, plan: Plan) -> Tensor:
    """x A^T of each row with its own A.

    Args:
        x: (B, T, in).
        down: (S, r, in).
        plan: not bare.

    Returns:
        (B * T, r) for one, (slots, depth * T, r) for grid, (B, T, r) for rows.
    """
    if plan.way == "one":
        return x.flatten(0, 1) @ down[plan.first].T
    if plan.way == "rows":
        return torch.bmm(down[plan.index], x.transpose(1, 2)).transpose(1, 2)
    if plan.cells is not None:
        room = x.new_zeros((plan.last - plan.first) * plan.depth, *x.shape[1:])
        x = room.index_copy(0, plan.cells, x)
    cells = x.reshape(plan.last - plan.first, -1, x.shape[-1])
    return torch.bmm(down[plan.first : plan.last], cells.transpose(1, 2)).transpose(1, 2)


def expand(out: Tensor, low: Tensor, up: Tensor, plan: Plan) -> Tensor:
    """out + low B of each row with its own B; in place where no gradient is asked for.

    Args:
        out: (B, T, out) as the base computed it.
        low: as `shrink` returned it, or r of its columns.
        up: (S, r, out).
        plan: the same.
    """
    keep = torch.is_grad_enabled()
    if plan.way == "one":
        flat, weights = out.flatten(0, 1), up[plan.first]
        return (torch.addmm(flat, low, weights) if keep else flat.addmm_(low, weights)).view_as(out)
    if plan.way == "rows":
        weights = up[plan.index]
        return torch.baddbmm(out, low, weights) if keep else out.baddbmm_(low, weights)
    weights = up[plan.first : plan.last]
    if plan.cells is None:
        grid = out.view(len(weights), -1, out.shape[-1])
        return (torch.baddbmm(grid, low, weights) if keep else grid.baddbmm_(low, weights)).view_as(out)
    delta = torch.bmm(low, weights).view(-1, *out.shape[1:]).index_select(0, plan.cells)
    return out + delta if keep else out.add_(delta)
