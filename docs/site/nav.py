"""The order of the pages: by folder, and in a folder by a list or else by title."""

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
FIRST: Mapping[str, tuple[str, ...]] = {
    "tutorials": ("first-adapter", "your-own-merchant", "serve-and-swap"),
    "reference": ("recipe", "cli", "http", "python", "metrics", "bundle", "events", "errors"),
}
"""Pages that come first in their folder, in this order; the others follow by title."""

_TITLE = re.compile(r"^# +(.+?) *$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the site.

    Args:
        path: of its Markdown, below the site's root.
        title: its first heading.
    """

    path: PurePosixPath
    title: str


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
    for file in sorted(root.rglob("*.md")):
        path = PurePosixPath(file.relative_to(root).as_posix())
        folder = "" if len(path.parts) == 1 else path.parts[0]
        if path.name == "benchmarks.md":
            folder = "benchmarks"
        if path == PurePosixPath("index.md"):
            continue
        if folder not in titles:
            raise ValueError(f"{path} is in no section (allowed: {', '.join(filter(None, titles))})")
        page = Page(path, title_of(file.read_text(encoding="utf-8")))
        if not page.title:
            raise ValueError(f"{path} has no heading that begins with '# '")
        found[titles[folder]].append(page)
    return {section: _ordered(pages) for section, pages in found.items() if pages}


def _ordered(pages: Iterable[Page]) -> list[Page]:
    def place(page: Page) -> tuple[bool, int, str]:
        first = FIRST.get(page.path.parts[0], ())
        rank = first.index(page.path.stem) if page.path.stem in first else len(first)
        return len(page.path.parts) > 1, rank, page.title.casefold()

    return sorted(pages, key=place)
