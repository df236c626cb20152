"""The report of one adapter: what it reached, what it gains over the base and the priors, and the gate's verdict."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from shopfit.adapter.bundle import SelfTrainingRound
from shopfit.errors import BundleError, Problem
from shopfit.evaluation.evidence import Evidence, weigh
from shopfit.evaluation.gate import UNMEASURED, SystemResult, Verdict, best, decide
from shopfit.evaluation.intervals import Interval, Number, bootstrap
from shopfit.evaluation.wording import number, settings_in_words
from shopfit.recipe.schema import Recipe
from shopfit.recipe.tasks import Task
from shopfit.tasks import Predictions, SystemKind, pooled

REPORT, PLOT, CARD = "report.json", "report.png", "README.md"
TestKind = Literal["fixed", "held out", "pretext"]


class CurvePoint(BaseModel):
    """One epoch of training.

    Args:
        epoch: counts from 1.
        train_loss: mean loss of its steps.
        valid: the recipe's metric on the held-out examples; None if none were.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    epoch: int
    train_loss: Number
    valid: float | None = None


class Searched(BaseModel):
    """The outcome of a search for settings; `study.json` has every trial.

    Args:
        trials: that were made.
        pruned: of them given up early.
        folds: that each was evaluated on; 1 for one held-out set.
        chosen: the recipe's keys with the winner's values.
        loss: of the winner, cross-validated.
        own_loss: of the recipe's own settings; None if it was no number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    trials: int
    pruned: int
    folds: int
    chosen: dict[str, str | int | float]
    loss: float
    own_loss: float | None

    @property
    def worded(self) -> str:
        """In a line."""
        given_up = f", {self.pruned} given up early" if self.pruned else ""
        how = f"{self.folds}-fold cross-validation" if self.folds > 1 else "one held-out set"
        own = "no number" if self.own_loss is None else number(self.own_loss)
        return (
            f"{settings_in_words(self.chosen)}, the best of {self.trials} tried in {how}{given_up}: "
            f"loss {number(self.loss)}, the recipe's own settings {own}"
        )


@dataclass(frozen=True, slots=True)
class Contender:
    """A system's answers to the test set.

    Args:
        name: as the report prints it.
        kind: "base", "adapter", "instant", "prior" or "baseline".
        predictions: on all N rows of the test set.
    """

    name: str
    kind: SystemKind
    predictions: Predictions


@dataclass(frozen=True, slots=True)
class Held:
    """Answers to rows of the merchant's that the systems have not learned from: the test set, or what folds held out.

    Args:
        contenders: one base, one adapter and priors, all on the same rows; of folds those of the test.
        groups: names of the rows' groups, or empty (see `bootstrap`).
    """

    contenders: Sequence[Contender]
    groups: Sequence[str | None] = ()


class Report(BaseModel):
    """What `report.json` holds.

    Args:
        merchant: whose adapter it is.
        recipe: the recipe's name.
        task: of the recipe.
        metric: the recipe's metric, which the gate looks at.
        k: cut-off of the @k metrics.
        n_train: examples the weights were fitted on.
        n_pretext: pairs from the catalog that they were fitted on too.
        n_test: examples of the test set.
        n_held_out: answers from cross-validation that the gate looked at besides, where the test set did not decide.
        test_kind: whether the merchant fixed the test set, or it was held out of the examples or the pretext pairs.
        systems: base, adapter, priors, baselines, each with every metric of the task.
        gain_over_base: by how much the adapter is better on the metric, positive also where lower values are better.
        best_prior: the prior that is best on the metric.
        gain_over_prior: likewise, over that prior.
        curve: a point an epoch.
        leaks: training examples that were found in the test set and taken out, by kind.
        contradictions: rows of the same text with different answers: in train, in test, and between them.
        start: what the weights started from.
        start_losses: cross-validated loss of every start that was compared.
        searched: the settings that a search chose; None if the recipe's own were taken.
        blend: weights of the parts that the adapter's score is made of; empty where it answers alone.
        blend_losses: cross-validated loss of the blend and of each part by itself.
        calibration: of choose: the temperature, ECE before and after it, and with a threshold, the share of answers
            that the adapter is sure of and the share of those that are right, all on the test set.
        retrieval: of rank on a catalog that is searched first: its items, how many the search finds, the share of right
            items among those, and of those that the adapter would rank first of all.
        self_training: its rounds, the last of which may have been dropped.
        seconds: that training and evaluation took.
        peak_memory_mb: largest resident memory, in MB.
        verdict: the gate's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    merchant: str
    recipe: str
    task: Task
    metric: str
    k: int
    n_train: int
    n_pretext: int = 0
    n_test: int
    n_held_out: int = 0
    test_kind: TestKind
    systems: tuple[SystemResult, ...]
    gain_over_base: Interval
    best_prior: str
    gain_over_prior: Interval
    curve: tuple[CurvePoint, ...] = ()
    leaks: dict[str, int] = {}
    contradictions: dict[str, int] = {}
    start: str = "scratch"
    start_losses: dict[str, float] = {}
    searched: Searched | None = None
    blend: dict[str, float] = {}
    blend_losses: dict[str, float] = {}
    calibration: dict[str, float] = {}
    retrieval: dict[str, float] = {}
    self_training: tuple[SelfTrainingRound, ...] = ()
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    verdict: Verdict

    @property
    def adapter(self) -> SystemResult:
        """The adapter's row."""
        return next(row for row in self.systems if row.kind == "adapter")

    def to_json(self) -> str:
        """The content of `report.json`; undefined numbers are null."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, content: str | bytes) -> "Report":
        """Read what `to_json` wrote.

        Raises:
            BundleError: if it is anything else.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            problems = [Problem(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
            raise BundleError(
                f"{REPORT} is not a report", problems=problems, next_step="train the adapter again to get a new report"
            ) from None

    def write(self, folder: Path) -> None:
        """Write `report.json` and `report.png` into `folder`."""
        from shopfit.evaluation.picture import plot

        (folder / REPORT).write_text(self.to_json(), encoding="utf-8")
        plot(self, folder / PLOT)


@dataclass(frozen=True, slots=True)
class Sources:
    """What an adapter learned from, and what it is measured on. The fields are those of `Report`."""

    merchant: str
    n_train: int
    test_kind: TestKind
    n_pretext: int = 0
    leaks: Mapping[str, int] = field(default_factory=dict)
    contradictions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Course:
    """How an adapter was made. The fields are those of `Report`."""

    start: str = "scratch"
    start_losses: Mapping[str, float] = field(default_factory=dict)
    searched: Searched | None = None
    self_training: Sequence[SelfTrainingRound] = ()
    curve: Sequence[CurvePoint] = ()
    blend_losses: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_mb: float = 0.0


@dataclass(frozen=True, slots=True)
class Served:
    """What is applied to the adapter's scores when it serves. The fields are those of `Report`."""

    blend: Mapping[str, float] = field(default_factory=dict)
    calibration: Mapping[str, float] = field(default_factory=dict)
    retrieval: Mapping[str, float] = field(default_factory=dict)


def make_report(
    recipe: Recipe,
    tested: Held,
    sources: Sources,
    course: Course | None = None,
    served: Served | None = None,
    *,
    labels: Collection[str] | None = None,
    held_out: Callable[[], Held | None] = lambda: None,
) -> Report:
    """Measure every contender with 95% intervals, compare the adapter with base and priors, and ask the gate.

    Args:
        recipe: says metric, cut-off, resamples, seed and gate.
        tested: answers to the test set: one base, one adapter, one prior or more, any baselines.
        sources: what the adapter learned from.
        course: how it was made, if that is known.
        served: what is applied to its scores, if anything.
        labels: choose: those that the merchant's examples have; all by default.
        held_out: asked for answers from cross-validation where the test set does not decide.
    """
    contenders, groups = tested.contenders, tested.groups
    asked, seed = recipe.evaluate, recipe.tune.seed
    rows = tuple(
        SystemResult(
            one.name,
            one.kind,
            {
                metric: bootstrap(one.predictions, metric, asked.k, groups, asked.resamples, seed)
                for metric in recipe.spec.metric_names
            },
        )
        for one in contenders
    )
    evidence = _evidence(recipe, contenders, groups, labels)
    verdict, held = UNMEASURED if sources.test_kind == "pretext" else decide(rows, recipe, evidence), None
    if verdict.candidate and (held := held_out()) is not None:
        together = _with(tested, held)
        verdict = decide(rows, recipe, evidence, _evidence(recipe, together.contenders, together.groups, labels))
    adapter = next(one.predictions for one in contenders if one.kind == "adapter")
    rivals = [row for row in rows if row.kind == "prior"]
    prior = best(rivals, asked.metric) or rivals[0]
    base = next(row for row in rows if row.kind == "base")
    return Report(
        recipe=recipe.name,
        task=recipe.task,
        metric=asked.metric,
        k=asked.k,
        n_test=adapter.rows,
        n_held_out=0 if held is None else held.contenders[0].predictions.rows,
        systems=rows,
        gain_over_base=evidence[base.name].gain,
        best_prior=prior.name,
        gain_over_prior=evidence[prior.name].gain,
        verdict=verdict,
        **_told(sources),
        **_told(course or Course()),
        **_told(served or Served()),
    )


def _told(part: Sources | Course | Served) -> dict[str, Any]:
    """A part's fields, as `Report` has them."""
    return {one.name: getattr(part, one.name) for one in fields(part)}


def _evidence(
    recipe: Recipe, contenders: Sequence[Contender], groups: Sequence[str | None], labels: Collection[str] | None
) -> dict[str, Evidence]:
    """The evidence for the adapter's gain over the base, the instant version and every prior, by name."""
    asked, seed = recipe.evaluate, recipe.tune.seed
    adapter = next(one.predictions for one in contenders if one.kind == "adapter")
    return {
        one.name: weigh(
            adapter, one.predictions, asked.metric, asked.k, groups, resamples=asked.resamples, seed=seed, labels=labels
        )
        for one in contenders
        if one.kind in {"base", "instant", "prior"}
    }


def _with(tested: Held, held: Held) -> Held:
    """The test's rows and the held-out ones as one set."""
    more = {one.name: one.predictions for one in held.contenders}
    both = [
        Contender(one.name, one.kind, pooled([one.predictions, more[one.name]]))
        for one in tested.contenders
        if one.name in more
    ]

    def named(names: Sequence[str | None], rows: int) -> Sequence[str | None]:
        return names or [None] * rows

    counts = [some.contenders[0].predictions.rows for some in (tested, held)]
    groups = [name for some, rows in zip((tested, held), counts, strict=True) for name in named(some.groups, rows)]
    return Held(both, groups)
