"""What a training tells experiment trackers, through Accelerate's: numbers and settings, no text and no file name."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

from accelerate import Accelerator

from shopfit.adapter.trainable import TrainableAdapter
from shopfit.errors import Problem, RecipeError, ShopfitError
from shopfit.evaluation.report import CurvePoint
from shopfit.recipe.schema import Recipe
from shopfit.recipe.trackers import TRACKERS, Tracker
from shopfit.tune.memory import peak_memory_mb
from shopfit.tune.training_step import Taken

logger = logging.getLogger(__name__)


def check_trackers(recipe: Recipe) -> None:
    """Refuse a tracker that is not installed, which Accelerate would leave out in silence.

    Raises:
        RecipeError: naming all of them, and what installs each.
    """
    missing = [TRACKERS[name] for name in recipe.tune.trackers if find_spec(TRACKERS[name].package) is None]
    if missing:
        raise RecipeError(
            f"recipe {recipe.name} is to be logged with what is not installed",
            problems=[Problem("tune.trackers", f"{rules.title} is not installed") for rules in missing],
            next_step=f"run `pip install {' '.join(repr(rules.install) for rules in missing)}`, or take them out of "
            "tune.trackers",
        )


class Tracking:
    """One run in every tracker of a recipe; none does nothing. Only the first process logs.

    A tracker that fails later is told nothing more: the training goes on without it.

    Args:
        recipe: of the run: its name is the project, and its settings are the run's.
        accelerator: of the run; `project_dir` is the folder of what is written here.
        adapter: that is trained.

    Raises:
        ShopfitError: if a tracker does not start.
    """

    def __init__(self, recipe: Recipe, accelerator: Accelerator, adapter: TrainableAdapter) -> None:
        self._metric, self._adapter = recipe.evaluate.metric, adapter
        self._since = time.perf_counter()
        self._trackers: dict[Tracker, Any] = {}
        folder = str(accelerator.project_dir or ".")
        run = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
        for name in recipe.tune.trackers if accelerator.is_main_process else ():
            try:
                tracker = _OPENED[name](recipe.name, run, folder)
                tracker.start()
                tracker.store_init_configuration(_settings(recipe, adapter))
            except Exception as error:
                self.close()
                raise ShopfitError(
                    f"{TRACKERS[name].title} cannot log the run: {type(error).__name__}: {error}",
                    next_step="set it up as its documentation says (WANDB_MODE=offline keeps Weights & Biases on this "
                    f"machine), or take {name} out of tune.trackers",
                ) from error
            self._trackers[name] = tracker

    def step(self, step: int, taken: Taken, examples: int) -> None:
        """Log an optimizer step.

        Args:
            step: counted from 1.
            taken: what it was.
            examples: that it read, on all processes.
        """
        if not self._trackers:
            return
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        memory = peak_memory_mb(self._adapter.base.device)
        speed = examples / max(seconds, 1e-9)
        numbers = {"loss": taken.loss, "lr": taken.rate, "grad_norm": taken.norm}
        self._log({**numbers, "examples_per_second": speed, "peak_memory_mb": memory}, step)

    def epoch(self, point: CurvePoint, step: int) -> None:
        """Log what an epoch reached: its loss, the metric on what was held out, and ranks where they change."""
        if not self._trackers:
            return
        values: dict[str, float] = {"epoch": point.epoch, "epoch_loss": point.train_loss}
        if point.valid is not None:
            values[f"valid/{self._metric}"] = point.valid
        values |= {f"rank/{layer}": rank for layer, rank in self._adapter.ranks().items()}
        self._log(values, step)
        self._since = time.perf_counter()  # the time of the check on held-out examples is no step's

    def close(self) -> None:
        """Close the run. The process group stays, for more trainings: Accelerate's `end_training` would end it."""
        self._each(lambda tracker: tracker.finish())
        self._trackers = {}

    def _log(self, values: Mapping[str, float], step: int) -> None:
        self._each(lambda tracker: tracker.log(dict(values), step=step))

    def _each(self, act: Callable[[Any], None]) -> None:
        """Have every tracker do something; one that fails is named once, and closed."""
        for name, tracker in list(self._trackers.items()):
            try:
                act(tracker)
            except Exception as error:
                del self._trackers[name]
                title = TRACKERS[name].title
                logger.warning(
                    "the training goes on without %s, which fails: %s: %s", title, type(error).__name__, error
                )
                with suppress(Exception):
                    tracker.finish()


def _settings(recipe: Recipe, adapter: TrainableAdapter) -> dict[str, Any]:
    """Hyperparameters, flat: what no merchant wrote."""
    sections = {"adapter": recipe.adapter.model_dump(), "tune": recipe.tune.model_dump()}
    flat = {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}
    kept = {key: value if isinstance(value, int | float) else str(value) for key, value in flat.items()}
    base = adapter.base
    more = {"task": recipe.task, "base": base.fingerprint[:12], "quantization": base.quantization, "dtype": base.dtype}
    return kept | more | {"parameters": adapter.size()}


def _tensorboard(project: str, run: str, folder: str) -> Any:
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker(f"{project}/{run}", logging_dir=folder)


def _wandb(project: str, run: str, folder: str) -> Any:
    import wandb
    from accelerate.tracking import WandBTracker

    # it would send the command line, the console, the code and the git state too, which name merchants
    quiet = wandb.Settings(console="off", disable_git=True, disable_code=True, x_disable_meta=True, silent=True)
    return WandBTracker(project, name=run, dir=folder, settings=quiet)


def _mlflow(project: str, run: str, folder: str) -> Any:  # noqa: ARG001 - it has an address of its own
    from accelerate.tracking import MLflowTracker

    return MLflowTracker(experiment_name=project, run_name=run)


def _trackio(project: str, run: str, folder: str) -> Any:  # noqa: ARG001
    from accelerate.tracking import TrackioTracker

    return TrackioTracker(project, name=run)


_OPENED: Mapping[Tracker, Callable[[str, str, str], Any]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}
