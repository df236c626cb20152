"""One merchant's training in a fleet: what `Trainer.fit` does alone, but for the forwards, which the fleet shares."""

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from shopfit.adapter.adapted_model import Bare
from shopfit.adapter.head import Head
from shopfit.adapter.initial_weights import Start
from shopfit.adapter.reused_adapter import ReusedAdapter
from shopfit.adapter.trainable_stack import TrainableStack
from shopfit.adapter.trained_weights import TrainedWeights
from shopfit.base.load import Base
from shopfit.evaluation.assess import ask
from shopfit.recipe.schema import Recipe
from shopfit.tasks import Predictions, task_of
from shopfit.tune.batches import shares
from shopfit.tune.optimizer import make_optimizer, set_rate
from shopfit.tune.trainer import Tuned, head_labels, opening_of, to_learn
from shopfit.tune.training_callback import TrainingCallback
from shopfit.tune.training_dataset import BalancedTrainingDataset, Batch, TrainingSet
from shopfit.tune.training_loop import TrainingLoop, interpolation_of, learning_rate, total_steps
from shopfit.tune.training_step import diverged


class SlotWeights(TrainedWeights):
    """A slot's numbers, and a head's prototypes.

    Args:
        weights: of the slot, in its own memory; then, if there is a head, its prototypes.
    """

    def __init__(self, weights: list[nn.Parameter]) -> None:
        self._weights = weights

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trainable parameters."""
        return iter(self._weights)


class Training:
    """One merchant's training in a fleet.

    Args:
        recipe: how to train.
        training_set: the merchant's.
        adapter: the layers that its weights are handed over on.
        base: of the fleet.
        start: weights to start from.
        callback: sees every step.
    """

    def __init__(
        self,
        base: Base,
        training_set: TrainingSet,
        recipe: Recipe,
        adapter: ReusedAdapter,
        start: Start,
        callback: TrainingCallback,
    ) -> None:
        self.recipe = recipe
        self.error: Exception | None = None
        self.over = False
        self._base, self._adapter, self._callback = base, adapter, callback
        self._set = to_learn(training_set, recipe)
        self._started = time.perf_counter()
        names = head_labels(base, recipe, [self._set])
        self._dataset = BalancedTrainingDataset([self._set], recipe.tune, None, names)
        self.steps = total_steps(recipe, len(self._dataset))
        self.scale, self.trunk = adapter.scale, adapter.trunk
        self._head: Head | None = None
        adapter.begin(start)
        try:
            if names:
                adapter.train_head(opening_of(adapter, recipe.task, names, [self._set], start).prototypes())
                self._head = adapter.head
            self._factors = {name: (down.clone(), up.clone()) for name, (down, up) in adapter.factors().items()}
        finally:
            adapter.detach()
        self.parts: list[Batch] = []

    def enter(self, stack: TrainableStack, slot: int) -> None:
        """Take a slot, and make the first batch: its `parts`."""
        self._stack, self.slot = stack, slot
        stack.put(slot, self._factors, self.recipe.name)
        numbers = nn.Parameter(stack.numbers(slot))
        numbers.grad = stack.gradient(slot)
        self._weights = SlotWeights([numbers] if self._head is None else [numbers, self._prototypes])
        self._optimizer = make_optimizer(self.recipe, self._weights)
        self._share = interpolation_of(self._base, self.recipe)
        told = self._callback.epoch
        self._loop = TrainingLoop(self._weights, self.recipe, self._dataset, self._share, self._validate, told)
        self._steps = iter(self._loop)
        self._callback.begin(self.steps)
        self._next()

    @property
    def _prototypes(self) -> nn.Parameter:
        assert self._head is not None
        assert isinstance(self._head.prototypes, nn.Parameter)
        return self._head.prototypes

    @property
    def classes(self) -> Tensor | None:
        """Of the head, if there is one."""
        return None if self._head is None else self._head.classes

    def loss(self, sums: Tensor, part: Batch) -> Tensor:
        """The loss of a part of the batch, whose answers have these scores; those of all `parts` add up."""
        settings = self.recipe.tune
        return part.share * task_of(self.recipe.task).loss(sums, part, settings.temperature, settings)

    def step(self, shown: Tensor) -> bool:
        """Take an optimizer step along the gradients that are in the slot, and make the next batch.

        Args:
            shown: the loss that they are of.

        Returns:
            whether there is a next one; else `tuned` is whole.

        Raises:
            Diverged: if the loss or the gradient is not finite.
        """
        settings, done = self.recipe.tune, self._loop.place.steps
        weights = list(self._weights.parameters())
        norm = nn.utils.clip_grad_norm_(weights, settings.clip)
        if not torch.isfinite(shown + norm):
            raise diverged(done + 1, self._dataset.ids(self._indices), shown)
        set_rate(self._optimizer, learning_rate(done, self.steps, settings.warmup))
        self._optimizer.step()
        self.forget_gradients()
        self._loop.took(float(shown))
        self._callback.step(done + 1, float(shown))
        return self._next()

    def forget_gradients(self) -> None:
        """Set the gradients of the slot and the head to zero."""
        self._stack.gradient(self.slot).zero_()
        if self._head is not None:
            self._prototypes.grad = None

    def leave(self) -> None:
        """Free the slot."""
        self._stack.clear(self.slot)
        self.parts = []

    def put_on(self) -> Tuned:
        """The trained adapter, on its base until `Tuned.adapter.detach()`."""
        numbers, *prototypes = self._trained
        head = None if self._head is None else Head(self._head.labels, *prototypes)
        self._adapter.put_on(self._stack.factors(numbers.to(self._base.device)), head)
        self._adapter.peft.eval()
        return self.tuned

    def _next(self) -> bool:
        """Make the next batch; without one, keep the trained weights."""
        for indices in self._steps:
            self._indices = indices
            rows = [self._dataset[index] for index in indices]
            each = shares([question.prompt for question, _, _ in rows], self.recipe.tune.accumulate)
            self.parts = [self._dataset.collate(rows, part).to(self._base.device) for part in each]
            return True
        self._loop.finish()
        self._trained = self._weights.state()
        self.tuned = Tuned.of(self._loop, self._adapter, self._share)
        self.tuned.seconds = time.perf_counter() - self._started
        return False

    def _validate(self) -> list[Predictions]:
        """What the slot's weights answer to the held-out examples."""
        valid, labels, prompter = self._set.valid, self._set.labels, self._set.prompter
        if not valid:
            return []
        task = task_of(self.recipe.task)
        with self._stack.rows([self.slot], [self.scale]):
            answers = ask(Bare(self._base.model, self._head), self._base, prompter, labels, valid)
        pools = task.pools(self.recipe, valid, prompter.catalog)
        return [task.collect(labels, valid, pools, answers, prompter.catalog)]
