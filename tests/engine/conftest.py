from collections.abc import Callable
from pathlib import Path

import pytest

from shopfit.adapter.bundle import LORA, NATIVE, BaseIdentity, Bundle, DataIdentity, Manifest, seal
from shopfit.adapter.files import write_plain
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.engine.tenant import CATALOG, write_items
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example
from shopfit.recipe.loading import dump_recipe
from shopfit.recipe.schema import Recipe
from shopfit.tune.loop import tune

ITEMS = Catalog(
    {
        name: Item(name, name.title(), {"id": name, "title": name.title(), "in_stock": name != "lamp"})
        for name in ("tent", "bag", "stove", "boots", "lamp")
    }
)
EXAMPLES = {
    "choose": [
        Example("0", {"text": "lovely crema"}, label="positive"),
        Example("1", {"text": "arrived cracked"}, label="negative"),
    ],
    "rank": [
        Example("0", {"query": "keep warm"}, relevant=("bag",)),
        Example("1", {"query": "cook"}, relevant=("stove",)),
    ],
    "generate": [
        Example("0", {"input": "see at night"}, output="lamp"),
        Example("1", {"input": "keep warm"}, output="bag"),
    ],
}
TEMPLATES = {
    "choose": "Review: {text}\nSentiment:",
    "rank": "Viewed: {history}\nSearch: {query}\nProduct:",
    "generate": "Say: {input}\nWord:",
}
METRICS = {"choose": "accuracy", "rank": "mrr", "generate": "exact_match"}


@pytest.fixture
def make_bundle(base: Base, tmp_path: Path) -> Callable[..., Bundle]:
    """Train a small adapter and seal its bundle."""

    def make(merchant: str, *, task: str = "choose", method: str = "lora", seed: int = 0) -> Bundle:
        recipe = Recipe.model_validate(
            {
                "name": "r",
                "task": task,
                "base": base.name,
                "data": {"file": "x.jsonl"} | ({"catalog": "c.jsonl"} if task == "rank" else {}),
                "prompt": {"template": TEMPLATES[task]},
                "adapter": {"method": method, "rank": 4},
                "tune": {"lr": 0.02, "epochs": 20, "batch_size": 2, "seed": seed},
                "evaluate": {"metric": METRICS[task]},
                "serve": {"max_new_tokens": 8},
            }
        )
        labels = ["negative", "positive"] if task == "choose" else []
        catalog = ITEMS if task == "rank" else None
        tuned = tune(base, recipe, EXAMPLES[task], [], labels, Prompter(recipe, base.tokenizer, catalog))
        folder = tmp_path / f"{merchant}-{task}-{method}-{seed}"
        tuned.adapter.save(folder / NATIVE)
        tuned.adapter.detach()
        rank = 16 if method == "prefix" else write_plain(folder / NATIVE, folder / LORA)
        write_items(folder / CATALOG, catalog)
        manifest = Manifest(
            schema=1,
            merchant=merchant,
            recipe="r",
            recipe_snapshot=dump_recipe(recipe),
            labels=labels,
            base=BaseIdentity(name=base.name, fingerprint=base.fingerprint),
            data=DataIdentity(digest="d", train=["0", "1"], valid=[], test=[]),
            seed=seed,
            method=method,
            rank=rank,
            trainable_parameters=1,
            steps=tuned.steps,
            libraries={},
        )
        return seal(folder, manifest)

    return make
