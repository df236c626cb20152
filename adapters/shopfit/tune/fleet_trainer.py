"""What a merchant's run trains by in a fleet: what it queues is trained with all that others have queued."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from accelerate import Accelerator

from shopfit.adapter.initial_weights import Start
from shopfit.recipe.schema import Recipe
from shopfit.tune.fleet import Fleet
from shopfit.tune.fleet_training import Training
from shopfit.tune.trainer import Trainer, Tuned
from shopfit.tune.training_callback import TrainingCallback
from shopfit.tune.training_dataset import TrainingSet


class FleetTrainer(Trainer):
    """A trainer of one merchant's run, whose queued trainings share their forwards with a fleet's.

    Args:
        fleet: that trains them.
        accelerator: the run's.
        wait: returns once what it is given says so; meanwhile the fleet trains.
    """

    def __init__(self, fleet: Fleet, accelerator: Accelerator, wait: Callable[[Callable[[], bool]], None]) -> None:
        super().__init__(fleet.base, accelerator)
        self._fleet, self._wait = fleet, wait
        self._queued: list[Training] = []

    def queue(
        self,
        training_set: TrainingSet,
        recipe: Recipe,
        start: Start | None = None,
        callback: TrainingCallback | None = None,
    ) -> AbstractContextManager[Tuned]:
        """Hand a training to the fleet; one of no step is not trained, and no fleet is needed for it.

        Args:
            training_set: the merchant's.
            recipe: how to train.
            start: weights to start from; from scratch by default.
            callback: sees every step.

        Raises:
            RecipeError: if a fleet does not train this recipe.
        """
        if recipe.tune.steps == 0 or (start is not None and start.kept):
            return super().queue(training_set, recipe, start, callback)
        training = self._fleet.add(training_set, recipe, start, callback)
        self._queued.append(training)
        return self._put_on(training)

    @contextmanager
    def _put_on(self, training: Training) -> Iterator[Tuned]:
        self._wait(lambda: training.over)
        self._queued.remove(training)
        if training.error is not None:
            raise training.error
        tuned = training.put_on()
        try:
            yield tuned
        finally:
            tuned.adapter.detach()

    def withdraw(self) -> None:
        """End what is still queued: the run is over."""
        while self._queued:
            self._fleet.withdraw(self._queued.pop())
