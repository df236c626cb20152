"""What training makes smaller, one objective a task, all over the log-probabilities of answers.

choose    cross-entropy over the length-normalised label sequences
rank      softmax of each relevant item against sampled items that are not relevant
generate  the answer's tokens only
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shopfit.adapter.methods import TrainableAdapter
from shopfit.adapter.voice import answer_sums
from shopfit.recipe.schema import Task
from shopfit.tune.lessons import Batch


class Objective(nn.Module):
    """The loss of a batch. A module, so that Accelerate can wrap it for several processes.

    Args:
        adapter: what is trained.
        task: which objective.
        temperature: rank: scores are divided by it.
    """

    def __init__(self, adapter: TrainableAdapter, task: Task, temperature: float) -> None:
        super().__init__()
        self.peft = adapter.peft
        self.rows = adapter.rows  # of the head: Accelerate looks for weights in here
        self._adapter = adapter
        self._task = task
        self._temperature = temperature

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss to descend, and the task's own part of it for display; both scalars."""
        sums = answer_sums(self._adapter, batch.tree)  # (A,)
        loss = task_loss(sums, batch, self._task, self._temperature)
        return loss + self._adapter.penalty(), loss.detach()


def task_loss(sums: Tensor, batch: Batch, task: Task, temperature: float) -> Tensor:
    """The loss of a batch, a scalar.

    Args:
        sums: (A,) log-probability of each answer.
        batch: of B examples with A answers.
        task: which objective.
        temperature: rank and choose: mean log-probabilities a token are divided by it.
    """
    lengths = batch.tree.lengths
    if task == "generate":
        return -(batch.weights * sums).sum() / lengths.sum()
    losses = _contrast(sums / lengths / temperature, batch.gold, batch.tree.counts)  # (B,)
    return (batch.weights * losses).mean()


def _contrast(scores: Tensor, gold: Tensor, counts: Sequence[int]) -> Tensor:
    """(B,) cross-entropy of each right answer against the wrong ones, averaged over a question's right answers."""
    losses = []
    for mine, right in zip(*(torch.split(values, list(counts)) for values in (scores, gold)), strict=True):
        good, bad = mine[right], mine[~right]
        against = torch.cat([good[:, None], bad.expand(len(good), -1)], dim=1)  # (right, 1 + wrong)
        losses.append((against.logsumexp(1) - good).mean())
    return torch.stack(losses)
