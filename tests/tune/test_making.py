"""An adapter in the making: what the trainings on parts of the examples are good for besides telling how good it is."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shopfit.adapter.start import Start
from shopfit.base.load import load_base
from shopfit.merchant.merchant import Merchant
from shopfit.onboard import onboard
from shopfit.recipe.schema import Recipe
from shopfit.settings import Settings
from shopfit.tune.folds import FOLDS, folds, predictions_of
from shopfit.tune.loop import make_accelerator, tune
from shopfit.tune.shop import Shop

COLOURS = ["red", "blue", "green", "black"]
THINGS = ["tent", "stove", "boots", "lamp"]


def shop(folder: Path) -> Path:
    """A merchant whose shoppers say what they want backwards."""
    titles = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    files = {
        "catalog": [{"id": title.replace(" ", "-"), "title": title} for title in titles],
        "searches": [{"query": f"a {title[::-1]}", "relevant": [title.replace(" ", "-")]} for title in titles[:12]],
        "searches.test": [{"query": f"the {title[::-1]}", "relevant": [title.replace(" ", "-")]} for title in titles],
    }
    folder.mkdir()
    (folder / "merchant.yaml").write_text(f"name: {folder.name}\n")
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def recipe(base: Path, **adapter: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "search",
            "task": "rank",
            "base": str(base),
            "data": {"file": "searches.jsonl", "catalog": "catalog.jsonl", "near_duplicate": 1.0},
            "prompt": {"template": "Search: {query}"},
            "adapter": {"rank": 2, **adapter},
            "tune": {"epochs": 2, "lr": 0.01, "batch_size": 4},
            "evaluate": {"metric": "mrr", "resamples": 100},
        }
    )


def test_a_ranking_encoder_takes_the_mean_of_all_its_trainings(
    tmp_path: Path, tiny_encoder: Path, settings: Settings
) -> None:
    folder, wanted = shop(tmp_path / "acme"), recipe(tiny_encoder)
    done = onboard(folder, wanted, settings=settings, actor="test")
    assert done is not None
    assert done.bundle.manifest.trainings == 1 + FOLDS
    assert f"mean of {1 + FOLDS} trainings" in (done.bundle.folder / "README.md").read_text()

    base, accelerator = load_base(str(tiny_encoder), settings.home), make_accelerator(wanted)
    read = Shop.read(Merchant.open(folder), wanted)
    material = read.material(base)
    parts = predictions_of(base, wanted, folds(wanted, material), Start(), accelerator)
    tuned = tune(base, wanted, material.train, [], (), material.prompter, accelerator=accelerator)
    last = tuned.adapter.state()
    names = [name for name, weight in tuned.adapter.peft.named_parameters() if weight.requires_grad]
    tuned.adapter.detach()
    saved = load_file(done.bundle.folder / "native" / "adapter_model.safetensors")
    assert len(saved) == len(names)
    for name, *weights in zip(names, last, *(part.weights for part in parts), strict=True):
        torch.testing.assert_close(saved[name.replace(".default", "")], torch.stack(weights).mean(0))


@pytest.mark.parametrize("method", ["adalora", "prefix"])
def test_other_methods_keep_the_weights_of_the_last_training(
    tmp_path: Path, tiny_encoder: Path, tiny_base: Path, settings: Settings, method: str
) -> None:
    on = tiny_base if method == "prefix" else tiny_encoder  # singular values of two trainings do not belong together
    done = onboard(shop(tmp_path / "acme"), recipe(on, method=method), settings=settings, actor="test")
    assert done is not None
    assert done.bundle.manifest.trainings == 1
