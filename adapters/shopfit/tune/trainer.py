"""The Trainer: examples -> weights, on one process or several."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter

from accelerate import Accelerator
from accelerate.utils import set_seed

from shopfit.adapter.head import HeadOpening, KnownTexts
from shopfit.adapter.initial_weights import Start, recipe_for
from shopfit.adapter.trainable import TrainableAdapter, attach
from shopfit.base.load import Base
from shopfit.evaluation.assess import ask
from shopfit.evaluation.report import CurvePoint
from shopfit.methods import METHODS, Form
from shopfit.recipe.schema import Recipe
from shopfit.recipe.tasks import Task
from shopfit.tasks import Predictions, closed_task_of, task_of
from shopfit.tune.checkpoints import Checkpoints
from shopfit.tune.kept_training import KeptTraining, name_of
from shopfit.tune.objectives import Objective
from shopfit.tune.optimizer import make_optimizer
from shopfit.tune.processes import agreed, gathered, make_equal
from shopfit.tune.sharding import as_asked
from shopfit.tune.tracking import Tracking, check_trackers
from shopfit.tune.training_callback import NoCallback, StopsTraining, TrainingCallback
from shopfit.tune.training_dataset import BalancedTrainingDataset, TrainingSet
from shopfit.tune.training_loop import TrainingLoop, interpolation_of, total_steps
from shopfit.tune.training_step import TrainingStep, check_parts


@dataclass(slots=True)
class Tuned:
    """A trained adapter, still on its base.

    Args:
        adapter: holds the best weights.
        steps: optimizer steps done.
        best_epoch: the epoch whose weights these are, counted from 1; 0 for a start that is kept as it is.
        stopped_early: whether training ended before its last epoch.
        seconds: that it took.
        curve: a point an epoch.
        held_out: what these weights answer to each merchant's held-out examples; empty if none were.
        interpolation: share of the way from the first to the trained weights that they have gone.
    """

    adapter: TrainableAdapter
    steps: int
    best_epoch: int
    stopped_early: bool
    seconds: float
    curve: list[CurvePoint] = field(default_factory=list)
    held_out: list[Predictions] = field(default_factory=list)
    interpolation: float = 1.0

    @classmethod
    def of(cls, loop: TrainingLoop, adapter: TrainableAdapter, share: float) -> "Tuned":
        """The outcome of a loop that is over.

        Args:
            loop: its weights are the adapter's.
            adapter: that was trained.
            share: the loop's.
        """
        place = loop.place
        return cls(
            adapter,
            place.steps,
            place.best_epoch,
            stopped_early=place.stopped_early,
            seconds=0.0,
            curve=place.curve,
            held_out=place.held_out or [],
            interpolation=share,
        )


def make_accelerator(recipe: Recipe, log_folder: str | None = None, *, shards: bool = False) -> Accelerator:
    """The Accelerator of a run, made once and passed on: making another resets the global state of the first.

    Make it before loading the base, which belongs on its `device`.

    Args:
        recipe: its `tune` section says precision and trackers.
        log_folder: where trackers write.
        shards: whether the base may be sharded, if Accelerate's configuration asks for it.

    Raises:
        RecipeError: if a tracker is not installed.
        ShopfitError: if Accelerate was asked for what is not done here, or does something else.
    """
    check_trackers(recipe)
    return as_asked(recipe.tune.mixed_precision, log_folder, shards=shards)


class Trainer:
    """Trains adapters on one base, on the run's processes.

    Args:
        base: frozen; an adapter stays on it until `Tuned.adapter.detach()`.
        accelerator: the run's, from `make_accelerator`.
        callback: sees every step.
        checkpoints: of the run, which trainings go on from and are kept in; None to keep none.
        read: what texts said to adapters without training, to which more is added; by default nothing yet.
    """

    def __init__(
        self,
        base: Base,
        accelerator: Accelerator,
        callback: TrainingCallback | None = None,
        checkpoints: Checkpoints | None = None,
        read: KnownTexts | None = None,
    ) -> None:
        self._base = base
        self._accelerator = accelerator
        self._checkpoints = checkpoints
        self._callback = callback if callback is not None and accelerator.is_main_process else NoCallback()
        self._read: KnownTexts = {} if read is None else read

    @property
    def base(self) -> Base:
        """That all of its adapters are on, one at a time."""
        return self._base

    @property
    def accelerator(self) -> Accelerator:
        """The run's."""
        return self._accelerator

    def without_checkpoints(self) -> "Trainer":
        """The same one, for trainings that nothing is kept of, such as those of a search, which has its study."""
        return Trainer(self._base, self._accelerator)

    def read_anew(self) -> None:
        """Forget what texts said to adapters without training: what follows is then the same, whatever was before."""
        self._read = {}

    def queue(
        self,
        training_set: TrainingSet,
        recipe: Recipe,
        start: Start | None = None,
        callback: TrainingCallback | None = None,
    ) -> AbstractContextManager[Tuned]:
        """A training that is wanted: `fit` when the context is entered; the base is bare again after it.

        Queue at once all that do not depend on one another: a `FleetTrainer` trains them together. The arguments are
        those of `fit`, which raises on entering, and what sees every step.
        """

        @contextmanager
        def fitted() -> Iterator[Tuned]:
            trainer = Trainer(self._base, self._accelerator, callback, self._checkpoints, self._read)
            tuned = trainer.fit(training_set, recipe, start)
            try:
                yield tuned
            finally:
                tuned.adapter.detach()

        return fitted()

    def fit(self, training_set: TrainingSet, recipe: Recipe, start: Start | None = None) -> Tuned:
        """Train one merchant's adapter. Same seed, same machine: bitwise the same weights.

        Args:
            training_set: the merchant's.
            recipe: how to train.
            start: weights to start from; from scratch by default. One that is kept as it is is not trained, and none is
                in a recipe whose `tune.steps` is 0.

        Returns:
            the adapter with its best weights.

        Raises:
            Diverged: if a step's loss or gradient is not finite. The base is bare again then.
        """
        start = start or Start()
        if start.kept or recipe.tune.steps == 0:
            start = replace(start, kept=True)
            return _untrained(self._base, recipe, to_learn(training_set, recipe), start, self._accelerator, self._read)
        return self.fit_together([training_set], recipe, start=start)

    def fit_together(
        self,
        merchants: Sequence[TrainingSet],
        recipe: Recipe,
        *,
        per_merchant: int | None = None,
        start: Start | None = None,
    ) -> Tuned:
        """Train one adapter for one or several merchants: in every epoch each gives the same number of examples.

        Args:
            merchants: what each of them gives.
            recipe: how to train.
            per_merchant: examples of each an epoch; those of the one with the most by default.
            start: weights to start from; from scratch by default.

        Returns:
            the adapter with the weights that are best on the merchants' held-out examples, the mean over merchants.

        Raises:
            Diverged: if a step's loss or gradient is not finite. The base is bare again then.
        """
        base, accelerator = self._base, self._accelerator
        merchants = [to_learn(training_set, recipe) for training_set in merchants]
        settings = recipe.tune
        check_parts(recipe, compares_texts=base.scorer.compares_texts, processes=accelerator.num_processes)
        set_seed(settings.seed)
        names = head_labels(base, recipe, merchants)
        dataset = BalancedTrainingDataset(merchants, settings, per_merchant, names)
        steps = total_steps(recipe, len(dataset))
        adapter = _attach(base, recipe, merchants, steps, names, start)
        with adapter.detached_on_error():
            name = ""
            if self._checkpoints is not None:
                name = name_of(base, recipe, merchants, start, accelerator.num_processes, per_merchant)
            return self._train(adapter, dataset, merchants, recipe, steps, name)

    def _train(
        self,
        adapter: TrainableAdapter,
        dataset: BalancedTrainingDataset,
        merchants: Sequence[TrainingSet],
        recipe: Recipe,
        steps: int,
        name: str,
    ) -> Tuned:
        """Take the steps, and put the best weights back."""
        base, accelerator, callback = self._base, self._accelerator, self._callback
        adapter.peft.train()
        make_equal(accelerator, list(adapter.parameters()))
        optimizer = accelerator.prepare_optimizer(make_optimizer(recipe, adapter))
        objective = Objective(adapter, recipe.task, recipe.tune)
        step = TrainingStep(adapter, recipe, dataset, objective, optimizer, steps, accelerator)
        share = interpolation_of(base, recipe)
        with closing(Tracking(recipe, accelerator, adapter)) as tracking:

            def told(point: CurvePoint) -> None:
                callback.epoch(point)
                tracking.epoch(point, loop.place.steps)

            def stops(ends_epoch: bool) -> bool:
                wanted = isinstance(callback, StopsTraining) and callback.wants_stop()
                if accelerator.num_processes == 1:
                    return wanted
                return ends_epoch and agreed(accelerator, wanted)  # all of them or none

            validate = partial(_validate, adapter, base, recipe, merchants, accelerator)
            loop = TrainingLoop(adapter, recipe, dataset, share, validate, told, stops)
            kept = KeptTraining(self._checkpoints, name, adapter, optimizer, loop, accelerator)
            callback.begin(steps)
            with kept.going_on():
                for indices in loop:
                    with kept.step():
                        number = loop.place.steps + 1
                        taken = step.take(number, indices)
                        loop.took(taken.loss)
                    callback.step(number, taken.loss)
                    tracking.step(number, taken, len(indices))
            kept.write()
        loop.finish()
        adapter.peft.eval()
        accelerator.free_memory()
        tuned = Tuned.of(loop, adapter, share)
        tuned.seconds = kept.seconds
        return tuned


def to_learn(training_set: TrainingSet, recipe: Recipe) -> TrainingSet:
    """The training set with all that the weights are fitted on among its examples, read by the recipe."""
    return replace(training_set, train=training_set.training_examples, beside=()).under(recipe)


def _untrained(
    base: Base, recipe: Recipe, training_set: TrainingSet, start: Start, accelerator: Accelerator, read: KnownTexts
) -> Tuned:
    """The adapter that a start makes, without a step of training."""
    started = time.perf_counter()
    set_seed(recipe.tune.seed)
    recipe = recipe_for(recipe, start)
    adapter = _attach(base, recipe, [training_set], 1, head_labels(base, recipe, [training_set]), start, read)
    with adapter.detached_on_error():
        adapter.offsets = start.offsets
        answers = _validate(adapter, base, recipe, [training_set], accelerator)
        adapter.peft.eval()
    return Tuned(adapter, 0, 0, stopped_early=False, seconds=time.perf_counter() - started, held_out=answers)


def head_labels(base: Base, recipe: Recipe, merchants: Sequence[TrainingSet]) -> tuple[str, ...]:
    """Labels that the adapter's head has a row for: all merchants', on an encoder, if every question has them."""
    if not base.scorer.compares_texts or not recipe.spec.closed:
        return ()
    return tuple(dict.fromkeys(label for training_set in merchants for label in training_set.labels))


def _attach(
    base: Base,
    recipe: Recipe,
    merchants: Sequence[TrainingSet],
    steps: int,
    names: Sequence[str],
    start: Start | None,
    read: KnownTexts | None = None,
) -> TrainableAdapter:
    """A fresh adapter, with a head for the labels in `names` if there are any."""
    adapter = attach(
        base,
        recipe.adapter,
        total_steps=steps,
        opening=merchants[0].prompter.encode(merchants[0].train[0].fields),
        gradient_checkpointing=recipe.tune.gradient_checkpointing,
        start=start,
    )
    with adapter.detached_on_error():
        if names:
            kept = start is not None and start.kept
            head = start.head.of(names) if start is not None and start.keeps_head and start.head is not None else None
            if head is None:
                bare = start is not None and start.scratch and METHODS[recipe.adapter.method].form is Form.FACTORS
                opening = opening_of(adapter, recipe.task, names, merchants, start, read if bare else None)
                head = opening.discriminant() if kept else opening.prototypes()
            adapter.train_head(head)
    return adapter


def opening_of(
    adapter: TrainableAdapter,
    task: Task,
    names: Sequence[str],
    merchants: Sequence[TrainingSet],
    start: Start | None,
    read: KnownTexts | None = None,
) -> HeadOpening:
    """What is known of the labels in `names` before training, by an adapter that is on its base."""
    prompter = merchants[0].prompter
    examples: dict[str, list[tuple[int, ...]]] = {}
    for training_set in merchants:
        for label, rows in closed_task_of(task).shown_by(training_set.train, training_set.labels).items():
            examples.setdefault(label, []).extend(training_set.prompter.encode(row.fields) for row in rows)
    adapter.peft.eval()
    words = {name: prompter.label(name) for name in names}
    known = None if start is None or start.head is None or start.head.biases is not None else start.head
    return HeadOpening(adapter.model, prompter.tokenizer.pad_token_id, words, examples, known, read)


def _validate(
    adapter: TrainableAdapter, base: Base, recipe: Recipe, merchants: Sequence[TrainingSet], accelerator: Accelerator
) -> list[Predictions]:
    """What the adapter answers to the held-out examples of each merchant that has any."""
    return [
        held_out_answers(adapter, base, recipe, training_set, accelerator)
        for training_set in merchants
        if training_set.valid
    ]


def held_out_answers(
    adapter: TrainableAdapter, base: Base, recipe: Recipe, training_set: TrainingSet, accelerator: Accelerator
) -> Predictions:
    """What an adapter on its base answers to held-out examples; each process answers its share, or all if sharded."""
    return held_out_together(adapter, base, recipe, [training_set], accelerator)[0]


def held_out_together(
    adapter: TrainableAdapter, base: Base, recipe: Recipe, parts: Sequence[TrainingSet], accelerator: Accelerator
) -> list[Predictions]:
    """The same of several parts of one merchant's examples, asked at once."""
    prompter, labels = parts[0].prompter, parts[0].labels
    valid = [row for part in parts for row in part.valid]
    adapter.peft.eval()
    first, each = (0, 1) if base.sharded else (accelerator.process_index, accelerator.num_processes)
    rows = range(first, len(valid), each)
    with accelerator.autocast():
        mine = list(zip(rows, ask(adapter, base, prompter, labels, [valid[row] for row in rows]), strict=True))
    answers = [said for _, said in sorted(mine if base.sharded else gathered(accelerator, mine), key=itemgetter(0))]
    adapter.peft.train()
    task, catalog, said = task_of(recipe.task), prompter.catalog, iter(answers)
    return [
        task.collect(
            labels, part.valid, task.pools(recipe, part.valid, catalog), [next(said) for _ in part.valid], catalog
        )
        for part in parts
    ]
