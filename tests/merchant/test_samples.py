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
LEAST = {"catalog": 60, "reviews": 150, "ratings": 150, "searches": 120, "profiles": 60}


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
        assert count >= least, f"{name} has {count} rows of {stem}"


@pytest.mark.parametrize("recipe_name", RECIPES)
@pytest.mark.parametrize("name", MERCHANTS)
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
