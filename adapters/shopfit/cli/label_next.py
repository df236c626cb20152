"""`shopfit label-next`: which rows to label next."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shopfit.cli.terminal import announce, as_json, console, merchant_folder, print_json, quiet, recipe_options
from shopfit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command(short_help="Propose the unlabeled rows that are most worth a label.")
@recipe_options
@click.option("--rows", type=click.IntRange(1), default=20, show_default=True, help="How many rows to propose.")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A new file to fill in; MERCHANT-RECIPE.next.jsonl in this folder by default.",
)
@as_json
def command(
    merchant: str, recipe: str, data: str | None, overrides: tuple[str, ...], rows: int, out: Path | None, as_json: bool
) -> None:
    """Propose rows of MERCHANT's unlabeled file that RECIPE's adapter would learn most from.

    Writes them as JSON lines with the answer left open. Fill it in, and append the lines to the example file.
    """
    from shopfit.recipe.loading import load_recipe

    loaded = load_recipe(recipe, overrides=overrides)
    folder = merchant_folder(merchant, data)
    file = out or Path(f"{merchant}-{loaded.name}.next.jsonl")
    if file.exists():
        raise DataError(
            f"{file} is already there, and may hold labels", next_step="append its rows first, or name another --out"
        )
    if not file.absolute().parent.is_dir():
        raise DataError(f"there is no folder {file.absolute().parent}", next_step="make it, or name another --out")
    quiet()
    from shopfit.labelling import label_next
    from shopfit.settings import Settings

    screen = console(to_stderr=as_json)
    found = label_next(folder, loaded, rows=rows, settings=Settings.from_environment(), say=announce(screen))
    _write(file, found)
    if as_json:
        print_json({"file": file, "rows": found})
        return
    count = "1 row" if len(found) == 1 else f"{len(found)} rows"
    screen.print(f"[cyan]  proposed[/]  {count}, in {file}", soft_wrap=True)
    screen.print(f"[cyan]      next[/]  fill them in, and append them to {folder / loaded.data.file}", soft_wrap=True)


def _write(file: Path, rows: "Sequence[dict[str, Any]]") -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        with file.open("x", encoding="utf-8") as target:
            target.write(lines)
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror}", next_step="name another --out") from None
