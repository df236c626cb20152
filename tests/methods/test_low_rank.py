"""Products of two small matrices: their sums are exact, and their approximations as good as can be."""

import torch
from tests.solo import learned

from shopfit.base.load import Base
from shopfit.methods.low_rank import compress, weighted_sum


def test_a_larger_rank_is_approximated_as_well_as_can_be() -> None:
    torch.manual_seed(0)
    down, up = torch.randn(6, 20), torch.randn(15, 6)
    whole = up @ down
    u, s, v = torch.linalg.svd(whole)
    best = u[:, :4] @ s[:4].diag() @ v[:4]
    left, values, right = compress(down, up, 4)
    torch.testing.assert_close(left @ values.diag() @ right, best, rtol=1e-3, atol=1e-3)
    exact = compress(down, up, 9)
    torch.testing.assert_close(exact[0] @ exact[1].diag() @ exact[2], whole, rtol=1e-3, atol=1e-3)


def test_a_blend_is_the_weighted_sum(base: Base) -> None:
    one, two = learned(base, 2, 0), learned(base, 3, 1)
    missing = next(iter(two))
    two.pop(missing)
    blended = weighted_sum([one, two], [0.5, -2.0])
    for layer, (down, up) in blended.items():
        want = 0.5 * one[layer][1] @ one[layer][0]
        if layer in two:
            want = want - 2.0 * two[layer][1] @ two[layer][0]
        torch.testing.assert_close(up @ down, want, rtol=1e-3, atol=1e-3)
