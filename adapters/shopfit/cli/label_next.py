"""`shopfit label-next`: which rows to label next."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shopfit.cli.arguments import PLACE
from shopfit.cli.terminal import (
    announce,
    as_json,
    check_writable,
    console,
    counted,
    keep,
    merchant_of,
    print_json,
    recipe_options,
)
from shopfit.errors import DataError
from shopfit.libraries import quiet

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command(short_help="Propose the unlabeled rows that are most worth a label.")
@recipe_options
@click.option(
    "--rows", type=click.IntRange(1, 1_000_000), default=20, show_default=True, help="How many rows to propose."
)
@click.option(
    "--out",
    metavar="FILE",
    type=PLACE,
    help="A new file to fill in; MERCHANT-RECIPE.next.jsonl in this folder by default.",
)
@as_json
def command(
    merchant: str, recipe: str, data: str | None, overrides: tuple[str, ...], rows: int, out: str | None, as_json: bool
) -> None:
    """Propose rows of MERCHANT's unlabeled file that RECIPE's adapter would learn most from.

    Writes them as JSON lines with the answer left open. Fill it in, and append the lines to the example file.
    """
    from shopfit.recipe.loading import load_recipe
    from shopfit.settings import Settings, expanded

    loaded = load_recipe(recipe, overrides=overrides)
    opened = merchant_of(merchant, data)
    file = Path(f"{merchant}-{loaded.name}.next.jsonl") if out is None else expanded(out)
    if file.exists():
        raise DataError(
            f"{file} is already there, and may hold labels", next_step="append its rows first, or name another --out"
        )
    if not file.absolute().parent.is_dir():
        raise DataError(f"there is no folder {file.absolute().parent}", next_step="make it, or name another --out")
    check_writable(file.absolute().parent, "name another place with --out FILE.jsonl")
    quiet()
    from shopfit.active_learning import label_next

    screen = console(to_stderr=as_json)
    found = label_next(opened, loaded, rows=rows, settings=Settings.from_environment(), reporter=announce(screen))
    _write(file, found)
    count = counted(len(found), "row")
    keep(f"{count} {'is' if len(found) == 1 else 'are'} in {file}")
    if as_json:
        print_json({"file": file, "rows": found})
        return
    screen.row("proposed", f"{count}, in {file}")
    screen.row("next", f"fill them in, and append them to {opened.folder / loaded.data.file}")


def _write(file: Path, rows: "Sequence[dict[str, Any]]") -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        file.touch(exist_ok=False)
        try:
            file.write_text(lines, encoding="utf-8")
        except OSError:
            file.unlink()  # else the next run would find it and refuse
            raise
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror}", next_step="name another --out") from None
