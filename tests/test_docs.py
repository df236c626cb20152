"""README and docs are true: every code block runs, in order, on the real base, in an empty home."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forks import Forks

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = [*READMES, *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MADE = "shopfit adapter trailhead product-recommendation --set tune.epochs=1 --set data.shots=8 --set data.max_test=8"
PROMOTED = "shopfit registry promote trailhead/product-recommendation@1 --force"
# `make` would set up a virtual environment again: its targets are thin, and this is the line behind `make adapter`
BEHIND_MAKE = (
    "shopfit adapter crema review-sentiment --data {root}/recipes/samples/crema "
    "--set tune.epochs=1 --set data.shots=8 --set data.max_test=10"
)
LONGEST = {  # which train several adapters
    "cold-start.md",
    "fleets.md",
    "languages.md",
    "quickstart.md",
    "serving.md",
}
GUARD = 3600  # seconds, against hanging: ten times what the longest page takes on an idle machine


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text())


def scripts(code: str) -> list[str]:
    """The lines of a block, each to be run alone; one that leaves something in the background is run as a whole."""
    lines = [
        BEHIND_MAKE.format(root=ROOT) if line.startswith("make adapter") else line
        for line in re.split(r"(?<!\\)\n", code.strip())
    ]
    if any(re.search(r"[^&]&$", line) for line in lines):
        return ["\n".join(["trap 'kill $(jobs -p) || true' EXIT", *lines])]
    return lines


@pytest.mark.slow
@pytest.mark.timeout(2 * GUARD)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[pytest.mark.proof] if page.name in LONGEST else [])
        for page in PAGES
        if blocks(page) and not page.name.endswith(".zh-CN.md")  # whose blocks are those of the page in English
    ],
)
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path, forks: Forks) -> None:
    path = os.pathsep.join([str(forks.shim.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    commands = []
    for language, code in blocks(page):
        if language == "python":
            commands.append(["python", "-c", code])
        else:
            commands += [["bash", "-ec", script] for script in scripts(code)]
    if page.name == "README.md":  # the example after `make adapter` needs the version that it makes
        commands.insert(0, ["bash", "-c", f"{MADE}; {PROMOTED}"])
    for command in commands:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=GUARD,
            check=False,
        )
        made = command[-1].startswith(("shopfit adapter", "shopfit fleet"))
        assert done.returncode in ({0, 3} if made else {0}), f"{command[-1]}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("name", ["README.md", "docs/quickstart.md"])
def test_pages_in_chinese_run_the_same_commands(name: str) -> None:
    original, chinese = ROOT / name, ROOT / name.replace(".md", ".zh-CN.md")
    assert f"]({chinese.name})" in original.read_text()
    assert f"]({original.name})" in chinese.read_text()
    assert blocks(chinese) == blocks(original)


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_every_recipe_is_in_the_readme(readme: Path) -> None:
    text = readme.read_text()
    recipes = [path.stem for path in (ROOT / "recipes").glob("*.yaml")]
    assert len(recipes) == 9
    assert [name for name in recipes if f"`{name}`" not in text] == []
