"""Two merchants with small adapters on two tiny bases, in a registry."""

from collections.abc import Sequence
from pathlib import Path

from tests.engine.conftest import EXAMPLES, ITEMS, LABELS, recipe_of

from shopfit.adapter.artifacts import CATALOG, write_items
from shopfit.adapter.bundle import Bundle, DataIdentity, seal
from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter
from shopfit.registry import Registry
from shopfit.tune.bundle_writer import save
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import TrainingSet

RECIPES = {"sentiment": "choose", "products": "rank", "stars": "rate", "words": "generate"}
"""Task of each recipe; all but words are on the encoder."""


def bundle_of(folder: Path, base: Base, merchant: str, recipe_name: str, *, seed: int = 0) -> Bundle:
    """An adapter that learned a few examples; another seed, another adapter.

    Args:
        folder: of the bundle.
        base: that it is trained on.
        merchant: whose it is.
        recipe_name: one of `RECIPES`.
        seed: of the training.
    """
    task = RECIPES[recipe_name]
    recipe = recipe_of(
        base,
        task,
        recipe_name,
        adapter={"rank": 4},
        tune={"lr": 0.02, "epochs": 10, "batch_size": 2, "seed": seed, "temperature": 1.0},
    )
    catalog, labels = (ITEMS if task == "rank" else None), LABELS.get(task, [])
    prompter = Prompter(recipe, base.tokenizer, catalog, scorer=base.scorer)
    tuned = Trainer(base, make_accelerator(recipe)).fit(TrainingSet(EXAMPLES[task], [], labels, prompter), recipe)
    identity = DataIdentity(digest="d", train=["0", "1"], valid=[], test=[])
    manifest = save(tuned, base, recipe, folder, merchant=merchant, labels=labels, data=identity, share=False)
    write_items(folder / CATALOG, catalog)
    return seal(folder, manifest)


def fill(registry: Registry, home: Path, encoder: Path, decoder: Path, merchants: Sequence[str]) -> None:
    """Publish each merchant's adapters, and put them in production.

    Args:
        registry: where they go.
        home: where bundles are made.
        encoder: folder of the base of all but words.
        decoder: folder of the base of words.
        merchants: their names; each one's adapters are its own.
    """
    bases = {folder: load_base(str(folder), home) for folder in (encoder, decoder)}
    for seed, merchant in enumerate(merchants):
        for recipe, task in RECIPES.items():
            base = bases[decoder if task == "generate" else encoder]
            bundle = bundle_of(home / "made" / f"{merchant}-{recipe}", base, merchant, recipe, seed=seed)
            registry.publish(bundle, promote=True, actor="tests")
