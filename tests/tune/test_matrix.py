"""Every method on every quantization of every kind of base, in one process and in two: it learns and is served, or is
refused before anything is loaded. The table in docs/reference/what-works-on-what.md is made of the same cells.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.base.tiny import save_tiny
from tests.tune.matrix import ASKED, CELLS, LABELS, PAGE, Cell, walk, written
from tests.tune.reviews import RECIPE

from shopfit.adapter.bundle import Bundle
from shopfit.adapter.trainable import attach
from shopfit.base.load import Base, load_base
from shopfit.base.scoring.questions import Question
from shopfit.engine import ChooseRequest, Engine, Tenant
from shopfit.errors import RecipeError
from shopfit.recipe.adapter_section import Adapter
from shopfit.recipe.loading import dump_recipe
from shopfit.recipe.overrides import Overrides
from shopfit.recipe.schema import Recipe
from shopfit.settings import Settings
from shopfit.tune.run_context import base_of
from shopfit.tune.trainer import make_accelerator

QUESTIONS = [Question((5, 6, 7, 8), ((9, 10), (11,))), Question((20, 21), ((22, 23), (25, 26)))]
WORKING = [cell for cell in CELLS if cell.limit is None]
REFUSED = [cell for cell in CELLS if cell.limit is not None]


@pytest.fixture(scope="module")
def folders(tiny_base: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny base of each kind."""
    both = save_tiny(tmp_path_factory.mktemp("both") / "base", "t5", "AutoModelForSeq2SeqLM", decoder_start_token_id=0)
    return {"decoder": tiny_base, "encoder": tiny_encoder, "encoder-decoder": both}


@pytest.fixture(scope="module")
def bases() -> dict[tuple[str, str], Base]:
    """Those that are loaded, by quantization and kind."""
    return {}


@pytest.fixture
def base_in(folders: dict[str, Path], bases: dict[tuple[str, str], Base], home: Path) -> Any:
    """Loads the base of a cell, once."""

    def load(cell: Cell) -> Base:
        key = cell.quantization, cell.kind
        if key not in bases:
            bases[key] = load_base(str(folders[cell.kind]), home, quantization=cell.quantization, device="cpu")
        return bases[key]

    return load


@pytest.fixture(scope="module")
def ranks(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """All cells that work, walked by one pair of processes: where the bundles are, and what came of them."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "tests.tune.matrix"]
    command += [str(folder), str(folder / "home"), *(f"{kind}={path}" for kind, path in folders.items())]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, json.loads((folder / "walked.json").read_text())


def answer_of(base: Base, folder: Path) -> list[float]:
    """What the engine answers with a bundle on a base: the probability of each label."""
    with Engine(base, slots=2) as engine:
        (answer,) = engine.choose([ChooseRequest(Tenant.of(Bundle.open(folder)), ASKED)])
    return [answer.probabilities[label] for label in LABELS]


@pytest.mark.proof
@pytest.mark.parametrize("cell", WORKING, ids=lambda cell: cell.named)
def test_a_cell_learns_and_is_served(cell: Cell, base_in: Any, tmp_path: Path) -> None:
    base = base_in(cell)
    walked = walk(base, cell, make_accelerator(RECIPE), tmp_path / "bundle", gradient_checkpointing=True)
    assert walked["still"] == []
    assert not base.model.is_activation_checkpointing
    assert answer_of(base, tmp_path / "bundle") == pytest.approx(walked["answer"], abs=2e-3)


@pytest.mark.proof
@pytest.mark.parametrize("cell", WORKING, ids=lambda cell: cell.named)
def test_a_cell_learns_in_two_processes(cell: Cell, base_in: Any, ranks: tuple[Path, dict[str, Any]]) -> None:
    folder, found = ranks
    assert found["processes"] == 2
    walked = found[cell.named]
    assert walked["still"] == []
    assert len(walked["digests"]) == 2
    assert len(set(walked["digests"])) == 1
    served = answer_of(base_in(cell), folder / cell.named)
    assert served == pytest.approx(walked["answer"], abs=2e-3)


@pytest.mark.parametrize("cell", REFUSED, ids=lambda cell: cell.named)
def test_a_cell_is_refused_before_anything_is_loaded(
    cell: Cell, folders: dict[str, Path], settings: Settings, tmp_path: Path
) -> None:
    copy = shutil.copytree(folders[cell.kind], tmp_path / "base")
    content = (copy / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")  # all numbers become NaN: loading them would be another error
    (copy / "model.safetensors").write_bytes(content[:header].ljust(len(content), b"\xff"))
    limit = cell.limit
    assert limit is not None
    document = dump_recipe(RECIPE) | {"base": str(copy)}
    wanted = document | {"adapter": cell.adapter.model_dump(), "quantization": cell.quantization}
    with pytest.raises((RecipeError, ValueError)) as refused:
        base_of(Recipe.model_validate(wanted), settings, "cpu")
    assert limit.why in str(refused.value)
    assert limit.nearest in str(refused.value)
    nearest, problems = Overrides.parse([limit.nearest]).apply(wanted)
    assert problems == []
    changed = Recipe.model_validate(nearest)
    assert changed.adapter.limit(changed.quantization, cell.kind) is None


def test_the_docs_say_what_the_table_says() -> None:
    page = PAGE.read_text()
    assert written(page) == page, "run python -m tests.tune.matrix"


def test_a_prefix_has_the_gradient_that_it_has_without_recomputing(base: Base) -> None:
    slopes = []
    for recomputed in (False, True):
        settings = Adapter(method="prefix", virtual_tokens=4)
        adapter = attach(base, settings, total_steps=1, opening=(5, 6, 7), gradient_checkpointing=recomputed)
        adapter.peft.train()
        (weight,) = adapter.parameters()
        scores = base.scorer.collate(QUESTIONS).forward(adapter.model, prefix=adapter.prefix(len(QUESTIONS)))
        slopes.append(torch.autograd.grad(scores.sum(), weight)[0])
        adapter.detach()
    torch.testing.assert_close(slopes[0], slopes[1])


def test_a_family_that_drops_the_prefix_where_it_recomputes_is_refused(tmp_path: Path, home: Path) -> None:
    base = load_base(str(save_tiny(tmp_path / "base", "gpt2", "AutoModelForCausalLM")), home)
    with pytest.raises(RecipeError, match=r"tune\.gradient_checkpointing does not work on .* \(family gpt2\)"):
        attach(base, Adapter(method="prefix"), total_steps=1, opening=(5, 6), gradient_checkpointing=True)
    attach(base, Adapter(method="prefix"), total_steps=1, opening=(5, 6)).detach()  # and the base is free again
