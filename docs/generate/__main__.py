"""`python -m docs.generate` writes the reference pages; with `--check` it says which of them are stale."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from docs.generate import bundle, cli, errors, events, http, metrics, python, recipe
from docs.generate.markdown import NOTICE

FOLDER = Path(__file__).parents[1] / "reference"
PAGES: Mapping[str, Callable[[], str]] = {
    "recipe.md": recipe.page,
    "cli.md": cli.page,
    "http.md": http.page,
    "python.md": python.page,
    "metrics.md": metrics.page,
    "bundle.md": bundle.page,
    "events.md": events.page,
    "errors.md": errors.page,
}


def stale() -> list[str]:
    """Names of the pages that differ from what the code says now, and of those that nothing makes any more.

    Pages beside them that people write are left alone.
    """
    found = {path.name for path in FOLDER.glob("*.md")}
    made = {name for name in found if NOTICE in (FOLDER / name).read_text()}
    changed = [name for name, make in PAGES.items() if name not in found or (FOLDER / name).read_text() != make()]
    return [*changed, *sorted(made - PAGES.keys())]


def write() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")


def main() -> None:
    """Write the pages, or check them."""
    if "--check" not in sys.argv[1:]:
        write()
    elif names := stale():
        sys.exit(f"stale in docs/reference: {', '.join(names)}. Run `make reference`.")


if __name__ == "__main__":
    main()
