"""The loss that score fusion is fitted with, and its gradient, also of scores that lie very far apart."""

import numpy as np
import pytest

from shopfit.tasks import scored_task_of

TASK = scored_task_of("rank")


def test_the_gradient_is_that_of_the_loss() -> None:
    draw = np.random.default_rng(0)
    totals, right = draw.normal(size=(4, 5)), np.array([[1.0, 0, 0, 1, 0]] * 4)
    losses, gradients = TASK.fusion_loss(totals, right)
    for place in range(5):
        step = np.zeros_like(totals)
        step[:, place] = 1e-6
        rise = (TASK.fusion_loss(totals + step, right)[0] - TASK.fusion_loss(totals - step, right)[0]) / 2e-6
        assert gradients[:, place].tolist() == pytest.approx(rise.tolist(), abs=1e-6)
    alone = [np.log(np.exp(row[[1, 2, 4]]).sum() + np.exp(row[[0, 3]])) - row[[0, 3]] for row in totals]
    assert losses.tolist() == pytest.approx([float(each.mean()) for each in alone])


@pytest.mark.parametrize("totals", [[0.0, -2000.0, -1000.0], [-2000.0, 0.0, -1000.0], [-900.0, -2000.0, 0.0]])
def test_scores_far_apart_give_numbers(totals: list[float]) -> None:
    losses, gradients = TASK.fusion_loss(np.array([totals]), np.array([[1.0, 0, 1.0]]))
    assert np.isfinite(losses).all()
    assert np.isfinite(gradients).all()
