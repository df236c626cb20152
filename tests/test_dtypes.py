"""Which numbers a base has is one choice a run: what is trained on is evaluated, recorded and asked again."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from shopfit.adapter.bundle import NATIVE
from shopfit.adapter.weight_files import WEIGHTS
from shopfit.engine import ChooseRequest, Engine
from shopfit.merchant.merchant import Merchant
from shopfit.onboarding import onboard
from shopfit.recipe.loading import load_recipe
from shopfit.reports import measure_again
from shopfit.settings import Settings
from shopfit.tune.reporter import Reporter
from tests.cli.conftest import open_shop

ASKED = {"text": "order 99 of many: lovely crema"}


def listening(heard: list[str]) -> Reporter:
    return lambda what, detail: heard.append(f"{what}: {detail}")


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("shopfit")]


@pytest.mark.parametrize("method", ["lora", "adalora", "prefix"])
def test_a_run_keeps_to_the_numbers_that_its_recipe_names(
    method: str, tmp_path: Path, tiny_base: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    folder, heard = open_shop(tmp_path / "acme", tiny_base), list[str]()
    overrides = ["dtype=bfloat16", "blend=false", "tune.epochs=3", f"adapter.method={method}"]
    recipe = load_recipe(str(folder / "sentiment.yaml"), overrides=overrides)
    done = onboard(Merchant.open(folder), recipe, settings=settings, actor="test", reporter=listening(heard))
    assert done is not None
    assert any(line.startswith("base: ") and "parameters in bfloat16 on" in line for line in heard)
    manifest, weights = done.bundle.manifest, load(done.bundle.read(f"{NATIVE}/{WEIGHTS}") or b"")
    assert manifest.base.dtype == manifest.recipe_snapshot["dtype"] == "bfloat16"
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    again = measure_again(done.version.name, Merchant.open(folder), settings=settings)
    assert again.adapter.metrics == done.report.adapter.metrics
    assert not told(caplog)
    with Engine.load(str(tiny_base), settings=settings, dtype="bfloat16", encoder=None) as same:
        same.choose([ChooseRequest(done.version.name, ASKED)])
        assert not told(caplog)
    with Engine.load(str(tiny_base), settings=settings, dtype="float32", encoder=None) as other:
        other.choose([ChooseRequest(done.version.name, ASKED)] * 2)
    assert told(caplog) == [
        f"{done.version.name} was evaluated on the base in bfloat16, which is here in float32: "
        "what its report says may not hold exactly"
    ]
