"""`choose`: one label of several, by their probabilities."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from shopfit.adapter.finite import not_finite
from shopfit.adapter.score_fusion import ADAPTER, COSINE_UNIT, MINILM, ScoreFusion, log_shares, softmax, weighed
from shopfit.errors import Problem
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example, Fields
from shopfit.merchant.labels import labels_of
from shopfit.merchant.search import Embed, direction, similarity
from shopfit.merchant.statistics import item_likes, label_shares, likes, positive_place
from shopfit.recipe.schema import Recipe, Tune
from shopfit.recipe.tasks import Task
from shopfit.tasks.choose_predictions import ChoosePredictions
from shopfit.tasks.predictions import Floats, Predictions
from shopfit.tasks.requests import Answer, Request
from shopfit.tasks.row_answers import RowAnswer
from shopfit.tasks.scored import ClosedTask, Parts
from shopfit.tasks.system import Answers, Learned, System
from shopfit.tasks.task import Pool, Rows, TrainingBatch, TrainingQuestion

if TYPE_CHECKING:
    from torch import Tensor

    from shopfit.tasks.tenant import Tenant

MAJORITY, LIKE_RATE, ITEM_LIKES = "majority", "like-rate", "item-likes"
_UNSEEN = 2  # prior likes and dislikes of every item
_STRENGTHS = [0.1, 1.0, 10.0, 100.0]  # inverse regularisation; unit vectors need little
_DEFAULT_STRENGTH = 10.0
_FOLDS = 4


@dataclass(frozen=True, slots=True)
class ChooseRequest(Request):
    """Asks which label fits.

    Args:
        adapter: whose answer is wanted.
        fields: what the recipe's prompt shows, by name.
    """

    task: ClassVar[Task] = "choose"


@dataclass(frozen=True, slots=True)
class ChooseAnswer(Answer):
    """A label.

    Args:
        label: the most probable one.
        probabilities: of every label; they sum to 1.
        sure: whether the label's probability reaches the adapter's threshold, from which on held-out answers were right
            as often as `serve.precision` asks; always true if the recipe does not set it.
    """

    label: str
    probabilities: Mapping[str, float]
    sure: bool = True

    @property
    def lines(self) -> list[str]:
        """Every label, the most probable first."""
        falling = sorted(self.probabilities.items(), key=lambda pair: -pair[1])
        return [f"{probability:6.1%}  {label}" for label, probability in falling]

    def raw(self, labels: Sequence[str], pool: Sequence[str]) -> list[float]:
        """The probabilities, in the order of labels."""
        return [self.probabilities.get(label, 0.0) for label in labels]  # another version may know more of them


class ChooseFusion(ScoreFusion):
    """Parts: adapter, majority, like-rate, item-likes, and minilm (cosine with the mean of each label's examples).

    Args:
        shares: share of each label among the examples, in the order of labels.
        centroids: mean direction of each label's texts in the encoder's space, in the order of labels.
        likes: for each item, the numbers of examples that like and dislike it, if rows name items.
    """

    parts: ClassVar[frozenset[str]] = frozenset({ADAPTER, MAJORITY, LIKE_RATE, ITEM_LIKES, MINILM})
    # the two biases that recommenders start from are log-odds already, which add up (Koren, Bell and Volinsky, 2009)
    biases: ClassVar[frozenset[str]] = frozenset({LIKE_RATE, ITEM_LIKES})

    shares: list[float] = Field([])
    centroids: list[list[float]] = Field([])
    likes: dict[str, tuple[int, int]] = Field({})

    def problems(self, labels: int) -> list[Problem]:
        """Why it does not fit an adapter of so many labels; empty if it does."""
        problems = super().problems(labels)
        if len(self.shares) != labels or min(self.shares, default=1) <= 0:
            problems.append(Problem("shares", f"{len(self.shares)} numbers", f"{labels} numbers above 0"))
        if self.centroids and (len(self.centroids) != labels or len({len(row) for row in self.centroids}) != 1):
            problems.append(Problem("centroids", f"{len(self.centroids)} rows", f"{labels} rows of one length"))
        if (least := min((count for pair in self.likes.values() for count in pair), default=0)) < 0:
            problems.append(Problem("likes", str(least), "0 or more"))
        return problems


class Choose(ClosedTask):
    """Chooses one of a merchant's labels."""

    name: ClassVar[Task] = "choose"
    request = ChooseRequest
    fusion = ChooseFusion

    def labels(self, recipe: Recipe, examples: Rows) -> tuple[str, ...]:
        """Every label, as in `prompt.labels`, else those of the examples, sorted."""
        return labels_of(recipe, examples)

    def shown_by(self, examples: Rows, labels: Sequence[str]) -> dict[str, list[Example]]:
        """Examples by their own label."""
        found: dict[str, list[Example]] = {}
        for example in examples:
            found.setdefault(str(example.label), []).append(example)
        return found

    def training_answers(self, question: TrainingQuestion) -> tuple[tuple[Any, ...], tuple[bool, ...]]:
        """Every label, the right one among them."""
        return tuple(question.answers), tuple(name == question.example.label for name in question.names)

    def loss(self, sums: "Tensor", batch: TrainingBatch, temperature: float, tune: Tune | None = None) -> "Tensor":
        """Cross-entropy over the length-normalised labels, which label smoothing spreads (arXiv:1512.00567)."""
        from shopfit.tasks.losses import cross_entropy, uniform_cross_entropy

        scores, counts = sums / batch.questions.lengths / temperature, batch.questions.counts
        losses = cross_entropy(scores, batch.gold, counts)  # (B,)
        if tune is not None and (smoothing := tune.label_smoothing):
            losses = (1 - smoothing) * losses + smoothing * uniform_cross_entropy(scores, counts)
        return (batch.weights * losses).mean()

    def raw(self, recipe: Recipe, labels: Sequence[str], scores: Floats) -> Floats:
        """(L,) probabilities."""
        return softmax(scores / recipe.tune.temperature)

    def collect(
        self, labels: Sequence[str], rows: Rows, pools: Sequence[Pool], answers: Sequence[Any], catalog: Catalog | None
    ) -> ChoosePredictions:
        """Put N arrays of L probabilities beside the right labels."""
        gold = np.array([labels.index(str(row.label)) for row in rows], np.int64)
        probabilities = np.array(answers, np.float64).reshape(len(rows), len(labels))
        return ChoosePredictions(tuple(labels), probabilities, gold)

    def wanted(self, example: Example, catalog: Catalog | None) -> str:
        """The label."""
        return str(example.label)

    def judge(self, example: Example, answer: ChooseAnswer, labels: Sequence[str]) -> RowAnswer:
        """The label, with its probability."""
        right = answer.label == str(example.label)
        return RowAnswer(answer.label, float(right), right, sure=answer.probabilities[answer.label])

    def priors(
        self,
        recipe: Recipe,
        train: Rows,
        *,
        labels: Sequence[str] = (),
        catalog: Catalog | None = None,
    ) -> list[System]:
        """The majority; of two labels, where rows say what a shopper liked and disliked, also the like-rate."""
        names = tuple(labels) or tuple(recipe.prompt.labels) or tuple(sorted({str(row.label) for row in train}))
        shares = np.array(label_shares(train, names))
        found = [System("majority", "prior", self, lambda rows, _: [shares] * len(rows), names)]
        if len(names) == 2 and any(likes(example.fields) is not None for example in train):
            found.append(System("like-rate", "prior", self, _like_rate(names), names, fitted=False))
        return found

    def fit(self, name: str, learned: Learned) -> System:
        """Logistic regression over the vectors."""
        return System(name, "baseline", self, _logreg(learned), learned.labels)

    def answer(self, tenant: "Tenant", scores: Floats, others: Parts) -> ChooseAnswer:
        """The label, by the scores (L,) of the adapter and the other parts of a blend."""
        if len(scores):
            scores = scores - np.array(tenant.offsets or 0.0)
        if tenant.blend is None:
            logits = scores / tenant.temperature
        else:  # the blend's weights were fitted to adapter scores at the training temperature
            parts = dict(others)
            if len(scores):
                parts[ADAPTER] = log_shares(softmax(scores / tenant.recipe.tune.temperature))
            logits = tenant.blend.together(parts)
        shares = softmax(logits)
        if not np.isfinite(shares).all():
            raise not_finite()
        probabilities = dict(zip(tenant.labels, shares.tolist(), strict=True))
        label = max(probabilities, key=probabilities.__getitem__)
        return ChooseAnswer(label, probabilities, sure=probabilities[label] >= tenant.threshold)

    def uncertainty(self, answers: Sequence[ChooseAnswer], labels: Sequence[str]) -> tuple[Floats, list[str]]:
        """The gradient of cross-entropy at the likeliest label; the margin to the second."""
        shares = np.array([answer.raw(labels, ()) for answer in answers])  # (U, L)
        second, first = np.sort(shares, axis=1)[:, -2:].T
        likeliest = np.eye(len(labels))[shares.argmax(1)]
        return shares - likeliest, [f"margin {margin:.3f}" for margin in first - second]

    def guesses(self, answers: Sequence[ChooseAnswer]) -> list[dict[str, Any]]:
        """The labels, with their probabilities."""
        return [
            {"suggested": answer.label, "probability": round(answer.probabilities[answer.label], 4)}
            for answer in answers
        ]

    def facts(self, examples: Rows, labels: Sequence[str], text: Callable[[Example], str], embed: Embed | None) -> Any:
        """Shares of the labels, likes of the items; and with an encoder, centroids of the labels."""
        shares, liked = label_shares(examples, labels), item_likes(examples)
        if embed is None:
            return {"shares": shares, "likes": liked}
        vectors = embed([text(example) for example in examples])
        centroids = []
        for label in labels:
            mine = [vectors[place] for place, example in enumerate(examples) if example.label == label]
            toward = direction(np.stack(mine)) if mine else np.zeros(vectors.shape[1])
            centroids.append([round(float(number), 6) for number in toward])
        return {"shares": shares, "centroids": centroids, "likes": liked}

    def parts(
        self, facts: ChooseFusion, labels: Sequence[str], fields: Fields, text: str, embed: Embed | None
    ) -> Parts:
        """Every part but the adapter's, for L labels: arrays (L,)."""
        parts = {MAJORITY: np.log(np.asarray(facts.shares, np.float64))}
        if len(labels) == 2 and (rate := likes(fields)) is not None:
            parts[LIKE_RATE] = _for(labels, np.log(rate / (1 - rate)))
            if isinstance(item := fields.get("item"), str):
                liked, disliked = facts.likes.get(item, (0, 0))
                parts[ITEM_LIKES] = _for(labels, np.log((liked + _UNSEEN) / (disliked + _UNSEEN)))
        if facts.centroids and embed is not None:
            cosines = weighed(facts.centroids, embed([text])[0], "centroids")
            parts[MINILM] = similarity(embed, cosines) / COSINE_UNIT
        return parts

    def judged(self, labels: Sequence[str], predictions: Predictions) -> list[tuple[Floats, Floats]]:
        """Log-probabilities of the labels, and 1 for the right one."""
        assert isinstance(predictions, ChoosePredictions)
        right = np.eye(predictions.probabilities.shape[1])[predictions.gold]
        return list(zip(log_shares(predictions.probabilities), right, strict=True))

    def fused(self, held_out: Predictions, totals: Sequence[Floats]) -> ChoosePredictions:
        """The same rows with the probabilities of other logits."""
        from scipy.special import softmax as of_rows

        assert isinstance(held_out, ChoosePredictions)
        shares = of_rows(np.array(totals).reshape(held_out.probabilities.shape), axis=1)
        return ChoosePredictions(held_out.labels, shares, held_out.gold)

    @property
    def columns(self) -> dict[str, Any]:
        """The labels' probabilities, and the index of the right label."""
        return {"predictions": ["float64"], "references": "int64"}

    def from_columns(self, predictions: Any, references: Any, **_: Any) -> ChoosePredictions:
        """Predictions of N probability rows and N indices."""
        table = np.array(predictions, np.float64).reshape(len(references), -1)
        names = tuple(map(str, range(table.shape[1])))
        return ChoosePredictions(names, table, np.asarray(references, np.int64))


TASK = Choose()


def _like_rate(labels: tuple[str, ...]) -> Answers:
    """Share of a shopper's liked items, one added to each side; `yes`, else the last label, is positive."""
    positive = positive_place(labels)

    def answer(rows: Rows, _: Sequence[Sequence[str]]) -> list[list[float]]:
        answers = []
        for row in rows:
            probability = likes(row.fields) or 0.5
            answers.append([probability if place == positive else 1 - probability for place in range(2)])
        return answers

    return answer


def _logreg(learned: Learned) -> Answers:
    """Logistic regression over the vectors, labels balanced; its strength by cross-validation where rows suffice."""
    labels = learned.labels
    gold = np.array([labels.index(str(example.label)) for example in learned.train])
    present, counts = np.unique(gold, return_counts=True)
    if len(present) < 2:
        certain = np.eye(len(labels))[present[0]]
        return lambda rows, _: [certain] * len(rows)
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    model = LogisticRegression(C=_DEFAULT_STRENGTH, class_weight="balanced", max_iter=1000)
    if counts.min() >= _FOLDS:
        folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=learned.seed)
        model = GridSearchCV(model, {"C": _STRENGTHS}, scoring="neg_log_loss", cv=folds)
    model.fit(learned.vectors(learned.train), gold)

    def answer(rows: Rows, _: Sequence[Sequence[str]]) -> list[Floats]:
        probabilities = np.zeros((len(rows), len(labels)))
        if rows:
            probabilities[:, model.classes_] = model.predict_proba(learned.vectors(rows))
        return list(probabilities)

    return answer


def _for(labels: Sequence[str], logit: float) -> Floats:
    """(2,) a logit for the label that means "liked", 0 for the other."""
    return np.array([logit if place == positive_place(labels) else 0.0 for place in range(2)])
