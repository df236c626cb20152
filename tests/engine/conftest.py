import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shopfit.adapter.artifacts import CATALOG, write_items
from shopfit.adapter.bundle import LORA, NATIVE, BaseIdentity, Bundle, DataIdentity, Manifest, seal
from shopfit.adapter.weight_files import write_served
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example
from shopfit.recipe.loading import dump_recipe
from shopfit.recipe.schema import Recipe
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import TrainingSet

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
    "rate": [
        Example("0", {"text": "lovely crema"}, score=5.0),
        Example("1", {"text": "arrived cracked"}, score=1.0),
    ],
}
TEMPLATES = {
    "choose": "Review: {text}\nSentiment:",
    "rank": "Viewed: {history}\nSearch: {query}\nProduct:",
    "generate": "Say: {input}\nWord:",
    "rate": "Review: {text}\nStars:",
}
METRICS = {"choose": "accuracy", "rank": "mrr", "generate": "exact_match", "rate": "rmse"}
LABELS = {"choose": ["negative", "positive"], "rate": ["1", "2", "3", "4", "5"]}


def recipe_of(base: Base, task: str, name: str = "r", **sections: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": name,
            "task": task,
            "base": base.name,
            "data": {"file": "x.jsonl"} | ({"catalog": "c.jsonl"} if task == "rank" else {}),
            "prompt": {"template": TEMPLATES[task]},
            "evaluate": {"metric": METRICS[task]},
            "serve": {"max_new_tokens": 8},
            "tune": {"temperature": 1.0},  # probabilities that are not all 0 or 1 tell adapters apart
        }
        | sections
    )


def seal_as(folder: Path, base: Base, recipe: Recipe, merchant: str, *, method: str, rank: int, seed: int) -> Bundle:
    """Complete and seal a folder that holds weights."""
    write_items(folder / CATALOG, ITEMS if recipe.task == "rank" else None)
    chat = Prompter(recipe, base.tokenizer).chat_template
    manifest = Manifest(
        schema=1,
        merchant=merchant,
        recipe=recipe.name,
        recipe_snapshot=dump_recipe(recipe),
        labels=LABELS.get(recipe.task, []),
        base=BaseIdentity(name=base.name, fingerprint=base.fingerprint, chat_template=chat),
        data=DataIdentity(digest="d", train=["0", "1"], valid=[], test=[]),
        seed=seed,
        method=method,
        rank=rank,
        trainable_parameters=1,
        steps=1,
        libraries={},
    )
    return seal(folder, manifest)


@pytest.fixture(scope="session")
def trained() -> dict[tuple[object, ...], tuple[Path, int]]:
    """Folders of the small adapters that are trained already, with their ranks, by what they were trained with."""
    return {}


@pytest.fixture
def make_bundle(
    base: Base,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    trained: dict[tuple[object, ...], tuple[Path, int]],
) -> Callable[..., Bundle]:
    """Train a small adapter, if no test has, and seal its bundle."""

    def make(merchant: str, *, task: str = "choose", method: str = "lora", seed: int = 0, switch: str = "") -> Bundle:
        recipe = recipe_of(
            base,
            task,
            adapter={"method": method, "rank": 4} | ({switch: True} if switch else {}),
            tune={"lr": 0.02, "epochs": 20, "batch_size": 2, "seed": seed, "temperature": 1.0},
        )
        asked = (base.fingerprint, base.quantization, task, method, seed, switch)
        if asked not in trained:
            labels = LABELS.get(task, [])
            prompter = Prompter(recipe, base.tokenizer, ITEMS if task == "rank" else None)
            training_set = TrainingSet(EXAMPLES[task], [], labels, prompter)
            tuned = Trainer(base, make_accelerator(recipe)).fit(training_set, recipe)
            made = tmp_path_factory.mktemp("trained")
            tuned.adapter.save(made / NATIVE)
            tuned.adapter.detach()
            trained[asked] = made, write_served(made / NATIVE, made / LORA, recipe.adapter)
        made, rank = trained[asked]
        folder = tmp_path / f"{merchant}-{task}-{method}{switch}-{seed}"
        shutil.copytree(made, folder)
        return seal_as(folder, base, recipe, merchant, method=method, rank=rank, seed=seed)

    return make


@pytest.fixture
def quick_bundle(base: Base, quick_bundle_on: Callable[[Base], Callable[..., Bundle]]) -> Callable[..., Bundle]:
    """Seal the bundle of an adapter with random weights: it learned nothing, and answers as no other does."""
    return quick_bundle_on(base)


@pytest.fixture
def quick_bundle_on(tmp_path: Path) -> Callable[[Base], Callable[..., Bundle]]:
    """The same on any base."""

    def on(base: Base) -> Callable[..., Bundle]:
        def make(
            merchant: str,
            *,
            seed: int = 0,
            task: str = "choose",
            recipe: str = "r",
            rank: int = 2,
            scale: float = 1.0,
            **sections: object,
        ) -> Bundle:
            torch.manual_seed(seed)
            folder = tmp_path / "quick" / f"{merchant}-{recipe}-{seed}"
            weights = {}
            for name, layer in base.model.named_modules():
                if name.endswith("_proj"):
                    down, up = torch.randn(rank, layer.in_features), torch.randn(layer.out_features, rank)
                    weights[f"base_model.model.{name}.lora_A.weight"] = down / 8 * scale
                    weights[f"base_model.model.{name}.lora_B.weight"] = up / 8
            config = {
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "r": rank,
                "lora_alpha": rank,
                "target_modules": sorted({name.split(".")[-3] for name in weights}),
            }
            (folder / LORA).mkdir(parents=True)
            save_file(weights, folder / LORA / "adapter_model.safetensors")
            (folder / LORA / "adapter_config.json").write_text(json.dumps(config))
            return seal_as(
                folder, base, recipe_of(base, task, recipe, **sections), merchant, method="lora", rank=rank, seed=seed
            )

        return make

    return on
