"""The small commands: recipes, bases, the registry; and what starting up costs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run

RECIPES = {
    "ad-recommendation",
    "behaviour-prediction",
    "content-recommendation",
    "product-recommendation",
    "reading-level",
    "review-sentiment",
    "review-stars",
    "support-intent",
    "user-profile",
}


def test_help_lists_every_command(run: Run) -> None:
    shown = run("--help").stdout
    for name in (
        "adapter",
        "label-next",
        "curve",
        "data",
        "plan",
        "predict",
        "evaluate",
        "compare",
        "recipe",
        "base",
        "registry",
        "key",
        "release",
        "limit",
    ):
        assert f"  {name} " in shown
        assert run(name, "--help").returncode == 0


def test_recipes_are_listed_shown_copied_and_checked(run: Run, tmp_path: Path) -> None:
    assert {recipe["name"] for recipe in json.loads(run("recipe", "ls", "--json").stdout)} == RECIPES
    assert (
        json.loads(run("recipe", "show", "review-sentiment", "--set", "tune.epochs=2", "--json").stdout)["tune"][
            "epochs"
        ]
        == 2
    )
    target = tmp_path / "mine.yaml"
    assert run("recipe", "cp", "review-sentiment", str(target)).returncode == 0
    assert "✓ mine" in run("recipe", "validate", str(target)).stdout
    assert run("recipe", "cp", "review-sentiment", str(target)).returncode == 2
    target.write_text(target.read_text().replace("epochs:", "epoch:"))
    broken = run("recipe", "validate", str(target))
    assert broken.returncode == 2
    assert "did you mean 'epochs'" in broken.stderr
    assert json.loads(run("recipe", "schema").stdout)["properties"]["task"]


def test_bases_are_listed_and_shown(run: Run, tiny_base: Path) -> None:
    assert [base["name"] for base in json.loads(run("base", "ls", "--json").stdout)] == [
        "smollm2-135m",
        "minilm-l6",
        "e5-small-multilingual",
    ]
    assert len(json.loads(run("base", "show", str(tiny_base), "--json").stdout)["fingerprint"]) == 64


def test_versions_are_promoted_rolled_back_and_removed(run: Run, shop: Path) -> None:
    for seed in ("1", "2"):
        made = run(
            *("adapter", "acme", str(shop / "sentiment.yaml"), "--data", str(shop), "--no-instant", "--json"),
            *("--set", f"tune.seed={seed}"),
        )
        assert made.returncode == 0, made.stderr
    assert json.loads(run("registry", "show", "acme/sentiment", "--json").stdout)["version"]["number"] == 2
    assert "acme/sentiment@1 is @production again" in run("registry", "rollback", "acme/sentiment").stdout
    assert "acme/sentiment@2 is now @production" in run("registry", "promote", "acme/sentiment@2").stdout
    assert run("registry", "rm", "acme/sentiment@2").returncode == 2
    assert "every file is as it was published" in run("registry", "verify").stdout
    assert len(json.loads(run("registry", "ls", "acme", "--json").stdout)) == 2


@pytest.mark.parametrize("statement", ["import shopfit", "from shopfit.cli import main"])
def test_heavy_libraries_wait_until_they_are_needed(statement: str) -> None:
    heavy = ("torch", "transformers", "peft", "sqlalchemy", "pydantic", "matplotlib", "rich", "numpy")
    script = f"import sys; {statement}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
