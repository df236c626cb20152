"""`rate`: a number, such as stars, a score from 0 to 100, or the price that someone would pay.

A model weighs a few *levels*, numbers from the least score to the largest, by the probability of their words (of a
decoder) or of their prototypes (of an encoder); its answer is their mean, the answer of least squared error
(regression-aware inference, arXiv:2403.04182), so it never leaves the bounds. Training fits that mean to the scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from shopfit.adapter.finite import not_finite
from shopfit.adapter.score_fusion import ADAPTER, MINILM, ScoreFusion, softmax, weighed
from shopfit.errors import DataError, Problem
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example, Fields
from shopfit.merchant.search import Embed
from shopfit.merchant.values import as_id
from shopfit.recipe.levels import as_written, bounds_of, kept_level_problems, levels_between
from shopfit.recipe.schema import Recipe, Tune
from shopfit.recipe.tasks import Task
from shopfit.tasks.predictions import Floats, Predictions
from shopfit.tasks.rate_predictions import RatePredictions
from shopfit.tasks.requests import Answer, Request
from shopfit.tasks.row_answers import TOLERANCE, RowAnswer, span_of
from shopfit.tasks.scored import ClosedTask, FusionRow, Parts
from shopfit.tasks.system import Learned, System
from shopfit.tasks.task import Pool, Rows, TrainingBatch, TrainingQuestion

if TYPE_CHECKING:
    from torch import Tensor

    from shopfit.tasks.tenant import Tenant

MEAN, USER_BIAS, ITEM_BIAS = "mean", "user-bias", "item-bias"
_SHRINKAGE = 5.0  # ratings of an average user or item that each one's bias is averaged with
# a squared error, as a share of the range, in nats: that of a normal with the variance of even scores, 1/12
_NATS = 6.0
_TWO_HOT = 0.5  # share of cross-entropy in the loss
_STRENGTHS = [0.01, 0.1, 1.0, 10.0, 100.0]  # of the ridge; vectors have length 1


@dataclass(frozen=True, slots=True)
class RateRequest(Request):
    """Asks for a number.

    Args:
        adapter: whose answer is wanted.
        fields: what the recipe's prompt shows, by name; and `user` and `item`, if examples name them.
    """

    task: ClassVar[Task] = "rate"


@dataclass(frozen=True, slots=True)
class RateAnswer(Answer):
    """A number.

    Args:
        score: within the bounds of the recipe, or of the examples that the adapter learned from.
        spread: standard deviation of the levels as the adapter weighs them, in the unit of the score: how unsure it is;
            None if its blend leaves the adapter out.
    """

    score: float
    spread: float | None = None

    @property
    def lines(self) -> list[str]:
        """The score, and how unsure it is."""
        return [f"{self.score:.2f}" + ("" if self.spread is None else f"  ±{self.spread:.2f}")]

    def raw(self, labels: Sequence[str], pool: Sequence[str]) -> float:
        """The score."""
        return self.score


class RateFusion(ScoreFusion):
    """Parts: adapter, mean, user-bias, item-bias, and minilm (ridge regression on the sentence encoder).

    All but the biases are differences from the middle of the range, and all are shares of it.

    Args:
        mean: of the examples' scores.
        users: by how much each user rates above what its items get, drawn towards 0.
        items: by how much each item is rated above the mean, drawn towards 0.
        coefficients: of the ridge, by the encoder's dimensions; none without an encoder.
        intercept: of the ridge.
    """

    parts: ClassVar[frozenset[str]] = frozenset({ADAPTER, MEAN, USER_BIAS, ITEM_BIAS, MINILM})
    biases: ClassVar[frozenset[str]] = frozenset({MEAN, USER_BIAS, ITEM_BIAS})

    mean: float
    users: dict[str, float] = Field({})
    items: dict[str, float] = Field({})
    coefficients: list[float] = Field([])
    intercept: float = 0.0

    def problems(self, labels: int) -> list[Problem]:
        """Why it does not fit an adapter; empty if it does."""
        lacks = MINILM in self.weights and not self.coefficients
        return super().problems(labels) + ([Problem("coefficients", "none", "numbers, for minilm")] if lacks else [])


class Rate(ClosedTask):
    """Rates with a number."""

    name: ClassVar[Task] = "rate"
    request = RateRequest
    fusion = RateFusion

    def labels(self, recipe: Recipe, examples: Rows) -> tuple[str, ...]:
        """The levels: those of `prompt.labels`, else from bound to bound; none without examples or bounds.

        Raises:
            DataError: if all examples have the same score, and the recipe names no bounds.
        """
        if recipe.prompt.labels:
            return tuple(recipe.prompt.labels)
        scores = [_score(example) for example in examples]
        bounds = bounds_of(recipe.data.bounds, {}) or ((min(scores), max(scores)) if scores else None)
        if bounds is None:
            return ()
        if bounds[0] == bounds[1]:
            raise DataError(
                f"every training example in {recipe.data.file} has the score {as_written(bounds[0])}",
                next_step="add examples with other scores, or say what scores there can be: data.bounds=[1,5]",
            )
        return levels_between(*bounds)

    def label_problems(self, recipe: Recipe, labels: Sequence[str]) -> list[Problem]:
        """Levels that are no rising numbers from one bound of the recipe to the other."""
        found = kept_level_problems(labels, recipe.data.bounds, recipe.prompt.labels)
        return [Problem("labels", problem) for problem in found]

    def shown_by(self, examples: Rows, labels: Sequence[str]) -> dict[str, list[Example]]:
        """For each level, the examples whose scores are nearest to it."""
        found = {}
        for label in labels:
            away = [abs(_score(example) - float(label)) for example in examples]
            nearest = min(away, default=0.0)
            found[label] = [example for example, each in zip(examples, away, strict=True) if each == nearest]
        return found

    def training_answers(self, question: TrainingQuestion) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Every level; of each, where it and the right score lie in the range, and its share in the score.

        Both places are shares of the range. The levels' shares sum to 1, and their mean is the score.
        """
        levels, low, span = _levels(question.names)
        places, target = (levels - low) / span, (_score(question.example) - low) / span
        shares = [float(np.interp(target, np.sort(places), row)) for row in np.eye(len(places))[np.argsort(places)].T]
        return tuple(question.answers), tuple(zip(places.tolist(), [target] * len(places), shares, strict=True))

    def right_answer(self, question: TrainingQuestion) -> Any:
        """The level that is nearest to the score."""
        answers, targets = self.training_answers(question)
        return max(zip(answers, targets, strict=True), key=lambda pair: pair[1][2])[0]

    def loss(self, sums: "Tensor", batch: TrainingBatch, temperature: float, tune: Tune | None = None) -> "Tensor":
        """Squared error of the levels' mean, or Huber's loss, which is linear for large errors (Huber, 1964).

        In training a share of it is the cross-entropy with the two levels around each score, weighed so that their mean
        is the score: where a model is sure of a wrong level, the squared error of the mean has hardly any gradient.
        """
        import torch

        counts, huber = list(batch.questions.counts), 0.0 if tune is None else tune.huber
        scores = sums / batch.questions.lengths / temperature
        errors, entropies = [], []
        for mine, gold in zip(torch.split(scores, counts), torch.split(batch.gold, counts), strict=True):
            logs, level, right = mine.log_softmax(0), gold[:, 0], gold[0, 1]
            away = (logs.exp() @ level - right).abs()
            errors.append(huber * (2 * away - huber) if 0 < huber < away else away**2)
            entropies.append(-(gold[:, 2] * logs).sum())
        share = 0.0 if tune is None else _TWO_HOT if tune.two_hot is None else tune.two_hot
        losses = (1 - share) * _NATS * torch.stack(errors) + share * torch.stack(entropies)  # (B,)
        return (batch.weights * losses).mean()

    def raw(self, recipe: Recipe, labels: Sequence[str], scores: Floats) -> float:
        """The levels' mean."""
        return _mean(softmax(scores / recipe.tune.temperature), labels)

    def collect(
        self, labels: Sequence[str], rows: Rows, pools: Sequence[Pool], answers: Sequence[Any], catalog: Catalog | None
    ) -> RatePredictions:
        """Put N numbers beside the right ones."""
        gold = np.array([_score(row) for row in rows], np.float64)
        return RatePredictions(np.array(answers, np.float64).reshape(len(rows)), gold, *_ends(labels))

    def wanted(self, example: Example, catalog: Catalog | None) -> str:
        """The number."""
        return as_written(_score(example))

    def judge(self, example: Example, answer: RateAnswer, labels: Sequence[str]) -> RowAnswer:
        """The number, and how unsure it is; merit falls by what it is off."""
        off = abs(answer.score - _score(example))
        near = off <= TOLERANCE * span_of(labels)
        return RowAnswer(f"{answer.score:.2f}", 1.0 - off, near, spread=answer.spread)

    def priors(
        self, recipe: Recipe, train: Rows, *, labels: Sequence[str] = (), catalog: Catalog | None = None
    ) -> list[System]:
        """The mean of the scores; and where rows name users or items, the mean with their biases."""
        names = tuple(labels) or self.labels(recipe, train)
        facts = _statistics(train)
        found = [System("mean", "prior", self, lambda rows, _: [facts["mean"]] * len(rows), names)]
        if facts["users"] or facts["items"]:
            low, high = _ends(names)

            def answer(rows: Rows, _: Sequence[Sequence[str]]) -> list[float]:
                found = [facts["mean"] + sum(_biases(facts["users"], facts["items"], row.fields)) for row in rows]
                return list(np.clip(found, low, high))

            found.append(System("biases", "prior", self, answer, names))
        return found

    def fit(self, name: str, learned: Learned) -> System:
        """Ridge regression on the sentence encoder's vectors."""
        coefficients, intercept = _ridge(learned.vectors(learned.train), learned.train)
        low, high = _ends(learned.labels)

        def answer(rows: Rows, _: Sequence[Sequence[str]]) -> list[float]:
            return list((learned.vectors(rows) @ coefficients + intercept).clip(low, high)) if rows else []

        return System(name, "baseline", self, answer, learned.labels)

    def answer(self, tenant: "Tenant", scores: Floats, others: Parts) -> RateAnswer:
        """The mean of the levels, or the blend of it and simpler numbers."""
        levels, low, span = _levels(tenant.labels)
        said, spread = None, None
        if len(scores):
            shares = softmax(scores / tenant.temperature)
            said = _mean(shares, tenant.labels)
            spread = float(np.sqrt(shares @ (levels - said) ** 2))
            if not np.isfinite(said):
                raise not_finite()
        if tenant.blend is None:
            assert said is not None
            return RateAnswer(said, spread)
        parts = dict(others)
        if said is not None:
            parts[ADAPTER] = _from_middle(np.array([said]), low, span)
        total = float(tenant.blend.together(parts)[0])
        if np.isnan(total):
            raise not_finite()
        return RateAnswer(float(np.clip(low + span * (total + 0.5), low, low + span)), spread)

    def uncertainty(self, answers: Sequence[RateAnswer], labels: Sequence[str]) -> tuple[Floats, list[str]]:
        """Spreads, in shares of the range: by so much a likely score would move the answer."""
        _, _, span = _levels(labels)
        spreads = np.array([span if answer.spread is None else answer.spread for answer in answers])
        return spreads[:, None] / span, [f"spread {spread:.3f}" for spread in spreads]

    def guesses(self, answers: Sequence[RateAnswer]) -> list[dict[str, Any]]:
        """The scores."""
        return [{"suggested": round(answer.score, 2)} for answer in answers]

    def facts(self, examples: Rows, labels: Sequence[str], text: Callable[[Example], str], embed: Embed | None) -> Any:
        """Mean, biases, and with an encoder the ridge."""
        facts = _statistics(examples)
        if embed is None:
            return facts
        vectors = embed([text(example) for example in examples]).astype(np.float64)
        coefficients, intercept = _ridge(vectors, examples)
        return facts | {"coefficients": [round(float(number), 6) for number in coefficients], "intercept": intercept}

    def parts(self, facts: RateFusion, labels: Sequence[str], fields: Fields, text: str, embed: Embed | None) -> Parts:
        """Every part but the adapter's: arrays (1,)."""
        _, low, span = _levels(labels)
        user, item = _biases(facts.users, facts.items, fields)
        parts = {
            MEAN: _from_middle(np.array([facts.mean]), low, span),
            USER_BIAS: np.array([user / span]),
            ITEM_BIAS: np.array([item / span]),
        }
        if facts.coefficients and embed is not None:
            said = weighed(facts.coefficients, embed([text])[0], "coefficients") + facts.intercept
            parts[MINILM] = _from_middle(np.array([said]), low, span)
        return parts

    def judged(self, labels: Sequence[str], predictions: Predictions) -> list[tuple[Floats, Floats]]:
        """The adapter's number and the right one, as differences from the middle."""
        assert isinstance(predictions, RatePredictions)
        _, low, span = _levels(labels)
        said, right = (_from_middle(numbers, low, span) for numbers in (predictions.scores, predictions.gold))
        return list(zip(said[:, None], right[:, None], strict=True))

    def tells(self, row: FusionRow) -> bool:
        """Every row tells something."""
        return True

    def varies(self, part: Floats) -> bool:
        """Whether it is not the middle."""
        return bool(part.any())

    def fusion_loss(self, totals: Floats, right: Floats) -> tuple[Floats, Floats]:
        """The squared errors in nats, and their gradients."""
        away = totals - right
        return _NATS * (away**2).mean(1), 2 * _NATS * away / away.shape[1]

    def guessing(self, row: FusionRow) -> float:
        """The loss of the mean."""
        parts, right = row
        losses, _ = self.fusion_loss(parts[MEAN][None], right[None])
        return float(losses[0])

    def fused(self, held_out: Predictions, totals: Sequence[Floats]) -> RatePredictions:
        """The same rows with other numbers."""
        assert isinstance(held_out, RatePredictions)
        low, high = held_out.low, held_out.high
        whole = np.array([float(total[0]) for total in totals])
        return replace(held_out, scores=(low + (high - low) * (whole + 0.5)).clip(low, high))

    @property
    def columns(self) -> dict[str, Any]:
        """The number as predicted, and the right one."""
        return {"predictions": "float64", "references": "float64"}

    def from_columns(self, predictions: Any, references: Any, *, low: float | None = None, **_: Any) -> RatePredictions:
        """Predictions of N numbers and N right ones; `low` is the least score there can be, by default of those."""
        gold = np.asarray(references, np.float64)
        least = float(gold.min()) if low is None and len(gold) else low or 0.0
        return RatePredictions(np.asarray(predictions, np.float64), gold, least, float(gold.max(initial=least)))


TASK = Rate()


def _score(example: Example) -> float:
    assert example.score is not None
    return example.score


def _ends(labels: Sequence[str]) -> tuple[float, float]:
    levels = [float(label) for label in labels]
    return min(levels), max(levels)


def _levels(labels: Sequence[str]) -> tuple[Floats, float, float]:
    """(L,) the levels, the least of them, and how far the largest is from it."""
    levels = np.array([float(label) for label in labels])
    low, high = _ends(labels)
    return levels, low, high - low


def _mean(shares: Floats, labels: Sequence[str]) -> float:
    """The mean of the levels, which rounding does not lead beyond them."""
    levels, low, span = _levels(labels)
    return float(np.clip(low + shares @ (levels - low), low, low + span))


def _from_middle(numbers: Floats, low: float, span: float) -> Floats:
    """Scores as differences from the middle of their range, in shares of it."""
    return (numbers - low) / span - 0.5


def _named(fields: Fields, name: str) -> str | None:
    """The user or item of a row, if it names one: the same one however a table writes it."""
    return as_id(fields.get(name))


def _statistics(examples: Rows) -> dict[str, Any]:
    """The mean, and users' and items' biases, each drawn towards 0 (Koren, Bell and Volinsky, 2009)."""
    mean = float(np.mean([_score(example) for example in examples]))
    items = _shrunk([(_named(example.fields, "item"), _score(example) - mean) for example in examples])
    users = _shrunk(
        [
            (_named(row.fields, "user"), _score(row) - mean - items.get(_named(row.fields, "item") or "", 0.0))
            for row in examples
        ]
    )
    return {"mean": mean, "users": users, "items": items}


def _shrunk(told: Sequence[tuple[str | None, float]]) -> dict[str, float]:
    sums: dict[str, list[float]] = {}
    for name, away in told:
        if name is not None:
            sums.setdefault(name, []).append(away)
    return {name: round(sum(aways) / (len(aways) + _SHRINKAGE), 6) for name, aways in sums.items()}


def _biases(users: dict[str, float], items: dict[str, float], fields: Fields) -> tuple[float, float]:
    """The biases of a row's user and item; 0 for those that no example has."""
    return users.get(_named(fields, "user") or "", 0.0), items.get(_named(fields, "item") or "", 0.0)


def _ridge(vectors: Floats, examples: Rows) -> tuple[Floats, float]:
    """Coefficients (D,) and intercept; its strength by leaving each example out once."""
    if len(examples) < 2:  # nothing can be left out
        return np.zeros(vectors.shape[1]), _score(examples[0])
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas=_STRENGTHS).fit(vectors, [_score(example) for example in examples])
    return np.asarray(model.coef_, np.float64), float(model.intercept_)
