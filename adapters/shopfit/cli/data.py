"""`shopfit data check`: what was understood of a merchant's files."""

from typing import TYPE_CHECKING, Any

import click

from shopfit.cli.arguments import PLACE, TEXT
from shopfit.cli.streams import neutral, one_line, write
from shopfit.cli.terminal import as_json, check_named, counted, merchant_of, only_prints, print_json
from shopfit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shopfit.merchant.columns import CheckedFile, Column
    from shopfit.merchant.merchant import Merchant
    from shopfit.merchant.splits import Splits
    from shopfit.recipe.schema import Recipe


@click.group(short_help="Check a merchant's files, and show what was understood of them.")
def command() -> None:
    """Check a merchant's files, and show what was understood of them."""


@command.command(short_help="Show what was understood of each column.")
@click.argument("merchant", type=TEXT)
@click.argument("recipe", required=False, type=PLACE)
@click.option(
    "--data", metavar="FOLDER", type=PLACE, help="The merchant's folder; by default the sample merchant of that name."
)
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change a recipe's key. Repeatable.")
@as_json
@only_prints
def check(merchant: str, recipe: str | None, data: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Read MERCHANT's files as RECIPE does, or each by itself, and say what each column holds.

    Exit status 2 if something keeps them from being used.
    """
    from shopfit.merchant.columns import check_files
    from shopfit.merchant.labels import spellings_text
    from shopfit.recipe.loading import load_recipe

    loaded = load_recipe(recipe, overrides=overrides) if recipe else None
    opened = merchant_of(merchant, data)
    files = check_files(opened, loaded)
    splits, error = _splits(opened, loaded, overrides) if loaded else (None, None)
    if splits is not None and splits.absent:  # which is told in a line of its own, and keeps nothing from being used
        files = [file for file in files if file.file != splits.absent]
    error = error or _of_files(files)
    if as_json:
        problems = () if error is None else error.problems
        print_json(
            {
                "merchant": opened.name,
                "files": files,
                "examples": None if splits is None else _counted(splits),
                "without_examples": "" if splits is None else splits.without_examples,
                "error": None if error is None else error.message,
                "problems": problems,
                "next": "" if error is None else error.next_step,
            }
        )
        if error is not None:
            write(neutral(f"error: {error}"), err=True)
            click.get_current_context().exit(error.exit_code)
        return
    for file in files:
        _show(file)
    if splits is not None:
        if splits.absent:
            write(one_line(splits.without_examples))
        worded = _counted(splits) | {"spellings_merged": spellings_text(splits.merged) or "none"}
        for name, value in worded.items():
            write(one_line(f"{name.replace('_', ' ')}: {_worded(value)}"))
    if error is not None:
        raise error


def _splits(
    merchant: "Merchant", recipe: "Recipe", overrides: "Sequence[str]"
) -> "tuple[Splits | None, DataError | None]":
    """The examples as an adapter would get them, as far as they can be read; and why it would refuse them."""
    from shopfit.tune.merchant_dataset import MerchantDataset

    splits = None
    try:
        check_named(merchant, recipe, overrides)
        shop = MerchantDataset.read(merchant, recipe)
        splits = shop.splits
        return shop.with_unlabeled().splits, None
    except DataError as error:
        return splits, error


def _of_files(files: "Sequence[CheckedFile]") -> DataError | None:
    problems = [problem for file in files for problem in file.problems]
    if not problems:
        return None
    return DataError(
        "some files cannot be used as they are", problems=problems, next_step="correct what is named above"
    )


def _counted(splits: "Splits") -> dict[str, Any]:
    return {
        "train": len(splits.train) + len(splits.valid),
        "test": len(splits.test),
        "labels": splits.label_counts,
        "spellings_merged": splits.merged,
        "contradictions": splits.contradictions.counts,
        "leaks_taken_out": splits.leaks.total,
    }


def _worded(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{name} {part}" for name, part in value.items()) or "none"


def _show(file: "CheckedFile") -> None:
    export = f", an export of {file.export}" if file.export else ""
    no_items = counted(file.left_out, "row that is no item", "rows that are no items")
    left_out = f", {no_items} left out" if file.left_out else ""
    write(one_line(f"{file.file}: {file.role}, {counted(file.rows, 'row')}{export}{left_out}"))
    from rich.cells import cell_len

    from shopfit.cli.screen import padded

    width = max((cell_len(column.name) for column in file.columns), default=0)
    for column in file.columns:
        write(one_line(f"  {padded(column.name, width)}  {_described(column)}"))
    for problem in file.problems[: DataError.shown_problems]:
        write(one_line(f"  ! {problem}"))
    write("")


def _described(column: "Column") -> str:
    parts = [f"{column.kind} ({column.form})" if column.form else column.kind]
    if column.column:
        parts[0] += f", from column {column.column!r}"
    parts.append(f"{column.filled:,} filled" + (f", {column.missing:,} missing" if column.missing else ""))
    if column.least is not None:
        unit = "" if column.kind != "text" else " character" if column.most == 1 else " characters"
        parts.append(f"{_end(column.least)} to {_end(column.most)}{unit}")
    if column.counts:
        parts.append(", ".join(f"{name} {count}" for name, count in column.counts.items()))
    elif column.examples:
        parts.append(", ".join(column.examples))
    return "; ".join(parts)


def _end(value: float | str | None) -> str:
    return f"{value:,g}" if isinstance(value, float | int) and abs(value) < 1e6 else str(value)
