"""How a request is understood: the very tokens that the model reads, as text, and what the rules leave out."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from tests.engine.encoder_bundles import maker_on
from tests.engine.test_recommend import catalog

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.engine import Engine, ExplainRequest, Explanation, Tenant
from shopfit.errors import RequestError
from shopfit.recipe.item_rules import Rules

QuickBundle = Callable[..., Bundle]


def explained(engine: Engine, request: ExplainRequest) -> Explanation:
    return cast("Explanation", engine.answer([request])[0])


@pytest.mark.parametrize("task", ["choose", "rate", "generate", "rank"])
def test_the_prompt_is_what_the_model_reads(base: Base, quick_bundle: QuickBundle, task: str) -> None:
    tenant = Tenant.of(quick_bundle("acme", task=task))
    name = {"rank": "query", "generate": "input"}.get(task, "text")
    for said in ("lovely <|end|> crema", "lovely crema " * 400):
        prompter = tenant.prompter(base.tokenizer, base.scorer)
        with Engine(base) as engine:
            answer = explained(engine, ExplainRequest(tenant, {name: said}))
        tokens = prompter.encode({name: said})
        assert answer.prompts == (base.tokenizer.decode(tokens),)
        assert (answer.tokens, answer.read, answer.version) == (len(tokens), 0, tenant.name)
        assert answer.fusion == {"adapter": 1.0}
        assert said[:20] in answer.prompts[0]
    assert len(answer.prompts[0]) < len(said)


def test_of_an_encoder_a_history_alone_is_read_item_by_item(encoder: Base, tmp_path: Path) -> None:
    tenant = Tenant.of(maker_on(encoder, tmp_path)("acme", "rank"))
    with Engine(encoder) as engine:
        answer = explained(engine, ExplainRequest(tenant, {"history": ["tent", "bag"]}))
    assert [prompt.strip() for prompt in answer.prompts] == ["Tent", "Bag"]


def test_rules_say_what_they_leave_out(base: Base, quick_bundle: QuickBundle) -> None:
    known = Tenant.of(quick_bundle("trailhead", task="rank"))
    tenant = Tenant(known.name, known.recipe, catalog=catalog(), bundle=known.bundle)
    rules = Rules(max_price=150, age=17, blocked_brands=["fjell"])
    fields = {"query": "tent", "history": ["bag"]}
    with Engine(base) as engine:
        answer = explained(engine, ExplainRequest(tenant, fields, rules))
        shown = {item.id for item in engine.recommend(tenant, query="tent", history=["bag"], k=10, rules=rules).items}
        with pytest.raises(RequestError, match="rules is"):
            explained(engine, ExplainRequest(tenant, fields, "cheap"))  # type: ignore[arg-type]
    left_out = {key: [item for item, _ in one.items] for key, one in answer.left_out.items()}
    assert left_out == {
        "max_price": ["tent", "gift"],
        "blocked_brands": ["tarp", "stove"],
        "age": ["knife"],
        "in_stock": ["lamp"],
        "history": ["bag"],
    }
    assert shown.isdisjoint(item for items in left_out.values() for item in items)
