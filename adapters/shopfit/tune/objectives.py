"""The training objective: the task's own loss, over the log-probabilities of answers.

Label smoothing, the adversarial pass and the contrastive term come on top where the recipe asks for them.
"""

from contextlib import ExitStack

from torch import Tensor

from shopfit.adapter.adapted_model import answer_sums
from shopfit.adapter.trainable import TrainableAdapter
from shopfit.base.output_head import backbone_of, prompt_embedding
from shopfit.recipe.schema import Tune
from shopfit.recipe.tasks import Task
from shopfit.tasks import task_of
from shopfit.tune.adversarial import Push
from shopfit.tune.contrastive import HiddenStateCapture, contrastive_loss
from shopfit.tune.training_dataset import Batch


class Objective:
    """The loss of an optimizer step's rows, whole or in parts whose losses and gradients add up to those of the whole.

    The method's penalty is no part of it: it counts once a step.

    Args:
        adapter: what is trained.
        task: which objective.
        tune: the recipe's `tune` section: temperature, and what comes on top.
    """

    def __init__(self, adapter: TrainableAdapter, task: Task, tune: Tune) -> None:
        self._adapter = adapter
        self._task = task_of(task)
        self._tune = tune
        self._push = Push(prompt_embedding(adapter.model), tune.adversarial) if tune.adversarial else None
        self._hidden = HiddenStateCapture(backbone_of(adapter.model)) if tune.contrastive else None

    def __call__(self, batch: Batch, *, pushed: bool = False, states: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The loss to descend, and the task's own part of it for display; both scalars.

        Args:
            batch: of a step's examples, or a part of them.
            pushed: the adversarial pass: the task's loss alone, on the embeddings of the same batch's last forward,
                moved along the gradient that its backward pass found.
            states: (N, D) what `prompt_states` gives for all rows of the step, if the batch is a part of it and there
                is a contrastive term, which looks at pairs of rows. The gradient through this batch's rows is then
                that of the whole step's term; the parts' gradients add up, the term itself is in each part.
        """
        settings = self._tune
        with ExitStack() as stack:
            if self._push is not None:
                stack.enter_context(self._push.applied() if pushed else self._push.watched())
            if self._hidden is not None and not pushed:
                stack.enter_context(self._hidden.open())
            if self._push is None:  # which goes down to the embeddings
                stack.enter_context(self._adapter.reading(batch.questions))
            sums = answer_sums(self._adapter, batch.questions)  # (A,)
        loss = batch.share * self._task.loss(sums, batch, settings.temperature, settings)
        shown = loss.detach()
        if pushed or self._hidden is None:
            return loss, shown
        mine = batch.questions.prompt_states(self._adapter.model, self._hidden.take()).float()
        classes = batch.classes[batch.places]
        if states is not None:
            mine, classes = states.index_copy(0, batch.places, mine), batch.classes
        apart = contrastive_loss(mine, classes, settings.contrastive_temperature)
        return (1 - settings.contrastive) * loss + settings.contrastive * apart, shown

    def prompt_states(self, batch: Batch) -> Tensor:
        """(B, D) the states of a batch's prompts that the contrastive term compares, without gradients."""
        assert self._hidden is not None, "only the contrastive term looks at states"
        with ExitStack() as stack:  # as in training: a forward without gradients may lay its rows out otherwise
            stack.enter_context(self._hidden.open())
            if self._push is None:
                stack.enter_context(self._adapter.reading(batch.questions))
            answer_sums(self._adapter, batch.questions)
        return batch.questions.prompt_states(self._adapter.model, self._hidden.take()).float().detach()
