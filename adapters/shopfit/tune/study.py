"""A search's study: as Optuna keeps it, in an SQLite file that can be resumed, and as plain data for a bundle."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shopfit.errors import ShopfitError
from shopfit.evaluation.report import Searched
from shopfit.settings import sqlite_url

if TYPE_CHECKING:
    import optuna

STUDY = "study.json"
_PRUNE_FROM = 4  # whole trials before one is given up for being worse than their median

Values = dict[str, str | int | float]
"""A recipe's key: what it is set to."""
State = Literal["complete", "pruned", "failed"]


class Trial(BaseModel):
    """One choice of settings.

    Args:
        number: counts from 1.
        values: of the searched keys.
        start: what its weights started from.
        state: complete; pruned, after some folds, for being worse than most; or failed: its training broke
            off, or its loss was not finite.
        loss: an example, calibrated, over all folds; None unless it is complete.
        losses: the same after each fold, over what was held out so far.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    number: int
    values: Values
    start: str
    state: State
    loss: float | None
    losses: list[float]


class Study(BaseModel):
    """What `study.json` holds.

    Args:
        merchant: whose examples decided.
        recipe: its name.
        digest: SHA-256 over what determines the result.
        seed: of Optuna's sampler: the trial after n others is drawn with seed + n.
        folds: that each trial is evaluated on; 1 for one held-out set.
        trials: in the order they were made.
        own: number of the trial with the recipe's own settings.
        winner: number of the complete trial with the lowest loss.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_: Literal[1] = Field(1, alias="schema")
    merchant: str
    recipe: str
    digest: str
    seed: int
    folds: int
    trials: list[Trial]
    own: int
    winner: int

    @property
    def best(self) -> Trial:
        """The winner."""
        return self.trials[self.winner - 1]

    def facts(self) -> Searched:
        """What the report shows of it."""
        assert self.best.loss is not None
        return Searched(
            trials=len(self.trials),
            pruned=sum(trial.state == "pruned" for trial in self.trials),
            folds=self.folds,
            chosen=self.best.values,
            loss=self.best.loss,
            own_loss=self.trials[self.own - 1].loss,
        )

    def to_json(self) -> str:
        """The content of `study.json`."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"


@contextmanager
def opened(path: Path, *, prune: bool) -> "Iterator[optuna.Study]":
    """The study in a file, created or resumed.

    Args:
        path: of the SQLite file.
        prune: whether trials are given up whose loss so far is worse than the median of the others'.

    Raises:
        ShopfitError: in place of an error of the disk or the database.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # the reporter tells of trials
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_PRUNE_FROM) if prune else optuna.pruners.NopPruner()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _broken(path, error) from error
    storage = None
    try:
        storage = optuna.storages.RDBStorage(sqlite_url(path))
        yield optuna.create_study(storage=storage, study_name="search", pruner=pruner, load_if_exists=True)
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise _broken(path, error.__cause__ or error) from error
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()


def _broken(path: Path, reason: BaseException) -> ShopfitError:
    return ShopfitError(
        f"the study {path} cannot be read or written: {str(reason).splitlines()[0]}",
        next_step="free some space or mend its permissions; or take the file away, and the search starts anew",
    )


def ended(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """Trials in order; those that were interrupted are left out, and their settings may be drawn again."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))


def place_of(study: "optuna.Study", params: Mapping[str, Any]) -> int | None:
    """Number of the first ended trial with these parameters, counted from 1; None if there is none."""
    return next((number for number, trial in enumerate(ended(study), 1) if trial.params == params), None)


def as_trials(study: "optuna.Study") -> list[Trial]:
    """What ended, as plain data."""
    from optuna.trial import TrialState

    states: dict[TrialState, State] = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    return [
        Trial(
            number=number,
            values=trial.user_attrs["values"],
            start=trial.user_attrs["start"],
            state=states[trial.state],
            loss=trial.value if trial.state == TrialState.COMPLETE else None,
            losses=trial.user_attrs.get("losses", []),
        )
        for number, trial in enumerate(ended(study), 1)
    ]
