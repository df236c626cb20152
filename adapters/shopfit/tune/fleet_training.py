"""One merchant's training in a fleet: what `Trainer.fit` does alone, but for the forwards, which the fleet shares."""

import time
from collections.abc import Generator

import torch
from torch import Tensor, nn

from shopfit.adapter.head import Head
from shopfit.adapter.initial_weights import Start
from shopfit.adapter.reused_adapter import ReusedAdapter
from shopfit.adapter.trainable_stack import SlotModel, TrainableStack
from shopfit.base.load import Base
from shopfit.evaluation.assess import ask
from shopfit.evaluation.report import CurvePoint
from shopfit.methods import METHODS
from shopfit.recipe.schema import Recipe
from shopfit.tasks import Predictions, task_of
from shopfit.tune.batches import LengthSortedBatches
from shopfit.tune.trainer import (
    Tuned,
    head_labels,
    interpolation_of,
    learning_rate,
    merit_of,
    opening_of,
    to_learn,
    total_steps,
    values_of,
)
from shopfit.tune.training_callback import TrainingCallback
from shopfit.tune.training_dataset import BalancedTrainingDataset, Batch, TrainingSet
from shopfit.tune.training_step import diverged

State = tuple[Tensor, Tensor | None]
"""A copy of a slot's numbers, and of the head's prototypes."""


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
        self._started, settings = time.perf_counter(), recipe.tune
        names = head_labels(base, recipe, [self._set])
        self._dataset = BalancedTrainingDataset([self._set], settings, None, names)
        self.steps = total_steps(recipe, len(self._dataset))
        self._sampler = LengthSortedBatches(
            len(self._dataset), settings.rows_a_step, self._dataset.length, settings.seed
        )
        self._way = interpolation_of(base, recipe)
        self.scale = adapter.scale
        self._head: Head | None = None
        adapter.begin(start)
        try:
            if names:
                adapter.train_head(opening_of(adapter, recipe.task, names, [self._set], start).prototypes())
                self._head = adapter.head
            self._factors = {name: (down.clone(), up.clone()) for name, (down, up) in adapter.factors().items()}
        finally:
            adapter.detach()
        self.tuned = Tuned(adapter, 0, 0, stopped_early=False, seconds=0.0, interpolation=self._way)
        self.batch: Batch | None = None

    def enter(self, stack: TrainableStack, slot: int) -> None:
        """Take a slot, and make the first batch."""
        self._stack, self.slot = stack, slot
        stack.put(slot, self._factors, self.recipe.name)
        weights = nn.Parameter(stack.numbers(slot))
        weights.grad = stack.gradient(slot)
        self._weights = [weights] if self._head is None else [weights, self._prototypes]
        settings = self.recipe.tune
        self._rate = settings.lr or METHODS[self.recipe.adapter.method].rules.learning_rate
        self._optimizer = torch.optim.AdamW(self._weights, lr=self._rate, weight_decay=settings.weight_decay)
        self._epochs = self._run()
        self._callback.begin(self.steps)
        self.batch = next(self._epochs)

    @property
    def _prototypes(self) -> nn.Parameter:
        assert self._head is not None
        assert isinstance(self._head.prototypes, nn.Parameter)
        return self._head.prototypes

    @property
    def classes(self) -> Tensor | None:
        """Of the head, if there is one."""
        return None if self._head is None else self._head.classes

    def loss(self, sums: Tensor) -> Tensor:
        """The loss of the batch whose answers have these scores."""
        assert self.batch is not None
        settings = self.recipe.tune
        return task_of(self.recipe.task).loss(sums, self.batch, settings.temperature, settings)

    def step(self, shown: Tensor) -> bool:
        """Take an optimizer step along the gradients that are in the slot, and make the next batch.

        Args:
            shown: the loss that they are of.

        Returns:
            whether there is a next one; else `tuned` is whole.

        Raises:
            Diverged: if the loss or the gradient is not finite.
        """
        settings = self.recipe.tune
        norm = nn.utils.clip_grad_norm_(self._weights, settings.clip)
        if not torch.isfinite(shown + norm):
            raise diverged(self.tuned.steps + 1, self._dataset.ids(self._indices), shown)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * learning_rate(self.tuned.steps, self.steps, settings.warmup)
        self._optimizer.step()
        self._stack.gradient(self.slot).zero_()
        if self._head is not None:
            self._prototypes.grad = None
        self.tuned.steps += 1
        self._callback.step(self.tuned.steps, float(shown))
        try:
            self.batch = self._epochs.send(shown)
        except StopIteration:
            return False
        return True

    def leave(self) -> None:
        """Free the slot."""
        self._stack.clear(self.slot)
        self.batch = None

    def put_on(self) -> Tuned:
        """The trained adapter, on its base until `Tuned.adapter.detach()`."""
        numbers, prototypes = self._best
        head = None if self._head is None or prototypes is None else Head(self._head.labels, prototypes)
        self._adapter.put_on(self._stack.factors(numbers), head)
        self._adapter.peft.eval()
        return self.tuned

    def _run(self) -> Generator[Batch, Tensor, None]:
        """Yield the batches, be sent the loss of each after its step, and leave the outcome in `tuned`."""
        tuned, settings, recipe = self.tuned, self.recipe.tune, self.recipe
        origin = self._state()
        best: State | None = None
        best_merit: tuple[float, ...] = ()
        for epoch in range(1, settings.epochs + 1):
            self._dataset.epoch = self._sampler.epoch = epoch
            losses = []
            for indices in self._sampler:
                self._indices = indices
                batch = self._dataset.collate([self._dataset[index] for index in indices])
                losses.append((yield batch.to(self._base.device)))
                if settings.steps == tuned.steps:
                    break
            end = self._state()
            between = self._between(origin, end)
            answers = self._validate(between, end) if self._set.valid else None
            values = None if answers is None else values_of(recipe, [answers])
            point = CurvePoint(epoch=epoch, train_loss=float(torch.stack(losses).mean()), valid=values and values[0])
            tuned.curve.append(point)
            self._callback.epoch(point)
            if values is None or answers is None:
                best, tuned.best_epoch = between, epoch
            elif (merit := merit_of(recipe, values)) > best_merit:
                best, best_merit, tuned.best_epoch, tuned.held_out = between, merit, epoch, [answers]
            elif epoch - tuned.best_epoch >= settings.patience:
                tuned.stopped_early = epoch < settings.epochs
                break
            if settings.steps == tuned.steps:
                break
        assert best is not None
        self._best = best
        tuned.seconds = time.perf_counter() - self._started

    def _state(self) -> State:
        with torch.no_grad():
            prototypes = None if self._head is None else self._prototypes.detach().clone()
            return self._stack.numbers(self.slot).clone(), prototypes

    def _between(self, origin: State, end: State) -> State:
        """The state a part of the way from one to the other, see `interpolation_of`."""
        if self._way == 1:
            return end
        numbers = torch.lerp(origin[0], end[0], self._way)
        if origin[1] is None or end[1] is None:
            return numbers, None
        return numbers, torch.lerp(origin[1], end[1], self._way)

    def _set_state(self, state: State) -> None:
        with torch.no_grad():
            self._stack.numbers(self.slot).copy_(state[0])
            if state[1] is not None:
                self._prototypes.copy_(state[1])

    def _validate(self, state: State, end: State) -> Predictions:
        """What the weights of `state` answer to the held-out examples; afterwards those of `end` are back."""
        valid, labels, prompter = self._set.valid, self._set.labels, self._set.prompter
        task = task_of(self.recipe.task)
        self._set_state(state)
        with self._stack.rows([self.slot], [self.scale]):
            answers = ask(SlotModel(self._base.model, self._head), self._base, prompter, labels, valid)
        self._set_state(end)
        pools = task.pools(self.recipe, valid, prompter.catalog)
        return task.collect(labels, valid, pools, answers, prompter.catalog)
