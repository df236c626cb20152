"""`shopfit base show` and `fetch`: folders and GGUF files."""

import json
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


def test_the_command_dequantizes_and_says_so(tiny_base: Path, tmp_path: Path, run: Run) -> None:
    save_gguf(tmp_path / "tiny.gguf", tiny_base)
    done = run("base", "fetch", str(tmp_path / "tiny.gguf"))
    assert "tiny.gguf: dequantizing" in done.stdout
    assert "(3 of 3)" in done.stdout
    shown = run("base", "show", str(tmp_path / "tiny.gguf"), "--json")
    assert json.loads(shown.stdout)["family"] == "llama"
