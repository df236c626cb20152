"""`rate`: its levels, the training loss and the answer, each against a plain definition."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.tasks.ratings import NATS, RATE, STARS, UNEVEN, rated, recipe, tenant
from torch.nn.functional import cross_entropy, huber_loss, mse_loss

from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.errors import DataError, RequestError
from shopfit.merchant.examples import Example
from shopfit.recipe.schema import Recipe, Tune
from shopfit.tasks import TrainingQuestion
from shopfit.tasks.rate import RateAnswer, RateFusion
from shopfit.tasks.tenant import Tenant
from shopfit.tune.training_dataset import Batch, TrainingDataset

EXACT = 1e-9


# levels


@pytest.mark.parametrize(
    ("asked", "scores", "levels"),
    [
        (recipe(), [5.0, 1.0, 4.5], STARS),
        (recipe(), [0.0, 100.0], tuple(map(str, range(0, 101, 10)))),
        (recipe(), [2.5, 1.5], ("1.5", "1.6", "1.7", "1.8", "1.9", "2", "2.1", "2.2", "2.3", "2.4", "2.5")),
        (recipe(bounds=[1, 5]), [2.0, 3.0], STARS),
        (recipe(bounds=[1, 5]), [2.0, 2.0], STARS),
        (recipe(bounds=[1, 5]), [], STARS),
        (recipe(UNEVEN), [2.0, 2.0], tuple(UNEVEN)),
        (recipe(UNEVEN, [0, 10]), [], tuple(UNEVEN)),
        (recipe(), [], ()),
    ],
)
def test_levels_are_those_of_the_recipe_else_from_bound_to_bound_else_of_the_examples(
    asked: Recipe, scores: list[float], levels: tuple[str, ...]
) -> None:
    assert RATE.labels(asked, rated(*scores)) == levels


def test_scores_that_are_all_the_same_need_bounds() -> None:
    with pytest.raises(DataError, match=r"every training example in ratings\.jsonl has the score 2\.5") as caught:
        RATE.labels(recipe(), rated(2.5, 2.5))
    assert "data.bounds=[1,5]" in str(caught.value.next_step)


def test_a_level_is_first_shown_by_the_examples_nearest_to_it() -> None:
    examples = rated(1.0, 2.4, 2.6, 2.6, 9.0)
    found = RATE.shown_by(examples, tuple(UNEVEN))
    assert list(found) == list(UNEVEN)
    assert [[example.score for example in mine] for mine in found.values()] == [[1.0], [1.0], [2.4, 2.6, 2.6], [9.0]]
    assert [len(mine) for mine in RATE.shown_by(examples, ("2.6", "100")).values()] == [2, 1]
    assert RATE.shown_by([], STARS) == {level: [] for level in STARS}


# training


@pytest.mark.parametrize(
    ("score", "shares"),
    [
        (0.0, [1, 0, 0, 0]),
        (2.0, [0, 1 / 3, 2 / 3, 0]),
        (2.5, [0, 0, 1, 0]),
        (6.25, [0, 0, 0.5, 0.5]),
        (10.0, [0, 0, 0, 1]),
    ],
)
def test_training_answers_are_all_levels_with_their_places_and_their_shares_in_the_score(
    score: float, shares: list[float]
) -> None:
    [example] = rated(score)
    answers, places, named = tuple("nprs"), [0.0, 0.1, 0.25, 1.0], tuple(UNEVEN)
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):  # a starter has the levels in the order of its donors
        names = tuple(named[place] for place in order)
        mine = tuple(answers[place] for place in order)
        question = TrainingQuestion(example, Prompter(recipe(UNEVEN), None), names, mine, tuple)
        said, targets = RATE.training_answers(question)
        assert said == mine
        assert [place for place, _, _ in targets] == [places[place] for place in order]
        assert {right for _, right, _ in targets} == {score / 10}
        assert [share for _, _, share in targets] == pytest.approx([shares[place] for place in order])


def batch_of(base: Base, asked: Recipe, rows: list[Example], levels: Sequence[str]) -> Batch:
    dataset = TrainingDataset(rows, Prompter(asked, base.tokenizer), levels, asked.tune)
    return dataset.collate([dataset[number] for number in range(len(rows))])


def expected_errors(batch: Batch, sums: torch.Tensor, levels: Sequence[str], scores: list[float]) -> torch.Tensor:
    """(B,) the levels' mean less the score, in shares of the range, worked out in 64 bits a question."""
    places = torch.tensor([float(level) for level in levels], dtype=torch.float64)
    span = places[-1] - places[0]
    shares = torch.softmax(logits(batch, sums, levels, scores), 1)
    return ((shares * places).sum(1) - torch.tensor(scores, dtype=torch.float64)) / span


def logits(batch: Batch, sums: torch.Tensor, levels: Sequence[str], scores: list[float]) -> torch.Tensor:
    return (sums.double() / batch.questions.lengths.double() / 0.2).view(len(scores), len(levels))


def shares_of(levels: Sequence[str], score: float) -> list[float]:
    """Shares of the levels just below and above a score, whose mean it is."""
    places = [float(level) for level in levels]
    above = next(place for place, level in enumerate(places) if level >= score)
    shares = [0.0] * len(places)
    below = max(above - 1, 0)
    shares[above] = 1.0 if above == below else (score - places[below]) / (places[above] - places[below])
    shares[below] += 1 - shares[above]
    return shares


@pytest.mark.parametrize("labels", [None, UNEVEN])
@pytest.mark.parametrize("huber", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("two_hot", [0.0, 0.3])
def test_the_loss_is_that_of_torch(base: Base, labels: dict[str, str] | None, huber: float, two_hot: float) -> None:
    asked = recipe(labels, None if labels else [0, 10], huber=huber, two_hot=two_hot)
    scores = [0.0, 10.0, 2.5, 7.25, 1.0]
    rows = rated(*scores)
    levels = RATE.labels(asked, rows)
    batch = batch_of(base, asked, rows, levels)
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        sums = (-9 * torch.rand(len(rows) * len(levels), generator=generator)).requires_grad_()
        away, zero = expected_errors(batch, sums, levels, scores), torch.zeros(len(rows), dtype=torch.float64)
        # torch halves what is squared
        errors = 2 * huber_loss(away, zero, delta=huber) if huber else mse_loss(away, zero)
        right = torch.tensor([shares_of(levels, score) for score in scores], dtype=torch.float64)
        entropy = cross_entropy(logits(batch, sums, levels, scores), right)
        wanted = (1 - two_hot) * NATS * errors + two_hot * entropy
        loss = RATE.loss(sums, batch, 0.2, asked.tune)
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
        [mine] = torch.autograd.grad(loss, sums, retain_graph=True)
        [theirs] = torch.autograd.grad(wanted, sums)
        assert torch.allclose(mine, theirs, atol=1e-6)
        plain = RATE.loss(sums, batch, 0.2, None).item()  # what is measured is the squared error, however it trains
        assert plain == pytest.approx(NATS * mse_loss(away, zero).item(), rel=1e-5)


def test_an_examples_weight_is_its_share_in_the_loss(base: Base) -> None:
    asked, scores = recipe(bounds=[1, 5]), [1.0, 5.0, 2.0]
    rows = rated(*scores)
    batch = batch_of(base, asked, rows, STARS)
    sums = -9 * torch.rand(15, generator=torch.Generator().manual_seed(4))
    errors = expected_errors(batch, sums, STARS, scores) ** 2
    weights = torch.tensor([0.5, 2.0, 0.5])
    loss = RATE.loss(sums, replace(batch, weights=weights), 0.2, Tune(two_hot=0))
    assert loss.item() == pytest.approx(NATS * (weights * errors).mean().item(), rel=1e-5)


def test_scores_beyond_reach_still_train(base: Base) -> None:
    """Probabilities of 1 and 0 have no gradient of their own, but no NaN either."""
    asked = recipe(bounds=[1, 5])
    batch = batch_of(base, asked, rated(1.0, 5.0), STARS)
    sums = torch.full((10,), -1e4)
    sums[0] = sums[5] = -1e-6
    loss = RATE.loss(sums.requires_grad_(), batch, 0.2, Tune(huber=0.1))
    loss.backward()
    assert loss.isfinite()
    assert sums.grad is not None
    assert sums.grad.isfinite().all()


# answers


@pytest.mark.parametrize("labels", [None, UNEVEN])
def test_the_answer_is_the_mean_of_the_levels_and_never_beyond_them(labels: dict[str, str] | None) -> None:
    mine = tenant(labels)
    levels = np.array([float(level) for level in mine.labels])
    draw = np.random.default_rng(0)
    for size in (0.01, 1.0, 1e3, 1e30):
        scores = size * draw.normal(size=len(levels))
        answer = RATE.answer(mine, scores, {})
        shares = np.exp((scores - scores.max()) / 0.2)
        shares /= shares.sum()
        assert answer.score == pytest.approx(float(shares @ levels), abs=EXACT)
        assert answer.spread == pytest.approx(float(np.sqrt(shares @ (levels - answer.score) ** 2)), abs=EXACT)
        assert levels[0] <= answer.score <= levels[-1]
        assert RATE.raw(mine.recipe, mine.labels, scores) == answer.raw(mine.labels, ()) == answer.score


@pytest.mark.parametrize(
    "levels",
    [
        ("0.1", "0.2", "0.3"),
        tuple(f"{level / 7}" for level in range(1, 8)),
        ("1000000000000", "1000000000000.5"),
        ("-1000000000000.5", "-1000000000000"),
    ],
)
def test_rounding_never_leads_beyond_the_bounds(levels: tuple[str, ...]) -> None:
    mine = Tenant("acme", recipe(), levels)
    for surest in range(len(levels)):
        for gap in np.linspace(0, 30, 200):
            scores = np.where(np.arange(len(levels)) == surest, gap, 0.0)
            assert float(levels[0]) <= RATE.answer(mine, scores, {}).score <= float(levels[-1])
            assert float(levels[0]) <= RATE.raw(mine.recipe, levels, scores) <= float(levels[-1])


def test_what_is_not_finite_is_no_answer() -> None:
    for scores in ([np.nan] * 5, [np.inf, 0, 0, 0, 0]):
        with np.errstate(invalid="ignore"), pytest.raises(RequestError, match="not finite"):
            RATE.answer(tenant(), np.array(scores), {})
    blend = RateFusion(weights={"mean": 1e308, "user-bias": 1e308}, mean=1e308, users={"ann": -1e308})
    parts = RATE.parts(blend, STARS, {"text": "x", "user": "ann"}, "x", None)
    with np.errstate(all="ignore"), pytest.raises(RequestError, match="not finite"):
        RATE.answer(tenant(blend=blend), np.zeros(0), parts)


def test_an_answer_shows_how_unsure_it_is() -> None:
    assert RateAnswer(4.256, 0.5).lines == ["4.26  ±0.50"]
    assert RateAnswer(4.256).lines == ["4.26"]


def test_doubt_is_the_spread_as_a_share_of_the_range() -> None:
    gradients, why = RATE.uncertainty([RateAnswer(3, 0.5), RateAnswer(3, 2.0), RateAnswer(3, None)], STARS)
    assert gradients.tolist() == [[0.125], [0.5], [1.0]]
    assert why == ["spread 0.500", "spread 2.000", "spread 4.000"]
