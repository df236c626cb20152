"""Looks at the built HTML: every link and anchor leads somewhere, and nothing is loaded from another host."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADS = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href",),
    "img": ("src", "srcset"),
    "input": ("src",),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
"""What a browser loads by itself, by tag."""
_LOADED_RELATIONS = {
    "stylesheet",
    "icon",
    "preload",
    "modulepreload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "manifest",
}
_FROM_CSS = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")
_WIDGETS = ("mermaid", "pyodide", "glightbox")
"""Classes of elements for which the theme's script loads a program from elsewhere."""


@dataclass
class _Html(HTMLParser):
    """What one page links to, loads and has as anchors."""

    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a tag's links."""
        values = {name: value or "" for name, value in attrs}
        self._style = tag == "style"
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag != "link" or set(values.get("rel", "").split()) & _LOADED_RELATIONS:
            self.loads += [values[name] for name in _LOADS.get(tag, ()) if name in values]
        self.loads += _css_loads(values.get("style", ""))
        if tag == "img" and not values.get("alt"):
            self.problems.append(f"the picture {values.get('src')} has no text for those who do not see it")
        if found := set(values.get("class", "").split()) & set(_WIDGETS):
            self.problems.append(f"{', '.join(found)} loads a program from another host")

    def handle_data(self, data: str) -> None:
        """Take what styles load, and find lists that were not read as such."""
        if self._style:
            self.loads += _css_loads(data)
            self._style = False
        if re.search(r"\n[-*] \S", data) and self.lasttag == "p":
            self.problems.append(f"a list needs an empty line before it: {data.strip()[:80]!r}")


def problems(site: Path) -> list[str]:
    """Everything that is wrong with a built site, a line each.

    Args:
        site: folder of its HTML.
    """
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        where = path.relative_to(site)
        found += [f"{where}: {problem}" for problem in page.problems]
        found += [f"{where}: {problem}" for link in page.links if (problem := _broken(link, path, site, pages))]
        found += [f"{where}: {problem}" for load in page.loads if (problem := _foreign(load, path))]
    for path in sorted(site.rglob("*.css")):
        text = path.read_text(encoding="utf-8")
        found += [
            f"{path.relative_to(site)}: {problem}" for load in _css_loads(text) if (problem := _foreign(load, path))
        ]
    return found


def _read(path: Path) -> _Html:
    page = _Html()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    return page


def _css_loads(text: str) -> Iterator[str]:
    for match in _FROM_CSS.finditer(text):
        yield match[1] or match[2]


def _broken(link: str, path: Path, site: Path, pages: dict[Path, _Html]) -> str:
    """Why an internal link leads nowhere; empty if it leads somewhere, or elsewhere."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return ""
    target = path if not parts.path else Path(os.path.normpath(path.parent / unquote(parts.path)))
    if path.name == "404.html" and parts.path.startswith("/"):
        target = site / unquote(parts.path).lstrip("/")
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return f"{link} leads nowhere"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors and not anchor.startswith("__"):
        return f"{link}: there is no such anchor"
    return ""


def _foreign(load: str, path: Path) -> str:
    """Why something that a page loads is not its own; empty if it is there."""
    for address in re.split(r"\s*,\s*", load) if " " in load and "data:" not in load else [load]:
        parts = urlsplit(address.split(" ")[0])
        if parts.scheme == "data" or (not parts.path and parts.fragment):
            continue
        if parts.scheme or parts.netloc:
            return f"{address} is loaded from another host"
        if not (path.parent / unquote(parts.path)).exists() and path.name != "404.html":
            return f"{address} is not there"
    return ""
