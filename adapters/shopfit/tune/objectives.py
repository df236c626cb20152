"""The training objective: the task's own loss, over the log-probabilities of answers.

Label smoothing, the adversarial pass and the contrastive term come on top where the recipe asks for them.
"""

from contextlib import ExitStack

from torch import Tensor, nn

from shopfit.adapter.adapted_model import answer_sums
from shopfit.adapter.trainable import TrainableAdapter
from shopfit.base.output_head import backbone_of, prompt_embedding
from shopfit.recipe.schema import Tune
from shopfit.recipe.tasks import Task
from shopfit.tasks import task_of
from shopfit.tune.adversarial import Push
from shopfit.tune.contrastive import HiddenStateCapture, contrastive_loss
from shopfit.tune.training_dataset import Batch


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
        self.prototypes = adapter.prototypes  # of the head: Accelerate looks for weights in here
        self._adapter = adapter
        self._task = task_of(task)
        self._tune = tune
        self._push = Push(prompt_embedding(adapter.model), tune.adversarial) if tune.adversarial else None
        self._hidden = HiddenStateCapture(backbone_of(adapter.model)) if tune.contrastive else None

    def forward(self, batch: Batch, *, pushed: bool = False) -> tuple[Tensor, Tensor]:
        """The loss to descend, and the task's own part of it for display; both scalars.

        Args:
            batch: of examples.
            pushed: the adversarial pass: the task's loss alone, on the embeddings of the same batch's last forward,
                moved along the gradient that its backward pass found.
        """
        questions, settings = batch.questions, self._tune
        with ExitStack() as stack:
            if self._push is not None:
                stack.enter_context(self._push.applied() if pushed else self._push.watched())
            if self._hidden is not None and not pushed:
                stack.enter_context(self._hidden.open())
            if self._push is None:  # which goes down to the embeddings
                stack.enter_context(self._adapter.reading(questions))
            sums = answer_sums(self._adapter, questions)  # (A,)
        loss = self._task.loss(sums, batch, settings.temperature, settings)
        shown = loss.detach()
        if pushed:
            return loss, shown
        if self._hidden is not None:
            states = questions.prompt_states(self._adapter.model, self._hidden.take())
            apart = contrastive_loss(states, batch.classes, settings.contrastive_temperature)
            loss = (1 - settings.contrastive) * loss + settings.contrastive * apart
        return loss + self._adapter.penalty(), shown
