"""A fleet: the adapters of many merchants trained on one base at once, rows of different merchants in one forward.

Each training is what `Trainer.fit` would do alone: its own batches, negatives, optimizer, schedule, clipping and early
stopping. Only forwards are shared. Each slot has torch's own AdamW over the slot's memory, so that an idle slot's bits
never change. The rows of a step are read in the parts that `tune.accumulate` says; parts share forwards, too.

The base is as in answering, so that its own dropout, if it has any, is off: noise would depend on who shares a forward.
On such a base, as most encoders are, a training differs from the one alone by that noise. A training whose numbers are
no longer finite, or whose data fails, ends alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from accelerate.utils import set_seed
from torch import Tensor

from shopfit.adapter.initial_weights import Start
from shopfit.adapter.reused_adapter import ReusedAdapter
from shopfit.adapter.trainable import attach, target_layers
from shopfit.adapter.trainable_stack import TrainableStack
from shopfit.adapter.trunk import Trunk
from shopfit.base.load import Base
from shopfit.base.scoring.joint import Keys, joins, joint_scores
from shopfit.errors import RecipeError
from shopfit.recipe.schema import Recipe
from shopfit.tune.fleet_training import Training
from shopfit.tune.training_callback import NoCallback, TrainingCallback
from shopfit.tune.training_dataset import Batch, TrainingSet

Part = tuple[Training, Batch]
"""A training, and a part of its batch."""

SLOTS = 16
TOKENS = 2048  # a forward, padding included


def check_fleet(recipe: Recipe) -> None:
    """Refuse what a fleet does not train, before anything is loaded.

    Raises:
        RecipeError: with all that is set, why a fleet cannot, and what to set instead.
    """
    tune, adapter = recipe.tune, recipe.adapter
    lora, trackers = "slots train plain LoRA", ", ".join(tune.trackers)
    table = (
        ("adapter.method", adapter.method, "lora", lora),
        ("adapter.dora", str(adapter.dora).lower(), "false", lora),
        ("adapter.dropout", f"{adapter.dropout:g}", "0", "its noise would depend on who shares a forward"),
        ("tune.lr_ratio", f"{tune.lr_ratio:g}", "1", "a slot has one learning rate"),
        ("tune.adversarial", f"{tune.adversarial:g}", "0", "it reads each batch twice by itself"),
        ("tune.contrastive", f"{tune.contrastive:g}", "0", "it looks at the states of one batch"),
        ("tune.gradient_checkpointing", str(tune.gradient_checkpointing).lower(), "false", "activations are kept"),
        ("tune.optimizer", tune.optimizer, "adamw", "each slot has torch's AdamW"),
        ("tune.mixed_precision", tune.mixed_precision, "no", "slots are float32"),
        ("tune.trackers", f"[{trackers}]", "[]", "they follow one training at a time"),
    )
    if refused := [(key, is_set, works, why) for key, is_set, works, why in table if is_set != works]:
        instead = " ".join(f"--set {key}={works}" for key, _, works, _ in refused)
        raise RecipeError(
            f"a fleet does not train {recipe.name}: "
            + "; ".join(f"{key} is {is_set}, and {why}" for key, is_set, _, why in refused),
            next_step=f"say `{instead}`, or train each merchant alone with `shopfit adapter`",
        )


class Fleet:
    """Trains adapters of many merchants at once.

    Args:
        base: that all of them are on. Between calls it is bare.
        slots: trainings at a time.
        rank: the largest of an adapter.
        tokens: a forward, padding included; a part of a batch that alone has more is read by itself.

    Raises:
        RecipeError: if texts do not share forwards on this base.
    """

    def __init__(self, base: Base, *, slots: int = SLOTS, rank: int = 8, tokens: int = TOKENS) -> None:
        if not joins(base.scorer, base.model):
            raise _no_shared_forwards(base)
        self.base = base
        self._stack = TrainableStack(base, slots, rank)
        if not self._stack.tells_rows_apart:
            raise _no_shared_forwards(base)
        self._tokens = tokens
        self._rank = rank
        self._free = list(range(slots, 0, -1))
        self._waiting: list[Training] = []
        self._active: list[Training] = []
        self._adapters: dict[tuple[str, int], ReusedAdapter] = {}

    def add(
        self,
        training_set: TrainingSet,
        recipe: Recipe,
        start: Start | None = None,
        callback: TrainingCallback | None = None,
    ) -> Training:
        """Queue a training; it gets a slot as soon as one is free.

        Args:
            training_set: the merchant's.
            recipe: how to train.
            start: weights to start from, which are trained; from scratch by default.
            callback: sees every step.

        Raises:
            RecipeError: if a fleet does not train this recipe.
        """
        check_fleet(recipe)
        if recipe.adapter.rank > self._rank:
            raise RecipeError(
                f"adapter.rank is {recipe.adapter.rank}, and the fleet's slots have rank {self._rank}",
                next_step=f"make the fleet with rank={recipe.adapter.rank}, or set adapter.rank to {self._rank}",
            )
        start = start or Start()
        adapter = self._adapter(recipe, start)
        training = Training(self.base, training_set, recipe, adapter, start, callback or NoCallback())
        self._waiting.append(training)
        return training

    def _adapter(self, recipe: Recipe, start: Start) -> ReusedAdapter:
        """PEFT's layers of such recipes, as a training alone would begin with them."""
        settings = recipe.adapter
        if settings.layers != "all" and start.factors is not None:  # which may change others
            layers = target_layers(self.base, settings, start)
            if layers != target_layers(self.base, settings, Start()):
                settings = settings.model_copy(update={"targets": layers, "layers": "all"})
        key = settings.model_dump_json(), recipe.tune.seed
        if key not in self._adapters:
            set_seed(recipe.tune.seed)
            self._adapters[key] = ReusedAdapter(attach(self.base, settings, total_steps=1, opening=(0,)))
        return self._adapters[key]

    @property
    def busy(self) -> bool:
        """Whether any training is not over."""
        return bool(self._active or self._waiting)

    def step(self) -> list[Training]:
        """One optimizer step of every training that has a slot.

        Returns:
            the trainings that are over: their `error` says what went wrong, if anything did.
        """
        over: list[Training] = []
        while self._free and self._waiting:
            training, slot = self._waiting.pop(0), self._free.pop()
            try:
                training.enter(self._stack, slot)
            except Exception as error:  # a merchant's own, whatever it is
                self._end(training, error)
                over.append(training)
            else:
                self._active.append(training)
        return over + self._take()

    def _forwards(self) -> list[list[Part]]:
        """The parts of all batches, in groups that fill a forward; those of similar width together."""
        groups: list[list[Part]] = []
        rows = width = 0
        parts = [(training, part) for training in self._active for part in training.parts]
        for one in sorted(parts, key=lambda one: (-_shape(one[1])[1], one[0].slot)):
            more, needed = _shape(one[1])
            width = width if groups else needed
            if groups and (rows + more) * width <= self._tokens:
                groups[-1].append(one)
                rows += more
            else:
                groups.append([one])
                rows, width = more, needed
        return [sorted(group, key=lambda one: one[0].slot) for group in groups]

    def _take(self) -> list[Training]:
        """Read all batches, and take a step of each training. Those of a forward that fails are read anew, each alone.

        Returns:
            those that are over.
        """
        losses: dict[Training, list[Tensor]] = {training: [] for training in self._active}
        again: set[Training] = set()
        for parts in self._forwards():
            group = [one for one in parts if one[0] not in again]
            try:
                for (training, _), loss in zip(group, self._forward(group) if group else (), strict=True):
                    losses[training].append(loss)
            except Exception:  # one merchant's own, whatever it is: such as no memory for its batch
                again |= {training for training, _ in group}
        over = []
        for training in again:
            training.forget_gradients()
        for training, read in losses.items():
            error: Exception | None = None
            try:
                if training in again:
                    read = [self._forward([(training, part)])[0] for part in training.parts]
                goes_on = training.step(torch.stack(read).sum())
            except Exception as failure:  # a merchant's own, whatever it is
                goes_on, error = False, failure
            if not goes_on:
                over.append(self._over(training, error))
        return over

    def _forward(self, group: Sequence[Part]) -> list[Tensor]:
        """A forward and a backward pass of some parts.

        Returns:
            the loss of each.
        """
        slots, scales = [training.slot for training, _ in group], [training.scale for training, _ in group]
        trunk = _trunk_of([training for training, _ in group])

        @contextmanager
        def rows(owners: Sequence[int], keys: Keys) -> Iterator[None]:
            with (
                self._stack.rows([slots[owner] for owner in owners], [scales[owner] for owner in owners]),
                nullcontext() if trunk is None else trunk.behind(keys),
            ):
                yield

        sums = joint_scores(
            self.base.model,
            [part.questions for _, part in group],
            [training.classes for training, _ in group],
            rows,
        )
        losses = [training.loss(mine, part) for (training, part), mine in zip(group, sums, strict=True)]
        # rows of one merchant reach no weights of another, so that the sum's gradients are each one's own
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        return [loss.detach() for loss in losses]

    def _over(self, training: Training, error: Exception | None) -> Training:
        self._active.remove(training)
        self._end(training, error)
        return training

    def withdraw(self, training: Training) -> None:
        """End a training that nobody waits for any more."""
        if training in self._waiting:
            self._waiting.remove(training)
        elif training in self._active:
            self._active.remove(training)
            self._end(training, None)

    def _end(self, training: Training, error: Exception | None) -> None:
        training.error, training.over = error, True
        training.leave()
        self._free.append(training.slot)
        self._free.sort(reverse=True)


def _trunk_of(group: Sequence[Training]) -> Trunk | None:
    """What none of these trainings changes of the base; None if any of them changes its first block."""
    trunks = [training.trunk for training in group]
    return max((trunk for trunk in trunks if trunk is not None), key=lambda trunk: trunk.count) if all(trunks) else None


def _shape(part: Batch) -> tuple[int, int]:
    rows, width = part.questions.input_ids.shape
    return rows, width


def _no_shared_forwards(base: Base) -> RecipeError:
    return RecipeError(
        f"the base {base.name} does not keep the rows of a batch apart, so merchants share no forwards on it",
        next_step="take another base, or train each merchant alone with `shopfit adapter`",
    )
