"""What stands beside an adapter that rates: mean, biases and ridge regression, as systems and as parts of a blend."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from tests.tasks.ratings import NATS, RATE, STARS, WORDS, by_word, rated, recipe, tenant, text_of

from shopfit.base.prompt import Prompter
from shopfit.errors import BundleError
from shopfit.merchant.examples import Example
from shopfit.tasks import Learned, System
from shopfit.tasks.rate import RateAnswer, RateFusion
from shopfit.tasks.rate_predictions import RatePredictions
from shopfit.tasks.tenant import Tenant
from shopfit.tune.score_fusion import as_served, fit_fusion
from shopfit.tune.training_dataset import TrainingSet

SURE_OF_TWO = np.array([0.0, 90.0, 0.0, 0.0, 0.0])  # the adapter says 2


def answered(weights: dict[str, float], *, scores: NDArray[Any] = SURE_OF_TWO, **fields: Any) -> RateAnswer:
    blend = RateFusion(
        weights=weights,
        mean=3.5,
        users={"ann": 0.5, "7": -0.25},
        items={"tent": -1.0, "bag": 9.0},
        coefficients=[1.0, 0.0, 0.0, 0.0, 2.0],
        intercept=1.5,
    )
    embed = by_word if blend.encoded else None
    parts = RATE.parts(blend, STARS, fields, str(fields.get("text", "")), embed)
    answer: RateAnswer = RATE.answer(tenant(blend=blend), scores, parts)
    return answer


@pytest.mark.parametrize(
    ("weights", "fields", "score"),
    [
        ({"adapter": 1}, {}, 2.0),
        ({"adapter": 0.5}, {}, 2.5),  # halfway to the middle
        ({"mean": 1}, {}, 3.5),
        ({"adapter": 0.5, "mean": 0.5}, {}, 2.75),
        ({"mean": 1, "user-bias": 1}, {"user": "ann"}, 4.0),
        ({"mean": 1, "user-bias": 2}, {"user": 7}, 3.0),
        ({"mean": 1, "item-bias": 1}, {"item": "tent"}, 2.5),
        ({"mean": 1, "user-bias": 1, "item-bias": 1}, {"user": "ann", "item": "tent"}, 3.0),
        ({"mean": 1, "user-bias": 1, "item-bias": 1}, {"user": "bob", "item": "stove"}, 3.5),
        ({"mean": 1, "user-bias": 1, "item-bias": 1}, {}, 3.5),
        ({"mean": 1, "item-bias": 1}, {"item": "bag"}, 5.0),  # never above the bounds
        ({"mean": 1, "item-bias": 9}, {"item": "tent"}, 1.0),  # nor below
    ],
)
def test_a_blend_weighs_differences_from_the_middle_and_stays_in_the_bounds(
    weights: dict[str, float], fields: dict[str, Any], score: float
) -> None:
    found = answered(weights, **fields)
    assert found.score == pytest.approx(score)
    assert found.spread == pytest.approx(0.0, abs=1e-6)


def test_an_adapter_that_is_left_out_has_no_spread() -> None:
    found = answered({"mean": 1}, scores=np.zeros(0))
    assert (found.score, found.spread) == (3.5, None)


def test_the_ridge_is_a_part_of_the_blend() -> None:
    vector = by_word(["quick"])[0].astype(np.float64)
    assert answered({"minilm": 1}, text="quick").score == pytest.approx(1.5 + vector[0] + 2 * vector[4])


def test_a_blend_needs_what_its_parts_are_made_from() -> None:
    assert RateFusion(weights={"mean": 1}, mean=3).problems(5) == []
    [problem] = RateFusion(weights={"minilm": 1}, mean=3).problems(5)
    assert (problem.where, problem.allowed) == ("coefficients", "numbers, for minilm")
    [problem] = RateFusion(weights={"bm25": 1}, mean=3).problems(5)
    assert "'bm25' is no part of a blend" in problem.what


@pytest.mark.parametrize("length", [1, 4, 6])
def test_coefficients_of_another_encoder_are_told_as_the_bundles_own_mistake(length: int) -> None:
    blend = RateFusion(weights={"minilm": 1}, mean=3, coefficients=[1.0] * length)
    with pytest.raises(BundleError, match=f"coefficients of {length} numbers, and .* vectors of 5"):
        RATE.parts(blend, STARS, {"text": "quick"}, "quick", by_word)


def test_biases_are_drawn_towards_nothing_the_more_the_fewer_ratings_there_are() -> None:
    rows = rated(5, 5, 1, 3, item=["a", "a", "b", "c"], user=["x", "y", "y", "z"])
    facts = RATE.facts(rows, STARS, text_of, None)
    items = {"a": 2 * 1.5 / 7, "b": -2.5 / 6, "c": -0.5 / 6}
    assert facts["mean"] == 3.5
    assert facts["items"] == pytest.approx(items, abs=1e-6)
    users = {"x": (1.5 - items["a"]) / 6, "y": (1.5 - items["a"] - 2.5 - items["b"]) / 7, "z": (-0.5 - items["c"]) / 6}
    assert facts["users"] == pytest.approx(users, abs=1e-6)
    many = RATE.facts(rated(*[5] * 50, *[1] * 50, item=["a"] * 50 + ["b"] * 50), STARS, text_of, None)
    assert many["items"] == pytest.approx({"a": 2 * 50 / 55, "b": -2 * 50 / 55})
    assert many["users"] == {}
    assert RateFusion(weights={"mean": 1}, **json.loads(json.dumps(facts)))


def test_a_name_is_one_however_a_table_writes_it_and_nothing_is_no_name() -> None:
    rows = rated(5, 5, 5, 5, 1, 1, 1, user=["7", 7, 7.0, " 7 ", "", None, True])
    facts = RATE.facts(rows, STARS, text_of, None)
    assert list(facts["users"]) == ["7"]
    blend = RateFusion(weights={"user-bias": 1}, **facts)
    for user, known in (("7", True), (7, True), (7.0, True), ("", False), (True, False), (None, False), ([7], False)):
        [part] = RATE.parts(blend, STARS, {"user": user}, "", None)["user-bias"]
        assert bool(part) == known, user


@pytest.mark.parametrize("rows", [1, 2, 40])
def test_the_ridge_is_that_of_scikit_learn(rows: int) -> None:
    draw = np.random.default_rng(rows)
    train, test = rated(*draw.uniform(0, 5, rows)), rated(*draw.uniform(0, 5, 6))
    learned = Learned(train, text_of, text_of, by_word, ("0", "5"))
    system: System = RATE.baseline("minilm-ridge", learned)
    if rows == 1:
        wanted = np.full(6, train[0].score)
    else:
        model = RidgeCV(alphas=[0.01, 0.1, 1.0, 10.0, 100.0]).fit(learned.vectors(train), [row.score for row in train])
        wanted = model.predict(learned.vectors(test)).clip(0, 5)
    found: Any = system.predict(test)
    assert found.scores.tolist() == pytest.approx(wanted.tolist())
    assert system.predict([]).rows == 0
    facts = RATE.facts(train, ("0", "5"), text_of, by_word)
    blend = RateFusion(weights={"minilm": 1}, **facts)
    parts = RATE.parts(blend, ("0", "5"), test[0].fields, text_of(test[0]), by_word)
    said = RATE.answer(Tenant("acme", recipe(), ("0", "5"), blend=blend), np.zeros(0), parts)
    assert said.score == pytest.approx(found.scores[0], abs=1e-4)


def test_priors_are_the_mean_and_where_rows_name_someone_the_biases() -> None:
    plain = rated(5, 5, 1, 3)
    [mean] = RATE.priors(recipe(bounds=[1, 5]), plain)
    found: Any = mean.predict(plain)
    assert (mean.name, mean.kind, found.scores.tolist()) == ("mean", "prior", [3.5] * 4)
    named = rated(5, 5, 1, 3, item=["a", "a", "b", "c"], user=["x", "y", "y", "z"])
    _, biases = RATE.priors(recipe(bounds=[1, 5]), named, labels=STARS)
    facts = RATE.facts(named, STARS, text_of, None)
    told: Any = biases.predict([*named, Example("new", {"user": "nobody"}, score=1)])
    assert biases.name == "biases"
    assert told.scores[0] == pytest.approx(3.5 + facts["users"]["x"] + facts["items"]["a"])
    assert told.scores[-1] == 3.5
    assert (told.low, told.high) == (1, 5)


def test_biases_that_add_up_beyond_the_bounds_stay_in_them() -> None:
    liked, disliked, by_x = [5] * 40, [1] * 40, [5] * 20
    rows = rated(*liked, *disliked, *by_x, user=[None] * 80 + ["x"] * 20, item=["a"] * 40 + ["b"] * 60)
    _, biases = RATE.priors(recipe(bounds=[1, 5]), rows)
    told: Any = biases.predict([Example("1", {"user": "x", "item": "a"}, score=5)])
    assert told.scores.tolist() == [5.0]


def held(rows: int, *, wise: float, seed: int = 0) -> tuple[TrainingSet, RatePredictions]:
    """Ratings that users and texts explain, and an adapter's answers to half of them."""
    draw = np.random.default_rng(seed)
    kind, said = {f"u{number}": draw.choice([-1.0, 1.0]) for number in range(4)}, draw.integers(0, 5, 2 * rows)
    users = [f"u{number % 4}" for number in range(2 * rows)]
    scores = [float(np.clip(1 + word + kind[user], 1, 5)) for word, user in zip(said, users, strict=True)]
    examples = [
        Example(str(row), {"text": f"{WORDS[word]} {row}", "user": user}, score=score)
        for row, (word, user, score) in enumerate(zip(said, users, scores, strict=True))
    ]
    gold = np.array(scores[rows:])
    answers = (wise * gold + (1 - wise) * draw.uniform(1, 5, rows)).clip(1, 5)
    prompter = Prompter(recipe(bounds=[1, 5]), None)
    return TrainingSet(examples[:rows], examples[rows:], STARS, prompter), RatePredictions(answers, gold, 1.0, 5.0)


def test_rows_of_the_blend_hold_the_parts_and_what_is_right_as_shares_of_the_range() -> None:
    training_set, held_out = held(20, wise=0.5)
    rows = RATE.fusion_rows(training_set.prompter.recipe, training_set, held_out, by_word)
    assert len(rows) == 20
    facts = RATE.facts(training_set.train, STARS, text_of, by_word)
    for place, (parts, right) in enumerate(rows):
        example = training_set.valid[place]
        assert set(parts) == RateFusion.parts
        assert parts["adapter"].tolist() == pytest.approx([(held_out.scores[place] - 1) / 4 - 0.5])
        assert parts["mean"].tolist() == pytest.approx([(facts["mean"] - 1) / 4 - 0.5])
        assert parts["user-bias"].tolist() == pytest.approx([facts["users"][example.fields["user"]] / 4])
        assert right.tolist() == pytest.approx([(held_out.gold[place] - 1) / 4 - 0.5])
        total = parts["adapter"] + parts["user-bias"]
        losses, gradients = RATE.fusion_loss(total[None], right[None])
        assert losses.tolist() == pytest.approx([NATS * float((total - right)[0] ** 2)])
        assert gradients.tolist() == [pytest.approx([2 * NATS * float((total - right)[0])])]
        assert RATE.guessing((parts, right)) == RATE.fusion_loss(parts["mean"][None], right[None])[0][0]
    fused = RATE.fused(held_out, [np.array([-9.0])] * 10 + [right for _, right in rows[10:]])
    assert fused.scores.tolist() == pytest.approx([1.0] * 10 + held_out.gold[10:].tolist())


def test_what_knows_something_is_weighed_and_what_knows_all_answers_alone() -> None:
    training_set, held_out = held(60, wise=0.2)
    asked = training_set.prompter.recipe
    blend, losses = fit_fusion(asked, training_set, [(training_set, held_out)], by_word)
    assert isinstance(blend, RateFusion)
    assert losses["blend"] < min(losses["adapter"], losses["minilm"])
    assert {"minilm", "user-bias"} <= set(blend.weights)
    served: Any = as_served(asked, [(training_set, held_out)], blend, by_word)[0]
    assert np.mean((served.scores - served.gold) ** 2) < np.mean((held_out.scores - held_out.gold) ** 2)
    assert 1 <= served.scores.min() <= served.scores.max() <= 5
    best, _ = fit_fusion(asked, *(lambda one: (one[0], [one]))(held(60, wise=1.0)), by_word)
    assert best is None
