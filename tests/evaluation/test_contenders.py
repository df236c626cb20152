"""Who takes the test beside the adapter."""

import numpy as np
import pytest
from tests.engine.conftest import recipe_of

from shopfit.base.load import Base
from shopfit.engine import ChooseRequest, Engine, Tenant
from shopfit.evaluation.contenders import contextual

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
