"""A floor of cosines that no file says is measured, and may differ by machine: a bundle says which it was made with."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine.encoder_bundles import maker_on

from shopfit.base.load import Base, load_base
from shopfit.engine import ChooseRequest, Engine


def test_a_bundle_of_another_measured_floor_is_announced(
    tiny_encoder: Path, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "prompted"))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "query: "}}))
    base = load_base(str(folder), home)
    assert base.measured_floor is not None
    bundle = maker_on(base, tmp_path)("acme", "choose")
    assert bundle.manifest.base.floor == base.measured_floor
    with Engine(base) as engine:
        engine.choose([ChooseRequest(bundle, {"text": "lovely crema"})])
    assert "floor" not in caplog.text
    with Engine(replace(base, measured_floor=0.85)) as engine:
        engine.choose([ChooseRequest(bundle, {"text": "lovely crema"})])
    assert "which is here in float32, with a measured floor of cosines of 0.85: what its report says may" in caplog.text


def test_a_floor_that_is_not_measured_is_in_no_bundle(encoder: Base, tmp_path: Path) -> None:
    assert maker_on(encoder, tmp_path)("acme", "choose").manifest.base.floor is None
