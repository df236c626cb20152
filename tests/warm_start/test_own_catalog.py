"""A merchant's catalog, read before its examples: kept where they are easier with it, and nowhere else."""

import random
from collections.abc import Mapping

import pytest
from tests.engine.conftest import recipe_of

from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example
from shopfit.merchant.pretext import pairs_of_catalog
from shopfit.recipe.schema import Recipe
from shopfit.tune.folds import FOLDS
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import TrainingSet
from shopfit.warm_start.own_catalog import CATALOG, LEAST, catalog_start
from shopfit.warm_start.selection import candidates, choose_start, kept_and_trained

COLOURS = ["red", "blue", "green", "black", "white", "brown", "grey", "pink", "gold", "teal"]
THINGS = ["tent", "stove", "boots", "lamp", "rope", "knife", "mat", "pan", "mug", "bag"]
MADE_OF = ["steel", "wool", "wood"]
PLAIN = {word: word for word in (*COLOURS, *THINGS, *MADE_OF)}


def catalog_of(said: Mapping[str, str]) -> Catalog:
    """Things of every colour and stuff, each described by what is said for the words of its title."""
    items = {}
    for colour in COLOURS:
        for thing in THINGS:
            for stuff in MADE_OF:
                title = f"{colour} {thing} {stuff}"
                words = " ".join(said[word] for word in title.split())
                items[title] = Item(title, title, {"id": title, "title": title, "description": words})
    return Catalog(items)


def other_words() -> dict[str, str]:
    """For every word another one."""
    words = list(PLAIN)
    return dict(zip(words, words[1:] + words[:1], strict=True))


def shop(base: Base, said: Mapping[str, str]) -> tuple[Recipe, TrainingSet, list[Example]]:
    """A merchant whose items are described in some words, and asked for by those of their titles; and its pairs."""
    tune = {"lr": 0.002, "epochs": 2, "batch_size": 8, "negatives": 2}
    recipe = recipe_of(base, "rank", tune=tune, data={"file": "x", "catalog": "c"})
    catalog = catalog_of(said)
    prompter = Prompter(recipe, base.tokenizer, catalog, scorer=base.scorer)
    rows = [
        Example(str(number), {"query": " ".join(reversed(title.split()))}, relevant=(title,))
        for number, title in enumerate(random.Random(1).sample(list(catalog), 24))
    ]
    asked = [Example("test", {"query": rows[0].relevant[0]}, relevant=rows[0].relevant)]  # as its description has it
    pairs = pairs_of_catalog(recipe, catalog, asked, lambda row: prompter.text(row.fields))
    return recipe, TrainingSet(rows, [], (), prompter), pairs


def read(base: Base, recipe: Recipe, training_set: TrainingSet, pairs: list[Example]) -> tuple[str, list[str]]:
    said: list[str] = []
    start = catalog_start(
        Trainer(base, make_accelerator(recipe)),
        recipe,
        pairs,
        training_set,
        reporter=lambda what, detail: said.append(f"{what} {detail}"),
    )
    return start.name, said


def test_a_catalog_that_speaks_as_shoppers_do_is_where_an_adapter_starts(encoder: Base) -> None:
    recipe, training_set, pairs = shop(encoder, PLAIN)
    assert LEAST < len(pairs) == len(COLOURS) * len(THINGS) * len(MADE_OF) - 1  # none asks as the test does
    name, said = read(encoder, recipe, training_set, pairs)
    assert name == CATALOG
    assert f"one pass over {len(pairs)} items" in said[0]


def test_a_catalog_that_speaks_otherwise_is_not(encoder: Base) -> None:
    recipe, training_set, pairs = shop(encoder, other_words())
    assert read(encoder, recipe, training_set, pairs)[0] == "scratch"


def test_a_few_items_are_not_worth_reading(encoder: Base) -> None:
    recipe, training_set, pairs = shop(encoder, PLAIN)
    assert read(encoder, recipe, training_set, pairs[: LEAST - 1]) == ("scratch", [])


@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_examples_decide_whether_it_is_trained_further(encoder: Base, method: str) -> None:
    recipe, training_set, pairs = shop(encoder, PLAIN)
    recipe = recipe.model_copy(update={"adapter": recipe.adapter.model_copy(update={"method": method})})
    accelerator = make_accelerator(recipe)
    start = catalog_start(Trainer(encoder, accelerator), recipe, pairs, training_set, reporter=lambda *_: None)
    among = candidates(encoder, recipe, kept_and_trained(start), [], [])
    assert [one.name for one in among] == [f"{CATALOG} as it is", CATALOG]
    choice = choose_start(Trainer(encoder, make_accelerator(recipe)), recipe, training_set, among)
    assert choice.losses[choice.start.title] <= min(choice.losses.values()) * 1.02
    assert len(choice.held_out) == FOLDS  # a blend is learned from what the chosen one answered
