"""What training makes smaller, one objective a task, all over the log-probabilities of answers.

choose    cross-entropy over the length-normalised label sequences
rank      softmax of each relevant item against sampled items that are not relevant
generate  the answer's tokens only

Label smoothing, the adversarial pass and the contrastive term come on top where the recipe asks for them.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from shopfit.adapter.methods import TrainableAdapter
from shopfit.adapter.voice import answer_sums
from shopfit.recipe.schema import Tune
from shopfit.recipe.tasks import Task
from shopfit.tune.adversarial import Push
from shopfit.tune.contrast import Ear, contrastive_loss, prompt_states
from shopfit.tune.lessons import Batch


class Objective(nn.Module):
    """The loss of a batch. A module, so that Accelerate can wrap it for several processes.

    Args:
        adapter: what is trained.
        task: which objective.
        tune: the recipe's `tune` section: temperature, and what comes on top.
    """

    def __init__(self, adapter: TrainableAdapter, task: Task, tune: Tune) -> None:
        super().__init__()
        self.peft = adapter.peft
        self.rows = adapter.rows  # of the head: Accelerate looks for weights in here
        self._adapter = adapter
        self._task = task
        self._tune = tune
        self._push = Push(adapter.model.get_input_embeddings(), tune.adversarial) if tune.adversarial else None
        self._ear = Ear(adapter.model.base_model) if tune.contrastive else None

    def forward(self, batch: Batch, *, pushed: bool = False) -> tuple[Tensor, Tensor]:
        """The loss to descend, and the task's own part of it for display; both scalars.

        Args:
            batch: of examples.
            pushed: the adversarial pass: the task's loss alone, on the embeddings of the same batch's last forward,
                moved along the gradient that its backward pass found.
        """
        tree, settings = batch.tree, self._tune
        with ExitStack() as stack:
            if self._push is not None:
                stack.enter_context(self._push.applied() if pushed else self._push.watched())
            if self._ear is not None and not pushed:
                stack.enter_context(self._ear.open())
            sums = answer_sums(self._adapter, tree)  # (A,)
        loss = task_loss(sums, batch, self._task, settings.temperature, settings.label_smoothing)
        shown = loss.detach()
        if pushed:
            return loss, shown
        if self._ear is not None:
            states = prompt_states(self._ear.take(), tree)
            apart = contrastive_loss(states, batch.classes, settings.contrastive_temperature)
            loss = (1 - settings.contrastive) * loss + settings.contrastive * apart
        return loss + self._adapter.penalty(), shown


def task_loss(sums: Tensor, batch: Batch, task: Task, temperature: float, smoothing: float = 0.0) -> Tensor:
    """The loss of a batch, a scalar.

    Args:
        sums: (A,) log-probability of each answer.
        batch: of B examples with A answers.
        task: which objective.
        temperature: rank and choose: mean log-probabilities a token are divided by it.
        smoothing: choose: share of the target that is spread evenly over all labels (arXiv:1512.00567).
    """
    lengths = batch.tree.lengths
    if task == "generate":
        return -(batch.weights * sums).sum() / lengths.sum()
    scores = sums / lengths / temperature
    losses = _contrast(scores, batch.gold, batch.tree.counts)  # (B,)
    if smoothing:
        losses = (1 - smoothing) * losses + smoothing * _evenly(scores, batch.tree.counts)
    return (batch.weights * losses).mean()


def _contrast(scores: Tensor, gold: Tensor, counts: Sequence[int]) -> Tensor:
    """(B,) cross-entropy of each right answer against the wrong ones, averaged over a question's right answers."""
    losses = []
    for mine, right in zip(*(torch.split(values, list(counts)) for values in (scores, gold)), strict=True):
        good, bad = mine[right], mine[~right]
        against = torch.cat([good[:, None], bad.expand(len(good), -1)], dim=1)  # (right, 1 + wrong)
        losses.append((against.logsumexp(1) - good).mean())
    return torch.stack(losses)


def _evenly(scores: Tensor, counts: Sequence[int]) -> Tensor:
    """(B,) cross-entropy of all answers of a question, each with the same share."""
    return torch.stack([(mine.logsumexp(0) - mine).mean() for mine in torch.split(scores, list(counts))])
