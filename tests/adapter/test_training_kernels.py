"""Products in training: each row adds what is of its own adapter, and gradients reach those that took part alone."""

import pytest
import torch
from torch import Tensor

from shopfit.adapter.training_kernels import add_products, runs_of
from shopfit.base.shared_inputs import Shared

SLOTS = [2, 2, 0, 5, 2, 2, 2, 1]
SCALES = [2.0, 2.0, 1.0, 0.5, 2.0, 3.0, 3.0, 1.0]
WIDTH, RANK, OUTS = 7, 2, (5, 3)


def stack(numbers: Tensor) -> Tensor:
    """Numbers of slots as a leaf whose gradient has its memory already, as slots that are trained have."""
    numbers = numbers.clone().requires_grad_()
    numbers.grad = torch.zeros_like(numbers)
    return numbers


def test_rows_that_lie_together_with_one_slot_and_scale_are_a_run() -> None:
    found = [(run.slot, run.rows, run.scale) for run in runs_of(SLOTS, SCALES)]
    assert found == [(2, 2, 2.0), (0, 1, 1.0), (5, 1, 0.5), (2, 1, 2.0), (2, 2, 3.0), (1, 1, 1.0)]


@pytest.mark.parametrize("tokens", [(), (4,)])
def test_products_and_gradients_are_those_of_each_row_alone(tokens: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(len(SLOTS), *tokens, WIDTH, dtype=torch.float64, requires_grad=True)
    outs = [torch.randn(len(SLOTS), *tokens, out, dtype=torch.float64, requires_grad=True) for out in OUTS]
    down = torch.randn(6, len(OUTS) * RANK, WIDTH, dtype=torch.float64)
    ups = [torch.randn(6, RANK, out, dtype=torch.float64) for out in OUTS]
    down[0], ups[0][0], ups[1][0] = 0, 0, 0  # the bare base
    mine, plain = [stack(down), *map(stack, ups)], [part.clone().requires_grad_() for part in (down, *ups)]

    shared, runs = Shared(len(OUTS)), runs_of(SLOTS, SCALES)
    ours = [add_products(out, x, shared, mine[0], mine[1 + at], at, runs) for at, out in enumerate(outs)]
    theirs = [
        torch.stack(
            [
                out[row] + scale * x[row] @ plain[0][slot, at * RANK : (at + 1) * RANK].T @ plain[1 + at][slot]
                for row, (slot, scale) in enumerate(zip(SLOTS, SCALES, strict=True))
            ]
        )
        for at, out in enumerate(outs)
    ]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)

    weights = [torch.randn_like(one) for one in ours]
    of_ours, of_theirs = (sum((w * one).sum() for w, one in zip(weights, said, strict=True)) for said in (ours, theirs))
    assert isinstance(of_ours, Tensor)
    assert isinstance(of_theirs, Tensor)
    gradients = torch.autograd.grad(of_theirs, [x, *outs, *plain])
    of_ours.backward()  # type: ignore[no-untyped-call]
    for leaf, gradient in zip([x, *outs, *mine], gradients, strict=True):
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad, gradient)
    assert not any(leaf.grad[slot].any() for leaf in mine for slot in (3, 4) if leaf.grad is not None)
