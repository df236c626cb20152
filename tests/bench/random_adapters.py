"""A registry of adapters with random weights, one merchant each and recipe: for measuring, not for answers."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file

from shopfit.adapter.bundle import LORA, BaseIdentity, DataIdentity, Manifest, seal
from shopfit.base.load import Base
from shopfit.recipe.loading import dump_recipe
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry
from shopfit.settings import Settings

RANK = 8
_SMALL = 0.002  # weights: the base's answers change, and stay answers
_LAYERS = ("_proj", "query", "key", "value", "dense")


@contextmanager
def random_adapters(base: Base, recipes: Mapping[str, Recipe], count: int) -> Iterator[Settings]:
    """A registry in a folder that goes away, of merchants m0, m1, ...; each has a version of every recipe.

    Args:
        base: that they are for.
        recipes: by name.
        count: of merchants.
    """
    folder = Path(tempfile.mkdtemp(prefix="shopfit-bench-"))
    settings = Settings(folder, f"sqlite:///{folder}/registry.db", str(folder / "blobs"))
    try:
        add_random_adapters(settings, base, recipes, count)
        yield settings
    finally:
        shutil.rmtree(folder)


def add_random_adapters(settings: Settings, base: Base, recipes: Mapping[str, Recipe], count: int) -> None:
    """Publish them to a registry that is there."""
    torch.manual_seed(0)
    noise = torch.randn(8_000_000) * _SMALL
    layers = {
        name: layer
        for name, layer in base.model.named_modules()
        if name.endswith(_LAYERS) and hasattr(layer, "in_features") and "pooler" not in name
    }
    made = settings.home / "bundle"
    with Registry.open(settings) as registry:
        for number in range(count):
            at, weights = 0, {}
            file = made / LORA / "adapter_model.safetensors"
            turned = noise.roll(number * 7919)
            for name, layer in layers.items():
                for part, shape in (("A", (RANK, layer.in_features)), ("B", (layer.out_features, RANK))):
                    size = shape[0] * shape[1]
                    weights[f"base_model.model.{name}.lora_{part}.weight"] = turned[at : at + size].view(shape)
                    at += size
            file.parent.mkdir(parents=True)
            save_file({name: tensor.clone() for name, tensor in weights.items()}, file)
            for recipe in recipes.values():
                bundle = seal(made, _manifest(base, f"m{number}", recipe))
                registry.publish(bundle, promote=True, actor="bench")
            shutil.rmtree(made)


def _manifest(base: Base, merchant: str, recipe: Recipe) -> Manifest:
    return Manifest(
        schema=1,
        merchant=merchant,
        recipe=recipe.name,
        recipe_snapshot=dump_recipe(recipe),
        labels=["negative", "positive"] if recipe.task == "choose" else [],
        base=BaseIdentity(name=base.name, fingerprint=base.fingerprint),
        data=DataIdentity(digest="d", train=[], valid=[], test=[]),
        seed=0,
        method="lora",
        rank=RANK,
        trainable_parameters=1,
        steps=1,
        libraries={},
    )
