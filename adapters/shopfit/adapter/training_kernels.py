"""Low-rank products in training on a CPU, of rows that belong to different adapters.

Rows of one adapter lie together, so that each run of them is multiplied by its slot in place: nothing is gathered, and
backward passes add to the gradients of the slots that took part, and touch no other. Batched products (`kernels`)
gather weights for each row and make gradients as large as all slots, which on a CPU takes longer than the products.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from shopfit.base.shared_inputs import Shared


@dataclass(frozen=True, slots=True)
class Run:
    """Rows of a batch, one after another, that use one slot.

    Args:
        slot: theirs.
        rows: number of them.
        scale: of their products.
    """

    slot: int
    rows: int
    scale: float


def runs_of(slots: Sequence[int], scales: Sequence[float]) -> list[Run]:
    """The runs of a batch.

    Args:
        slots: of each of the B rows; 0 is the bare base.
        scales: likewise.
    """
    found = [(key, len(list(rows))) for key, rows in groupby(zip(slots, scales, strict=True))]
    return [Run(slot, count, scale) for (slot, scale), count in found]


def add_products(
    out: Tensor, x: Tensor, shared: Shared, down: Tensor, up: Tensor, place: int, runs: Sequence[Run]
) -> Tensor:
    """out + x A^T B of each row with its own A and B, scaled.

    Gradients of A and B are added to `down.grad` and `up.grad`, which must be there.

    Args:
        out: (B, T, out), or (B, out), as the base computed it, in the dtype of A and B.
        x: (B, T, in), or (B, in), as the base read it.
        shared: of the layers that read x, whose x A^T are computed together.
        down: (S, R, in), the A of all these layers.
        up: (S, r, out), the B of this one.
        place: its place among them.
        runs: of the B rows.
    """
    rank = up.shape[1]
    mine = slice(place * rank, (place + 1) * rank)
    read, low = shared.of(place, x, lambda: _read(x.to(out.dtype), down, runs))
    result: Tensor = _Products.apply(out, read, low[:, mine], down, up, mine, runs)  # type: ignore[no-untyped-call] # torch has no types here
    return result


def _read(x: Tensor, down: Tensor, runs: Sequence[Run]) -> tuple[Tensor, Tensor]:
    """What all layers that read x share: x in the dtype of A, and x A^T."""
    return x, _low(x, down, runs)


@torch.no_grad()
def _low(x: Tensor, down: Tensor, runs: Sequence[Run]) -> Tensor:
    """(B * T, R): x A^T of each row, scaled."""
    flat = x.reshape(-1, x.shape[-1])
    low = flat.new_empty(len(flat), down.shape[1])
    for run, cells, into in zip(runs, _cut(flat, runs), _cut(low, runs), strict=True):
        torch.mul(cells @ down[run.slot].T, run.scale, out=into)
    return low


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, out: Tensor, x: Tensor, low: Tensor, down: Tensor, up: Tensor, mine: slice, runs: Sequence[Run]
    ) -> Tensor:
        assert down.grad is not None  # the memory of the slots' gradients
        assert up.grad is not None
        ctx.save_for_backward(x, low, down, up)
        ctx.mine, ctx.runs, ctx.gradients = mine, runs, (down.grad[:, mine], up.grad)
        result = torch.empty_like(out, memory_format=torch.contiguous_format)
        parts = (_cut(tensor.reshape(-1, tensor.shape[-1]), runs) for tensor in (out, low, result))
        for run, before, lows, into in zip(runs, *parts, strict=True):
            torch.addmm(before, lows, up[run.slot], out=into)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None, None, None]:
        x, low, down, up = ctx.saved_tensors
        down = down[:, ctx.mine]
        of_down, of_up = ctx.gradients
        of_x = torch.empty_like(x, memory_format=torch.contiguous_format) if ctx.needs_input_grad[1] else None
        parts = [_cut(tensor.reshape(-1, tensor.shape[-1]), ctx.runs) for tensor in (grads[0], x, low)]
        into = parts[1] if of_x is None else _cut(of_x.view(-1, x.shape[-1]), ctx.runs)
        for run, grad, read, lows, reads in zip(ctx.runs, *parts, into, strict=True):
            of_low = (grad @ up[run.slot].T).mul_(run.scale)
            of_up[run.slot].addmm_(lows.T, grad)
            of_down[run.slot].addmm_(of_low.T, read)
            if of_x is not None:
                torch.mm(of_low, down[run.slot], out=reads)
        return grads[0], of_x, None, None, None, None, None


def _cut(flat: Tensor, runs: Sequence[Run]) -> Sequence[Tensor]:
    """(B * T, n) in the parts of the runs."""
    tokens = len(flat) // sum(run.rows for run in runs)
    return torch.split(flat, [run.rows * tokens for run in runs])
