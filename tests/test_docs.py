"""README and docs are true: every code block runs, in order, on the real base, in an empty home."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forks import Forks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CHINESE = {  # pages in English, and what says the same in Chinese
    ROOT / "README.md": ROOT / "README.zh-CN.md",
    DOCS / "index.md": DOCS / "zh/index.md",
    **{page: DOCS / "zh/tutorials" / page.name for page in sorted((DOCS / "tutorials").glob("*.md"))},
}
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# what README's question asks; `make adapter`, which it shows, trains it too
MADE = "shopfit adapter trailhead product-recommendation --instant --set data.shots=8 --set data.max_test=8"
PROMOTED = "shopfit registry promote trailhead/product-recommendation@1 --force"
LONGEST = {  # which train adapters, or read a base that is fetched with its first use
    "docs/how-to/ask-a-person-when-unsure.md",
    "docs/how-to/embed-the-engine.md",
    "docs/how-to/find-how-many-examples.md",
    "docs/how-to/prepare-your-data.md",
    "docs/how-to/search-settings.md",
    "docs/how-to/start-from-others.md",
    "docs/how-to/train-a-fleet.md",
    "docs/how-to/use-another-language.md",
    "docs/tutorials/first-adapter.md",
    "docs/tutorials/serve-and-swap.md",
}
GUARD = 3600  # seconds, against hanging: ten times what the longest page takes on an idle machine


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text())


def scripts(code: str) -> list[str]:
    """The lines of a block, each to be run alone; one that has text between its lines, or leaves something in the
    background, is run as a whole."""
    if "<<'" in code:
        return [code]
    lines = re.split(r"(?<!\\)\n", code.strip())
    if any(re.search(r"[^&]&$", line) for line in lines):
        return ["\n".join(["trap 'kill $(jobs -p) || true' EXIT", *lines])]
    return lines


@pytest.mark.slow
@pytest.mark.timeout(2 * GUARD)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=named(page), marks=[pytest.mark.proof] if named(page) in LONGEST else [])
        for page in PAGES
        if blocks(page) and page not in CHINESE.values()  # whose blocks are those of the page in English
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
    if page.name == "README.md":
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


def test_the_longest_pages_are_there() -> None:
    assert {named(page) for page in PAGES if blocks(page)} >= LONGEST


@pytest.mark.parametrize(("original", "chinese"), CHINESE.items(), ids=map(named, CHINESE))
def test_pages_in_chinese_run_the_same_commands(original: Path, chinese: Path) -> None:
    assert f"]({os.path.relpath(chinese, original.parent)})" in original.read_text()
    assert f"]({os.path.relpath(original, chinese.parent)})" in chinese.read_text()
    assert blocks(chinese) == blocks(original)


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"))]:
        for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
            there = page.parent / target if target else page
            assert there.exists(), f"{named(page)}: {target}"
            if anchor and there.suffix == ".md":
                assert anchor in anchors(there), f"{named(page)}: {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links to them."""
    outside = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", outside, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_pages_open_with_what_their_readers_will_have() -> None:
    for page in sorted(DOCS.rglob("*.md")):
        if page.parent.name in ("tutorials", "how-to") and "zh" not in page.parts:
            assert re.search(r"^(At the end|You will have) ", page.read_text(), re.MULTILINE), named(page)


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_every_recipe_is_in_the_readme(readme: str) -> None:
    text = (ROOT / readme).read_text()
    recipes = [path.stem for path in (ROOT / "recipes").glob("*.yaml")]
    assert len(recipes) == 9
    assert [name for name in recipes if f"`{name}`" not in text] == []
