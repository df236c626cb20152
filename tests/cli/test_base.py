"""`shopfit base show` and `fetch`: folders and GGUF files."""

import json
import shutil
from pathlib import Path

from tests.base.tiny import save_gguf
from tests.cli.conftest import Run


def test_the_command_says_it(tiny_base: Path, run: Run) -> None:
    found = json.loads(run("base", "show", str(tiny_base), "--json").stdout)
    assert found["memory_bytes"].keys() == {"float32", "bfloat16", "int8", "nf4"}
    assert found["weights_bytes"] == (tiny_base / "model.safetensors").stat().st_size
    shown = run("base", "show", str(tiny_base)).stdout
    for word in ("llama", "decoder", "512", "float32", "nf4", "its files do not say", found["fingerprint"]):
        assert word in shown


def test_a_measured_floor_is_shown_with_the_line_that_settles_it(tiny_encoder: Path, tmp_path: Path, run: Run) -> None:
    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "prompted"))
    assert json.loads(run("base", "show", str(folder), "--json").stdout)["measured_floor"] is None
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "query: "}}))
    floor = json.loads(run("base", "show", str(folder), "--json").stdout)["measured_floor"]
    assert f'{{"floor": {floor:g}}} in shopfit.json' in " ".join(run("base", "show", str(folder)).stdout.split())
    (folder / "shopfit.json").write_text(json.dumps({"floor": floor}))
    assert json.loads(run("base", "show", str(folder), "--json").stdout)["floor"] == floor


def test_the_command_dequantizes_and_says_so(tiny_base: Path, tmp_path: Path, run: Run) -> None:
    save_gguf(tmp_path / "tiny.gguf", tiny_base)
    done = run("base", "fetch", str(tmp_path / "tiny.gguf"))
    assert "tiny.gguf: dequantizing" in done.stdout
    assert "(3 of 3)" in done.stdout
    shown = run("base", "show", str(tmp_path / "tiny.gguf"), "--json")
    assert json.loads(shown.stdout)["family"] == "llama"


def test_a_base_is_shrunk_to_what_texts_use(run: Run, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a warm tent for two\nenamel mug\n", "utf-8")
    asked = ("base", "shrink", "minilm-l6", "--corpus", str(tmp_path / "texts.txt"), "--to", str(tmp_path / "small"))
    done = json.loads(run(*asked, "--json").stdout)
    assert done["pieces"][1] < done["pieces"][0] == 30522
    assert "encoder" in run("base", "show", str(tmp_path / "small")).stdout
    again = run(*asked)
    assert again.returncode == 2
    assert "is there already, and not empty" in again.stderr
    nothing = run("base", "shrink", "minilm-l6", "--to", str(tmp_path / "other"))
    assert "nothing was given to keep pieces for" in nothing.stderr
