"""Makes HTML of staged pages with Zensical, once a language, and puts it below the version's folder."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from docs.site.nav import CHINESE as CHINESE_TITLES
from docs.site.nav import ENGLISH, Page, sections
from docs.site.staging import CHINESE, relinked
from shopfit import __version__

_SLUGIFY = "!!python/object/apply:pymdownx.slugs.slugify {kwds: {case: lower}}"
_CONFIG = Path(__file__).parent / "mkdocs.yml"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_VERSION = re.compile(r"[0-9]+(\.[0-9A-Za-z]+)+")
# a line that ends and one that begins in Chinese: HTML would have a space between them
_CHINESE_BREAK = re.compile(
    r"(?<=[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef])\n(?=[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef])"
)
_ALTERNATES = {"en": "English", "zh": "中文"}
_HOME = {"en": "Start", "zh": "首页"}


class BuildError(Exception):
    """The site cannot be built; the message is what Zensical or a check said."""


def build(staged: Path, site: Path) -> Path:
    """Build every language of the site.

    Args:
        staged: as `staging.stage` writes it.
        site: its folder: the version's folder is made anew, those of other versions stay.

    Returns:
        the version's folder.

    Raises:
        BuildError: at any warning.
    """
    place = site / __version__
    shutil.rmtree(place, ignore_errors=True)
    work = staged.with_name(f"{staged.name}-html")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(staged, work / "en", ignore=shutil.ignore_patterns(CHINESE))
    _for_html(work / "en", staged)
    _zensical("en", work, place)
    if (staged / CHINESE / "index.md").exists():
        shutil.copytree(staged / CHINESE, work / CHINESE)
        shutil.copytree(staged / "stylesheets", work / CHINESE / "stylesheets")
        _for_html(work / CHINESE, staged / CHINESE)
        _zensical("zh", work, place / CHINESE)
    _versions(site)
    return place


def nav(folder: Path, language: str) -> list[dict[str, Any]]:
    """The navigation of one language, as MkDocs has it."""
    found = sections(folder, CHINESE_TITLES if language == "zh" else ENGLISH)
    return [{_HOME[language]: "index.md"}, *({title: _entries(pages)} for title, pages in found.items())]


def _entries(pages: list[Page]) -> list[dict[str, Any]]:
    """Pages in their groups; those in none come last, by themselves."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for page in pages:
        groups.setdefault(page.group, []).append({page.title: str(page.path)})
    alone = groups.pop("", [])
    return [*({group: entries} for group, entries in groups.items()), *alone]


def _for_html(folder: Path, whole: Path) -> None:
    """Write pages as Zensical needs them: with links to the other language's HTML, and what HTML reads otherwise."""

    def moved(link: str) -> str | None:
        address, mark, anchor = link.partition("#")
        there = (page.parent / address).exists()
        if there or not address.endswith(".md") or not (whole / page.parent.relative_to(folder) / address).exists():
            return None
        return f"{address.removesuffix('.md')}.html{mark}{anchor}"

    for page in folder.rglob("*.md"):
        lines = relinked(page.read_text(encoding="utf-8"), moved).split("\n")
        lines = [re.sub(r"`[^`]+`", _plain_pipes, line) if line.startswith("|") else line for line in lines]
        page.write_text(_CHINESE_BREAK.sub("", "\n".join(lines)), encoding="utf-8")


def _plain_pipes(match: re.Match[str]) -> str:
    return match[0].replace(r"\|", "|")


def _zensical(language: str, work: Path, place: Path) -> None:
    config = yaml.safe_load(_CONFIG.read_text(encoding="utf-8"))
    here = work / language
    config |= {
        "docs_dir": here.relative_to(work.parent).as_posix(),
        "site_dir": place.relative_to(work.parent).as_posix(),
        "nav": nav(here, language),
    }
    config["theme"]["language"] = language
    config["copyright"] = f"shopfit {__version__} · Apache-2.0"
    if (work.with_name(work.name.removesuffix("-html")) / CHINESE / "index.md").exists():
        links = (
            {"en": "index.html", "zh": "zh/index.html"}
            if language == "en"
            else {"en": "../index.html", "zh": "index.html"}
        )
        config["extra"]["alternate"] = [
            {"name": name, "link": links[key], "lang": key} for key, name in _ALTERNATES.items()
        ]
    if language == "en":
        config["extra"]["version"] = {"provider": "mike"}
    written = work.parent / f"zensical-{language}.yml"  # whose folder Zensical stays in
    text = yaml.safe_dump(config, allow_unicode=True, sort_keys=False)
    written.write_text(text.replace("slugify: as-on-github", f"slugify: {_SLUGIFY}"), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(written)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = _COLOUR.sub("", done.stdout + done.stderr)
    if done.returncode or "warning" in said.lower():
        raise BuildError(said.partition("Traceback")[0].strip())


def _versions(site: Path) -> None:
    """List the versions that are there, the newest first, and lead the root to it."""
    found = [path.name for path in site.iterdir() if path.is_dir() and _VERSION.fullmatch(path.name)]
    found.sort(
        key=lambda name: [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split(".")]
    )
    listed = [
        {"version": name, "title": name, "aliases": ["latest"] if name == found[-1] else []} for name in reversed(found)
    ]
    (site / "versions.json").write_text(json.dumps(listed, indent=2) + "\n")
    (site / "index.html").write_text(
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>shopfit</title>\n'
        f'<meta http-equiv="refresh" content="0; url={found[-1]}/index.html">\n'
        f'<p><a href="{found[-1]}/index.html">shopfit {found[-1]}</a></p>\n</html>\n'
    )
