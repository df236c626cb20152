"""The site for machines: the Markdown of every page beside its HTML, and `llms.txt` in the form of llmstxt.org."""

import re
import shutil
from pathlib import Path

from docs.site.nav import ENGLISH, Page, sections, title_of
from docs.site.staging import CHINESE

_SUMMARY = (
    "Fit one shared language model to every shop: each merchant gets a small adapter, trained from a handful of "
    "examples, kept in a registry, and put on the base for that merchant's requests only."
)
_OPTIONAL = ("Benchmarks", "Project")


def write(staged: Path, site: Path) -> None:
    """Write the Markdown of every page, and `llms.txt`.

    Args:
        staged: the pages, as `staging.stage` writes them.
        site: folder of their HTML.
    """
    for page in sorted(staged.rglob("*.md")):
        path = page.relative_to(staged)
        shutil.copyfile(page, site / path)
        _name_twin(site / path.with_suffix(".html"), path.name)
    (site / "llms.txt").write_text(_listing(staged), encoding="utf-8")


def _name_twin(html: Path, name: str) -> None:
    """Say in a page's head where its Markdown is."""
    text = html.read_text(encoding="utf-8")
    link = f'<link rel="alternate" type="text/markdown" href="{name}">'
    html.write_text(text.replace("</head>", f"{link}</head>", 1), encoding="utf-8")


def _listing(staged: Path) -> str:
    english = staged / "index.md"
    lines = ["# shopfit", "", f"> {_SUMMARY}", "", f"- [Start](index.md): {_opening(english)}"]
    found = sections(staged, {**ENGLISH, CHINESE: "中文"})
    for title in [name for name in found if name not in _OPTIONAL and name != "中文"]:
        lines += ["", f"## {title}", "", *_entries(staged, found[title])]
    if pages := found.get("中文"):
        lines += ["", "## 中文", "", *_entries(staged, pages)]
    optional = [page for title in _OPTIONAL for page in found.get(title, [])]
    if optional:
        lines += ["", "## Optional", "", *_entries(staged, optional)]
    return "\n".join(lines) + "\n"


def _entries(staged: Path, pages: list[Page]) -> list[str]:
    return [f"- [{page.title}]({page.path}): {_opening(staged / page.path)}" for page in pages]


def _opening(page: Path) -> str:
    """The first sentence of a page, as plain text."""
    text = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for paragraph in text.split("\n\n"):
        plain = " ".join(paragraph.split())
        if plain and re.match(r"[\w*`\"']", plain) and not re.fullmatch(r"\[[^\]]+\]\([^)]+\)", plain):
            plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", plain).replace("**", "")
            return re.split(r"(?<=[.。])(?:\s|$)|(?<=。)|:(?:\s|$)", plain)[0]
    return title_of(text)
