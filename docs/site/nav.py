"""The order of the pages: by folder, and in a folder as the start page names them; what it does not name comes last.

A paragraph of the start page that begins in bold is a group: `**Bring data.** [Prepare data](how-to/prepare.md) · …`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ENGLISH: Mapping[str, str] = {
    "": "Guides",  # pages beside the start page
    "tutorials": "Tutorials",
    "how-to": "How-to",
    "reference": "Reference",
    "explanation": "Explanation",
    "benchmarks": "Benchmarks",
    "project": "Project",
}
CHINESE: Mapping[str, str] = {"": "指南", "tutorials": "教程", "how-to": "操作指南"}

_TITLE = re.compile(r"^# +(.+?) *$", re.MULTILINE)
_GROUP = re.compile(r"\*\*([^*]+?)[.:：]?\*\*")
_TARGET = re.compile(r"\]\(([^)#\s]+\.md)\)")


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the site.

    Args:
        path: of its Markdown, below the site's root.
        title: its first heading.
        group: that the start page has it in; empty for none.
    """

    path: PurePosixPath
    title: str
    group: str = ""


def title_of(text: str) -> str:
    """The first heading of a page, without marks; empty without one."""
    found = _TITLE.search(text)
    return re.sub(r"[`*]", "", found[1]) if found else ""


def sections(root: Path, titles: Mapping[str, str]) -> dict[str, list[Page]]:
    """The pages below a folder, by the title of their section; the start page is in none.

    Args:
        root: holds `index.md` and a folder a section.
        titles: of the sections, by folder, in their order.

    Raises:
        ValueError: if a page is in no section, or has no title.
    """
    found: dict[str, list[Page]] = {title: [] for title in titles.values()}
    named = start_order((root / "index.md").read_text(encoding="utf-8"))
    for file in sorted(root.rglob("*.md")):
        path = PurePosixPath(file.relative_to(root).as_posix())
        folder = "" if len(path.parts) == 1 else path.parts[0]
        if path.name == "benchmarks.md":
            folder = "benchmarks"
        if path == PurePosixPath("index.md"):
            continue
        if folder not in titles:
            raise ValueError(f"{path} is in no section (allowed: {', '.join(filter(None, titles))})")
        page = Page(path, title_of(file.read_text(encoding="utf-8")), named.get(str(path), ""))
        if not page.title:
            raise ValueError(f"{path} has no heading that begins with '# '")
        found[titles[folder]].append(page)
    return {section: _ordered(pages, list(named)) for section, pages in found.items() if pages}


def start_order(text: str) -> dict[str, str]:
    """The pages that a start page names, in its order, each with the group that it is in; empty for none.

    Args:
        text: of the start page, in Markdown.
    """
    named: dict[str, str] = {}
    for paragraph in text.split("\n\n"):
        lead = _GROUP.match(paragraph)
        targets = _TARGET.findall(paragraph)
        for target in targets:
            named.setdefault(target, lead[1] if lead and len(targets) > 1 else "")
    return named


def _ordered(pages: Iterable[Page], named: list[str]) -> list[Page]:
    places = {name: place for place, name in enumerate(named)}

    def place(page: Page) -> tuple[int, bool, str]:
        return places.get(str(page.path), len(places)), len(page.path.parts) > 1, page.title.casefold()

    return sorted(pages, key=place)
