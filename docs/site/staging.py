"""Brings the pages together in one folder, with links that hold on the site.

The site has the pages of `docs/` and those of the project, such as SECURITY.md. A link to another file of the
repository becomes one to a copy of it.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CHINESE = "zh"
PROJECT: Mapping[str, str] = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "README.md": "index.md",
    "README.zh-CN.md": "zh/index.md",
}
"""Pages in the repository's root, and where the site has them, if it has none of its own there."""
_ASSETS = ("pictures", "site/stylesheets")
_LINK = re.compile(r"(?<!\\)\]\(([^()\s]+)((?:\s+\"[^\"]*\")?)\)")
_FENCE = re.compile(r"^ {0,3}(```|~~~)")


def stage(target: Path) -> None:
    """Write the site's Markdown and its assets into an empty folder, every link as it holds there.

    Args:
        target: is made anew.
    """
    shutil.rmtree(target, ignore_errors=True)
    for asset in _ASSETS:
        shutil.copytree(DOCS / asset, target / PurePosixPath(asset).name)
    places = pages()
    for source, place in places.items():
        page = target / place
        page.parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / source).read_text(encoding="utf-8")
        page.write_text(relinked(text, _mover(source, place, places, target)), encoding="utf-8")


def pages() -> dict[str, str]:
    """Every page of the site: its path in the repository, and its path on the site."""
    found = {
        path.relative_to(ROOT).as_posix(): path.relative_to(DOCS).as_posix() for path in sorted(DOCS.rglob("*.md"))
    }
    taken = set(found.values())
    return found | {source: place for source, place in PROJECT.items() if place not in taken}


def relinked(text: str, moved: Callable[[str], str | None]) -> str:
    """A page with other links; blocks of code stay as they are.

    Args:
        text: of the page, in Markdown.
        moved: gives a link's new target; None leaves the link's text alone, without a link.
    """
    lines, fenced = [], False
    for line in text.split("\n"):
        if _FENCE.match(line):
            fenced = not fenced
        lines.append(line if fenced or line.startswith("    ") else _relinked_line(line, moved))
    return "\n".join(lines)


def _relinked_line(line: str, moved: Callable[[str], str | None]) -> str:
    def replace(match: re.Match[str]) -> str:
        target = moved(match[1])
        return f"]({match[1] if target is None else target}{match[2]})"

    return _LINK.sub(replace, line)


def _mover(source: str, place: str, places: Mapping[str, str], target: Path) -> Callable[[str], str | None]:
    """What moves the links of one page."""

    def moved(link: str) -> str | None:
        address, mark, anchor = link.partition("#")
        if not address or ":" in address:
            return None
        wanted = os.path.normpath(PurePosixPath(source).parent / address)
        there = places.get(wanted) or _own_place(wanted, places)
        if there is None:
            there = _copied(wanted, target)
        if there is None:
            return None
        return os.path.relpath(there, PurePosixPath(place).parent or ".") + mark + anchor

    return moved


def _own_place(wanted: str, places: Mapping[str, str]) -> str | None:
    """Where the site has what lies in the docs, or what a page of the docs took the place of."""
    if wanted in PROJECT and PROJECT[wanted] in places.values():
        return PROJECT[wanted]
    if any(wanted.startswith(f"docs/{asset}/") for asset in _ASSETS):
        return wanted.removeprefix("docs/")
    return None


def _copied(wanted: str, target: Path) -> str | None:
    """The place of a copy of another file of the repository; None if there is no such file, which the checks find."""
    file = ROOT / wanted
    if wanted.startswith("..") or not file.is_file():
        return None
    place = f"files/{wanted}" + (".txt" if file.suffix in {".md", ".py", ".html", ".yaml", ".yml"} else "")
    copy = target / place
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, copy)
    return place
