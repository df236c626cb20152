import pytest

from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.errors import RequestError
from shopfit.merchant.catalog import Catalog, Item
from shopfit.recipe.schema import Recipe

ITEMS = Catalog(
    {
        key: Item(key, title, {"id": key, "title": title, "brand": "Lumo"})
        for key, title in {"t1": "Ridge tent", "b1": "Down bag"}.items()
    }
)


def recipe(**changes: object) -> Recipe:
    document = {
        "name": "r",
        "task": "rank",
        "data": {"file": "x.jsonl", "catalog": "catalog.jsonl"},
        "prompt": {"template": "Viewed: {history}\nSearch: {query}\nProduct:"},
        "evaluate": {"metric": "ndcg@k"},
    }
    return Recipe.model_validate(document | changes)


def test_histories_show_titles_and_lines_without_fields_are_left_out(base: Base) -> None:
    prompter = Prompter(recipe(), base.tokenizer, ITEMS)
    assert (
        prompter.render({"query": "warm", "history": ["t1", "b1"]})
        == "Viewed: Ridge tent; Down bag\nSearch: warm\nProduct:"
    )
    assert prompter.render({"query": "warm"}) == "Search: warm\nProduct:"
    assert prompter.render({"query": "warm", "history": []}) == "Search: warm\nProduct:"


def test_only_the_latest_items_of_a_history_are_shown(base: Base) -> None:
    prompter = Prompter(recipe(data={"file": "x", "catalog": "c", "history_length": 1}), base.tokenizer, ITEMS)
    assert "Viewed: Down bag\n" in prompter.render({"history": ["t1", "b1"]})


def test_any_field_of_the_catalog_may_be_the_answer(base: Base) -> None:
    changed = recipe(prompt={"template": "{query}", "answer": " {title} by {brand}"})
    assert base.tokenizer.decode(Prompter(changed, base.tokenizer, ITEMS).item("t1")) == " Ridge tent by Lumo"


def test_braces_in_a_field_are_text(base: Base) -> None:
    assert "Search: {brand} {0} }{" in Prompter(recipe(), base.tokenizer, ITEMS).render({"query": "{brand} {0} }{"})


def test_without_any_field_the_message_names_them(base: Base) -> None:
    with pytest.raises(RequestError, match="history, query"):
        Prompter(recipe(), base.tokenizer, ITEMS).render({"text": "?"})


def test_unknown_item_in_a_history(base: Base) -> None:
    with pytest.raises(RequestError, match="'nope'"):
        Prompter(recipe(), base.tokenizer, ITEMS).render({"history": ["nope"]})


@pytest.mark.parametrize("text", ["word " * 500, "x" * 3000, "a bc " * 40 + "y" * 400])
def test_a_long_field_is_shortened_and_the_prompt_keeps_its_end(base: Base, text: str) -> None:
    short = recipe(prompt={"template": "Search: {query}\nProduct:", "max_tokens": 64})
    tokens = Prompter(short, base.tokenizer, ITEMS).encode({"query": text})
    assert len(tokens) <= 64
    if text.startswith("word"):
        assert base.tokenizer.decode(tokens).endswith("…\nProduct:")


def test_outputs_end_with_the_token_that_stops_generation(base: Base) -> None:
    generate = recipe(
        task="generate", data={"file": "x"}, evaluate={"metric": "field_f1"}, prompt={"template": "{input}"}
    )
    tokens = Prompter(generate, base.tokenizer).output({"level": "expert"})
    assert tokens[-1] == base.tokenizer.eos_token_id
    assert base.tokenizer.decode(tokens[:-1]) == ' {"level": "expert"}'
