"""Who takes the test beside the adapter."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.engine.conftest import recipe_of

from shopfit.base.load import Base
from shopfit.engine import ChooseRequest, Engine, Tenant
from shopfit.evaluation.assess import Answers, assess
from shopfit.evaluation.contenders import compare, contextual
from shopfit.merchant.examples import Example
from shopfit.tasks import ChoosePredictions

NOTHING = ("N/A", "none", "…")


@pytest.mark.parametrize("kind", ["base", "encoder"])
def test_a_calibrated_base_prefers_no_label_where_nothing_is_said(kind: str, request: pytest.FixtureRequest) -> None:
    base: Base = request.getfixturevalue(kind)
    tenant = Tenant("the base", recipe_of(base, "choose"), ("negative", "positive", "order status"))
    with Engine(base, slots=1) as engine:
        settled = contextual(engine, tenant)
        assert settled is not None

        def preference(one: Tenant) -> list[float]:
            answers = engine.choose([ChooseRequest(one, {"text": text}) for text in NOTHING])
            logs = np.log([[answer.probabilities[label] for label in one.labels] for answer in answers])
            return list(logs.mean(0) - logs.mean())

        assert preference(settled) == pytest.approx([0, 0, 0], abs=1e-4)
        assert max(map(abs, preference(tenant))) > 0.01


def test_a_prompt_of_items_alone_has_nothing_to_leave_unsaid(base: Base) -> None:
    recipe = recipe_of(
        base,
        "choose",
        data={"file": "x.jsonl", "item_fields": ["liked", "item"]},
        prompt={"template": "Liked: {liked}\nNow: {item}\nAnswer:"},
    )
    with Engine(base, slots=1) as engine:
        assert contextual(engine, Tenant("the base", recipe, ("no", "yes"))) is None


@pytest.mark.parametrize("kind", ["base", "encoder"])
def test_what_the_calibrated_base_answers_follows_from_what_the_base_answers(
    kind: str, request: pytest.FixtureRequest
) -> None:
    base: Base = request.getfixturevalue(kind)
    recipe, labels = recipe_of(base, "choose"), ("negative", "positive", "order status")
    rows = [row(number, labels) for number in range(6)]
    tenant = Tenant("the base", recipe, labels)
    with Engine(base, slots=1) as engine:
        prompter = tenant.prompter(base.tokenizer, base.scorer)
        found = {one.name: one for one in compare(engine, tenant, rows, rows, prompter, no_vectors)}
        settled = contextual(engine, tenant)
        assert settled is not None
        asked = assess(engine, settled, rows)
    said = found["base-calibrated"].predictions
    assert isinstance(asked, ChoosePredictions)
    assert isinstance(said, ChoosePredictions)
    assert np.allclose(said.probabilities, asked.probabilities, atol=1e-6)
    assert list(said.gold) == list(asked.gold)


def row(number: int, labels: Sequence[str]) -> Example:
    return Example(f"{number}", {"text": f"the box {number} was wet"}, label=labels[number % len(labels)])


def no_vectors(texts: Sequence[str]) -> np.ndarray:
    raise AssertionError(f"nobody asks for {texts}")


def test_a_system_is_asked_once_however_many_versions_are_compared_with_it(base: Base) -> None:
    recipe, labels = recipe_of(base, "choose"), ("negative", "positive", "order status")
    rows = [row(number, labels) for number in range(4)]
    tenant, known = Tenant("the base", recipe, labels), Answers()
    trained = {"epochs": 7, "lr": 0.5, "steps": 0}
    other = recipe.model_copy(update={"tune": recipe.tune.model_copy(update=trained), "start": "scratch"})
    colder = recipe.model_copy(update={"tune": recipe.tune.model_copy(update={"temperature": 0.05})})
    worded = recipe.model_copy(update={"prompt": recipe.prompt.model_copy(update={"template": "Say: {text}\nIt is:"})})
    with Engine(base, slots=1) as engine:
        first = known.of(engine, tenant, rows)
        assert known.of(engine, replace(tenant, recipe=other), rows) is first
        for differs in (
            replace(tenant, recipe=colder),
            replace(tenant, recipe=worded),
            replace(tenant, offsets=(1.0, 0.0, 0.0)),
            replace(tenant, labels=labels[::-1]),
        ):
            again = known.of(engine, differs, rows)
            assert isinstance(again, ChoosePredictions)
            assert isinstance(first, ChoosePredictions)
            assert not np.allclose(again.probabilities, first.probabilities)
        assert known.of(engine, tenant, rows[:3]).rows == 3
