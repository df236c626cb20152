"""Every sample merchant has enough rows, and every shipped recipe takes them."""

import pytest

from shopfit.merchant.examples import Example, load_examples
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.reading import read_rows
from shopfit.merchant.splits import split
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.shipped import sample_folder, sample_merchants, shipped_recipes
from shopfit.tasks import task_of

MERCHANTS = sample_merchants()
RECIPES = [entry.name for entry in shipped_recipes()]
SHOPS = ["crema", "foliant", "qingcha", "trailhead"]  # that have files for every recipe of a shop
SCHOOLS = {"reading-level"}  # recipes of no shop
LEAST = {"catalog": 60, "reviews": 150, "ratings": 150, "searches": 110, "profiles": 60, "reading_levels": 150}


def taken() -> list[tuple[str, str]]:
    """Samples and the recipes that they have files for."""
    found = []
    for name in MERCHANTS:
        folder = sample_folder(name)
        assert folder is not None
        found += [(name, recipe) for recipe in RECIPES if (folder / load_recipe(recipe).data.file).is_file()]
    return found


def open_sample(name: str) -> Merchant:
    folder = sample_folder(name)
    assert folder is not None
    return Merchant.open(folder)


def test_there_are_samples_and_recipes() -> None:
    assert MERCHANTS
    assert RECIPES


@pytest.mark.parametrize("name", MERCHANTS)
def test_enough_rows(name: str) -> None:
    merchant = open_sample(name)
    assert merchant.description
    for stem, least in LEAST.items():
        files = [merchant.folder / f"{stem}.jsonl", merchant.folder / f"{stem}.test.jsonl"]
        count = sum(len(read_rows(file)) for file in files if file.is_file())
        assert count >= least or not count, f"{name} has {count} rows of {stem}"


def test_every_shop_has_files_for_every_recipe_of_a_shop() -> None:
    assert {(shop, recipe) for shop in SHOPS for recipe in set(RECIPES) - SCHOOLS} <= set(taken())
    assert {name for name, _ in taken()} == set(MERCHANTS)
    assert {recipe for _, recipe in taken()} == set(RECIPES)


@pytest.mark.parametrize(("name", "recipe_name"), taken())
def test_every_recipe_takes_every_sample(name: str, recipe_name: str, caplog: pytest.LogCaptureFixture) -> None:
    merchant, recipe = open_sample(name), load_recipe(recipe_name)
    data = recipe.data
    catalog = merchant.catalog(data.catalog) if data.catalog else None
    history = merchant.catalog(data.history_catalog) if data.history_catalog else catalog

    def text(example: Example) -> str:
        shown = []
        for field in recipe.fields:
            value = example.fields.get(field, [])
            parts = value if isinstance(value, list) else [value]
            titles = history if field in data.item_fields else None
            shown += [titles[part].title if titles is not None else str(part) for part in parts]
        return " ".join(shown)

    labels = task_of(recipe.task).labels
    splits = split(merchant, recipe, text=text, labels=labels, catalog=catalog, history=history)
    assert splits.test_kind == "fixed"
    where = {
        each.id: each.where for each in load_examples(merchant, recipe, data.file, catalog=catalog, history=history)
    }
    places = [where[mine] for mine, _, _ in splits.leaks.removed]
    assert splits.leaks.total == 0, f"in the test set too, or nearly: {places}"
    assert splits.train
    assert len(splits.test) >= 20
    assert caplog.text == "", "rows were left out"
