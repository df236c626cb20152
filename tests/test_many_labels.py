"""A merchant with many labels and an example each: nothing that folds never learned decides how sure the adapter is."""

import json
from pathlib import Path

import pytest
import yaml

from shopfit.merchant.merchant import Merchant
from shopfit.onboarding import onboard
from shopfit.recipe.loading import load_recipe
from shopfit.settings import Settings

COUNT = 30


@pytest.mark.parametrize("each", [1, 2])
def test_calibration_does_not_make_it_worse(each: int, tmp_path: Path, tiny_encoder: Path, settings: Settings) -> None:
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "merchant.yaml").write_text("name: acme\n")
    for part, count in (("intents", each), ("intents.test", 1)):
        rows = [
            {"text": f"{part} {row} where is my order of kind{label} kind{label}", "label": f"kind{label}"}
            for row in range(count)
            for label in range(COUNT)
        ]
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = {
        "name": "intents",
        "task": "choose",
        "base": str(tiny_encoder),
        "data": {"file": "intents.jsonl", "near_duplicate": 1.0},
        "prompt": {"template": "{text}"},
        "adapter": {"rank": 4},
        "blend": False,
        "tune": {"epochs": 12, "lr": 0.01, "batch_size": 8},
        "evaluate": {"metric": "accuracy", "resamples": 100},
        "serve": {"precision": 0.9},
    }
    (tmp_path / "intents.yaml").write_text(yaml.safe_dump(document))
    done = onboard(Merchant.open(folder), load_recipe(str(tmp_path / "intents.yaml")), settings=settings, actor="test")
    assert done is not None
    facts = done.report.calibration
    assert facts["ece_after"] <= facts["ece_before"] + 0.02
    if each == 1:  # every label's only example was held out of the training that was asked about it
        assert done.bundle.manifest.calibration == {}
        assert facts["ece_after"] == facts["ece_before"]
