"""`prompt.format: chat` from a command: made, evaluated and asked, or refused before anything is trained."""

import json
from pathlib import Path

import pytest
from tests.base.chats import CHATML, chat_base
from tests.cli.conftest import Run

CHAT = ("--set", "prompt.format=chat")


@pytest.mark.proof
def test_an_adapter_that_chats(run: Run, shop: Path, tmp_path: Path) -> None:
    base = chat_base(tmp_path / "chats")
    more = [*CHAT, "--set", f"base={base}", "--set", "prompt.system=You tell how a customer feels."]
    arguments = ["acme", str(shop / "sentiment.yaml"), "--data", str(shop)]
    plain = json.loads(run("plan", *arguments, "--json", "--set", f"base={base}").stdout)
    plan = json.loads(run("plan", *arguments, *more, "--json").stdout)
    assert plan["longest"] > plain["longest"] + 10  # the template's tokens count
    done = run("adapter", *arguments, *more, "--json")
    assert done.returncode in {0, 3}, done.stderr
    bundle = Path(json.loads(done.stdout)["bundle"])
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert len(manifest["base"]["chat_template"]) == 64
    assert "chat template" in (bundle / "README.md").read_text()
    assert json.loads(run("predict", "acme/sentiment@1", "lovely crema", "--json").stdout)["answer"]["label"]
    wanted = {row["name"]: row["metrics"] for row in json.loads(done.stdout)["report"]["systems"]}
    again = json.loads(run("evaluate", "acme/sentiment@1", "--data", str(shop), "--json").stdout)
    found = {row["name"]: row["metrics"] for row in again["systems"]}
    assert found["adapter"]["accuracy"]["value"] == wanted["adapter"]["accuracy"]["value"]
    (base / "chat_template.jinja").write_text(CHATML.replace("assistant", "model"))
    refused = run("predict", "acme/sentiment@1", "lovely crema")
    assert refused.returncode == 2
    assert "was trained on" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("command", ["plan", "adapter"])
def test_bases_that_cannot_chat_are_refused(
    run: Run, shop: Path, tiny_base: Path, tiny_encoder: Path, command: str
) -> None:
    for base, why in ((tiny_base, "has no chat template (allowed: plain)"), (tiny_encoder, "is an encoder")):
        arguments = ["acme", str(shop / "sentiment.yaml"), "--data", str(shop), *CHAT, "--set", f"base={base}"]
        done = run(command, *arguments)
        assert done.returncode == 2
        assert f"prompt.format is chat, but the base {base} {why}" in " ".join(done.stderr.split())
        assert "Next: set prompt.format to plain" in " ".join(done.stderr.split())
    assert json.loads(run("registry", "ls", "--json").stdout) == []
