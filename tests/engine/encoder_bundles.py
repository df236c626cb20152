"""Small adapters trained on the tiny encoder."""

from collections.abc import Callable
from pathlib import Path

from tests.engine.conftest import ITEMS, recipe_of

from shopfit.adapter.artifacts import CATALOG, write_items
from shopfit.adapter.bundle import Bundle, DataIdentity, seal
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.merchant.examples import Example
from shopfit.recipe.schema import Recipe
from shopfit.tune.bundle_writer import save
from shopfit.tune.trainer import Trainer, Tuned, make_accelerator
from shopfit.tune.training_dataset import TrainingSet

MakeBundle = Callable[..., Bundle]
WORDS = {"order_status": "where is my parcel", "refund": "money back please", "thanks": "lovely, thank you"}
QUERIES = {"tent": "sleep outside", "bag": "keep warm", "stove": "cook", "boots": "walk"}


def rows_of(task: str) -> list[Example]:
    if task == "choose":
        return [Example(label, {"text": text}, label=label) for label, text in WORDS.items()]
    return [Example(item, {"query": query}, relevant=(item,)) for item, query in QUERIES.items()]


def recipe_for(base: Base, task: str, method: str, seed: int) -> Recipe:
    return recipe_of(
        base,
        task,
        adapter={"rank": 4} | ({"dora": True} if method == "dora" else {"method": method}),
        tune={"lr": 0.01, "epochs": 15 if task == "choose" else 80, "batch_size": 4, "seed": seed},
    )


def tuned_on(base: Base, recipe: Recipe, labels: list[str]) -> Tuned:
    catalog = ITEMS if recipe.task == "rank" else None
    return Trainer(base, make_accelerator(recipe)).fit(
        TrainingSet(rows_of(recipe.task), [], labels, Prompter(recipe, base.tokenizer, catalog, scorer=base.scorer)),
        recipe,
    )


def maker_on(encoder: Base, folder: Path) -> MakeBundle:
    """Trains an adapter and seals its bundle."""

    def bundle(merchant: str, task: str = "choose", method: str = "lora", seed: int = 0, extra: str = "") -> Bundle:
        recipe = recipe_for(encoder, task, method, seed)
        labels = [*WORDS, *([extra] if extra else [])] if task == "choose" else []
        tuned = tuned_on(encoder, recipe, labels)
        place = folder / f"{merchant}-{task}-{seed}"
        identity = DataIdentity(digest="d", train=["0"], valid=[], test=[])
        manifest = save(tuned, encoder, recipe, place, merchant=merchant, labels=labels, data=identity, share=False)
        write_items(place / CATALOG, ITEMS if task == "rank" else None)
        return seal(place, manifest)

    return bundle
