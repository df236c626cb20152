"""Search: the settings that a merchant's own examples favour, found by Optuna (Akiba et al., arXiv:1907.10902).

Searched are the method, its rank (of a prefix: its length), the learning rate and the epochs. A trial is one choice of
them, trained on a part of the examples and evaluated on the rest, as starts are, always on the same folds and from the
same start. The recipe's own settings are a trial like the others, the first one, so what is found is never worse than
they are in cross-validation.

    method          lora, adalora; prefix too where the base takes one, unless the weights start from factors
    learning rate   a fifth to five times the method's own, on a log scale
    epochs, rank    half to double the recipe's own, on a log scale

The study lies in an SQLite file under `studies/` of shopfit's home, so that it can be resumed. What is drawn next
follows from the seed and the trials so far alone: a study that was interrupted ends like one that was not.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopfit.adapter.initial_weights import Start, start_for
from shopfit.base.load import Base
from shopfit.errors import DataError, Diverged, ShopfitError
from shopfit.evaluation.wording import settings_in_words
from shopfit.merchant.examples import content_digest
from shopfit.methods import METHODS, Form
from shopfit.recipe.adapter_section import Adapter
from shopfit.recipe.loading import dump_recipe
from shopfit.recipe.methods import SWITCHES
from shopfit.recipe.schema import Recipe, Tune
from shopfit.settings import studies
from shopfit.tune.folds import FOLDS, Answered, calibrated_loss, folds, scored, trained
from shopfit.tune.study import Study, Values, as_trials, ended, opened, place_of
from shopfit.tune.trainer import Trainer
from shopfit.tune.training_dataset import TrainingSet

if TYPE_CHECKING:
    import optuna

_SIZES = dict.fromkeys(method.rules.size_key for method in METHODS.values())  # each once
SEARCHED = ("adapter.method", *(f"adapter.{size}" for size in _SIZES), "tune.lr", "tune.epochs")
_AROUND = 5.0  # times the method's learning rate, and as far below it
_AT_RANDOM = 5  # trials before Optuna's model of them is asked


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a search.

    Args:
        recipe: with the winner's settings.
        start: that the winner starts from.
        study: all of it, as plain data.
    """

    recipe: Recipe
    start: Start
    study: Study


def check_search(trials: int, processes: int) -> None:
    """Refuse a search that cannot be made, before anything is loaded.

    Raises:
        ShopfitError: with what is supported.
    """
    if trials < 1:
        raise ShopfitError(f"a search of {trials} trials finds nothing", next_step="ask for at least 1, such as 20")
    if processes > 1:
        raise ShopfitError(
            f"a search runs in one process, not in {processes}",
            next_step="search with one process; then train with several, with --set for each value that it chose",
        )


def search(
    trainer: Trainer,
    recipe: Recipe,
    training_set: TrainingSet,
    start: Start,
    trials: int,
    *,
    merchant: str,
    data_digest: str,
    home: Path,
    reporter: Callable[[str, str], None] = lambda _what, _detail: None,
) -> Found:
    """Find settings by cross-validation on a merchant's examples.

    Folds are as in `folds`, and the loss is `calibrated_loss` over all that was held out. With several folds, a trial
    whose loss so far is worse than the median of the others' is given up. With one held-out set none is given up:
    losses of unfinished schedules of different lengths do not compare.

    Args:
        trainer: on a bare base, which is as it was afterwards.
        recipe: its own settings are the first trial; everything that is not searched is as it says.
        training_set: the merchant's examples.
        start: what the weights start from, where the method can; from scratch where it cannot.
        trials: how many, those of an earlier run with the same data, base, recipe and start included.
        merchant: its name.
        data_digest: of its examples.
        home: shopfit's home folder.
        reporter: told of each trial.

    Raises:
        DataError: if there are too few examples.
        ShopfitError: if the study cannot be read or written, or no trial ends with a finite loss.
    """
    parts = folds(recipe, training_set)
    if not parts:
        have = len(training_set.train) + len(training_set.valid)
        raise DataError(
            f"{merchant} has {have} examples to learn from, too few to search: {FOLDS} folds need {2 * FOLDS}",
            next_step="add examples, or do without --search",
        )
    base = trainer.base
    digest = study_digest(base, recipe, training_set, start, data_digest)
    space = Space(recipe, start, base)
    runner = _TrialRunner(trainer.without_checkpoints(), recipe, parts, start)
    with opened(studies(home, merchant) / recipe.name / f"{digest[:16]}.db", prune=len(parts) > 1) as study:
        before = len(ended(study))
        how = f"{len(parts)}-fold cross-validation" if len(parts) > 1 else "one held-out set, so none is given up early"
        reporter("search", f"{trials} trials, {how}" + (f"; {before} are kept from before" if before else ""))
        if place_of(study, space.own) is None:
            study.enqueue_trial(space.own)
        while len(ended(study)) < trials or place_of(study, space.own) is None:
            reporter("search", f"trial {len(ended(study)) + 1}: {runner.try_next(study, space)}")
        made, own = as_trials(study), place_of(study, space.own)
    losses = {trial.number: trial.loss for trial in made if trial.loss is not None}
    if not losses or own is None:
        raise ShopfitError(
            f"no trial of {len(made)} ended with a finite loss",
            next_step="set a lower tune.lr, or look at the examples: the recipe's own settings fail too",
        )
    found = Study(
        schema=1,
        merchant=merchant,
        recipe=recipe.name,
        digest=digest,
        seed=recipe.tune.seed,
        folds=len(parts),
        trials=made,
        own=own,
        winner=min(losses, key=lambda number: (losses[number], number)),
    )
    won = recipe if found.winner == own else changed(recipe, found.best.values)
    reporter("search", found.facts().worded)
    return Found(won, start_for(won.adapter.method, start), found)


class Space:
    """What may be chosen for a recipe and a start.

    Args:
        recipe: whose own settings lie within.
        start: says which methods there are.
        base: that they work on.
    """

    def __init__(self, recipe: Recipe, start: Start, base: Base) -> None:
        self._recipe = recipe
        self.methods = [
            name
            for name, method in METHODS.items()
            if (start.factors is None or not start_for(name, start).scratch)
            and not Adapter(method=method.name).limit(base.quantization, base.kind)
            and (method.form is not Form.PREFIX or base.prefix_shape is not None)
        ]

    @property
    def own(self) -> dict[str, Any]:
        """The recipe's own settings, as Optuna's parameters."""
        method = METHODS[self._recipe.adapter.method]
        return {
            "method": method.name,
            "rate": self._own_rate / method.rules.learning_rate,
            "epochs": self._recipe.tune.epochs,
            method.rules.size_key: method.size(self._recipe.adapter),
        }

    @property
    def _own_rate(self) -> float:
        return self._recipe.tune.lr or METHODS[self._recipe.adapter.method].rules.learning_rate

    def draw(self, trial: "optuna.Trial") -> Values:
        """Draw settings with Optuna."""
        method = METHODS[trial.suggest_categorical("method", self.methods)]
        # in units of the method's own rate, so that Optuna's model carries over between methods
        own = self.own["rate"]
        share = trial.suggest_float("rate", min(1 / _AROUND, own), max(_AROUND, own), log=True)
        size = method.rules.size_key
        epochs = self._near(trial, self._recipe.tune, "epochs")
        extent = self._near(trial, self._recipe.adapter, size)
        rounded = min(float(f"{share * method.rules.learning_rate:.3g}"), 1.0)
        rate = self._own_rate if trial.params == self.own else rounded
        return {"adapter.method": method.name, f"adapter.{size}": extent, "tune.lr": rate, "tune.epochs": epochs}

    def _near(self, trial: "optuna.Trial", section: Adapter | Tune, name: str) -> int:
        """From half to double what the recipe says, within what it may say."""
        own, limits = int(getattr(section, name)), type(section).model_fields[name].metadata
        largest = next(int(limit.le) for limit in limits if hasattr(limit, "le"))
        return trial.suggest_int(name, max(1, own // 2), min(2 * own, largest), log=True)


@dataclass(frozen=True, slots=True)
class _TrialRunner:
    """Trains and evaluates trials, with what all of them share; see `search`."""

    trainer: Trainer
    recipe: Recipe
    parts: Sequence[TrainingSet]
    start: Start

    def try_next(self, study: "optuna.Study", space: Space) -> str:
        """Draw settings and try them; what came of it, in words."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        seed = self.recipe.tune.seed + len(ended(study))
        # constant_liar off: unfinished trials of an interrupted run must not influence the draw
        study.sampler = TPESampler(seed=seed, n_startup_trials=_AT_RANDOM, constant_liar=False)
        trial = study.ask()
        values = space.draw(trial)
        start = start_for(str(values["adapter.method"]), self.start)
        trial.set_user_attr("values", values)
        trial.set_user_attr("start", start.name)
        own, words = trial.params == space.own, settings_in_words(values)
        tried = self.recipe if own else changed(self.recipe, values)
        answers: list[Answered] = []
        losses: list[float] = []  # over all that was held out so far
        for part in self.parts:
            try:
                with trained(self.trainer, tried, part, start) as tuned:
                    answers += scored(self.trainer.base, tried, part, tuned)
            except Diverged:
                study.tell(trial, state=TrialState.FAIL)
                return f"{words}: failed, its training diverged"
            except Exception:
                if not own:  # such as too large for memory: the next run shall not draw it again
                    study.tell(trial, state=TrialState.FAIL)
                raise
            losses.append(calibrated_loss(answers, tried))
            if not math.isfinite(losses[-1]):
                study.tell(trial, state=TrialState.FAIL)
                return f"{words}: failed, its loss is {losses[-1]}"
            trial.set_user_attr("losses", losses)
            trial.report(losses[-1], len(losses))
            if len(losses) < len(self.parts) and not own and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                return f"{words}: given up after {len(losses)} of {len(self.parts)} folds, loss {losses[-1]:.3f}"
        study.tell(trial, losses[-1])
        return f"{words}: loss {losses[-1]:.3f}"


def study_digest(base: Base, recipe: Recipe, training_set: TrainingSet, start: Start, data_digest: str) -> str:
    """SHA-256 over what determines a search's result: data, items, base, what else the recipe says, and the start."""
    document = dump_recipe(recipe)
    for key in SEARCHED:
        section, _, name = key.partition(".")
        document[section].pop(name)
    for switch in SWITCHES:
        if not document["adapter"][switch]:
            document["adapter"].pop(switch)  # so that studies older than the switch can be resumed
    if document["tune"]["lr_ratio"] == 1:
        document["tune"].pop("lr_ratio")
    document.pop("dtype")  # the loaded base's is added below
    items = [
        None if catalog is None else [dict(item.fields) for item in catalog.values()]
        for catalog in (training_set.prompter.catalog, training_set.prompter.history)
    ]
    plain = json.loads(json.dumps(items, default=str))  # what was read from Parquet may be no JSON
    more: list[Any] = [[row.id for row in training_set.beside]] if training_set.beside else []
    more += [] if base.dtype == "float32" else [base.dtype]  # absent for float32, so that older studies can be resumed
    return content_digest([data_digest, plain, base.fingerprint, document, start.name, *more])


def changed(recipe: Recipe, values: Values) -> Recipe:
    """The recipe with other values of the searched keys, checked as any recipe is."""
    document = dump_recipe(recipe)
    for key, value in values.items():
        section, _, name = key.partition(".")
        document[section][name] = value
    adapter = document["adapter"]
    if adapter["init_rank"] is not None and adapter["init_rank"] <= adapter["rank"]:
        adapter["init_rank"] = None  # follows the rank
    if not METHODS[adapter["method"]].rules.factors:
        document["tune"]["lr_ratio"] = 1.0
    if METHODS[adapter["method"]].form is Form.PREFIX:
        adapter["layers"] = "all"  # before which it stands
    for switch in SWITCHES:
        adapter[switch] = adapter[switch] and switch in METHODS[adapter["method"]].rules.switches
    return Recipe.model_validate(document)
