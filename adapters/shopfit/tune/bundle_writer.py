"""From a tuned adapter on its base to the files and the manifest of a bundle."""

import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from shopfit.adapter.artifacts import HEAD
from shopfit.adapter.bundle import LORA, NATIVE, BaseIdentity, DataIdentity, Manifest
from shopfit.adapter.head import write_head
from shopfit.adapter.weight_files import write_served
from shopfit.base.chat_template import chat_digest
from shopfit.base.load import Base
from shopfit.errors import ShopfitError
from shopfit.recipe.loading import dump_recipe
from shopfit.recipe.schema import Recipe
from shopfit.registry.temp_folders import STAGING, owned_folder, sweep_folder
from shopfit.tune.trainer import Tuned

LIBRARIES = ("shopfit", "torch", "transformers", "peft", "accelerate", "bitsandbytes", "evaluate")


@contextmanager
def staging(home: Path) -> Iterator[Path]:
    """A temporary folder to make a bundle in; those that killed processes left are removed first.

    Raises:
        ShopfitError: in place of the disk's error while the bundle is written.
    """
    home.mkdir(parents=True, exist_ok=True)
    try:
        sweep_folder(home, STAGING)
        with owned_folder(home, STAGING) as folder:
            yield folder
    except (OSError, SafetensorError) as error:
        free = shutil.disk_usage(home).free / 1e6
        raise ShopfitError(
            f"the adapter could not be written under {home} ({free:.0f} MB free): {error}",
            next_step="free some space, or set SHOPFIT_HOME to a folder on a larger disk; nothing was registered",
        ) from error


def save(
    tuned: Tuned,
    base: Base,
    recipe: Recipe,
    folder: Path,
    *,
    merchant: str,
    labels: Sequence[str],
    data: DataIdentity,
    share: bool,
    **more: Any,
) -> Manifest:
    """Write an adapter's weights, as PEFT's folder and as plain LoRA, and take it off its base.

    Args:
        tuned: from `tune`.
        base: that it is on.
        recipe: that it was made with.
        folder: of the bundle to be.
        merchant: whose adapter it is.
        labels: names of the answers that every question has.
        data: which rows it saw.
        share: whether others may start from it.
        more: further fields of the manifest.

    Returns:
        the manifest, without digests.
    """
    tuned.adapter.save(folder / NATIVE)
    if (head := tuned.adapter.head) is not None:
        (folder / HEAD).write_bytes(write_head(head))
    parameters, offsets = tuned.adapter.size(), list(tuned.adapter.offsets)
    tuned.adapter.detach()
    rank = write_served(folder / NATIVE, folder / LORA, recipe.adapter)
    return Manifest(
        schema=1,
        merchant=merchant,
        recipe=recipe.name,
        recipe_snapshot=dump_recipe(recipe),
        labels=list(labels),
        base=BaseIdentity(
            name=base.name,
            fingerprint=base.fingerprint,
            quantization=base.quantization,
            rounding=base.rounding,
            dtype=base.dtype,
            floor=base.measured_floor,
            chat_template=chat_digest(recipe, base.tokenizer, encoder=base.encoder),
        ),
        data=data,
        share=share,
        seed=recipe.tune.seed,
        method=recipe.adapter.method,
        rank=rank,
        trainable_parameters=parameters,
        steps=tuned.steps,
        offsets=offsets,
        interpolation=tuned.interpolation,
        libraries={name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        **more,
    )
