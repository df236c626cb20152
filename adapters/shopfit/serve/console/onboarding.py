"""What the onboarding pages show and do, but for HTTP: merchants, files that recipes want, rows that are taken."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from shopfit.base.by_language import settled
from shopfit.base.packaged import PACKAGED
from shopfit.base.prompt import Prompter
from shopfit.errors import DataError, Problem
from shopfit.merchant.brought import Brought, Catalogs, Kind, Reading, read_brought
from shopfit.merchant.examples import load_examples
from shopfit.merchant.kept_folder import find_merchant, kept_merchant, write_rows
from shopfit.merchant.label_meanings import LEFT_OUT
from shopfit.merchant.labeling import held
from shopfit.merchant.labels import labels_of
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.splits import Splits, split
from shopfit.merchant.spoken import language_note
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.methods import METHOD_RULES, limit_of
from shopfit.recipe.names import HOUSE, is_slug
from shopfit.recipe.schema import DecimalMark, Encoding, Recipe
from shopfit.recipe.shipped import sample_folder, sample_merchants, shipped_recipes
from shopfit.registry import Grant
from shopfit.serve.console.fleet_table import FleetTable
from shopfit.serve.console.label_queues import LabelQueues
from shopfit.serve.console.routes import NoPage
from shopfit.serve.console.uploads import Upload
from shopfit.settings import merchant_folder

_MOST_SHOTS, _MOST_EPOCHS = 100_000, 100
_TEST = "test"


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file that a recipe reads.

    Args:
        kind: what it holds.
        name: of it, in the merchant's folder.
        rows: that are there; None if it is not.
        needed: whether nothing can be learned without it.
    """

    kind: Kind
    name: str
    rows: int | None
    needed: bool


@dataclass(frozen=True, slots=True)
class Understood:
    """What an adapter would learn from.

    Args:
        splits: the examples, by what they are for.
        language: what to say of their languages; empty if there is nothing.
    """

    splits: Splits
    language: str


def known_merchants(home: Path, grant: Grant, fleet: FleetTable) -> list[str]:
    """Names of the merchants that a key may choose: its own, or all those with data, versions or samples."""
    if grant.merchant is not None:
        return [grant.merchant]
    folder = merchant_folder(home, "")
    kept = [one.name for one in folder.iterdir() if is_slug(one.name)] if folder.is_dir() else []
    return sorted({*kept, *sample_merchants(), *(adapter.merchant for adapter in fleet.adapters())} - {HOUSE})


def has_data(home: Path, merchant: str) -> bool:
    """Whether a merchant's data are here, or it is a sample."""
    return merchant_folder(home, merchant).is_dir() or sample_folder(merchant) is not None


def recipes() -> dict[str, Recipe]:
    """The recipes that may be chosen, by name."""
    return {entry.name: load_recipe(entry.name) for entry in shipped_recipes()}


def recipe_called(name: str) -> Recipe:
    """A recipe that may be chosen.

    Raises:
        NoPage: if there is none of that name.
    """
    if name not in {entry.name for entry in shipped_recipes()}:
        raise NoPage("there is no such recipe here", next_step="choose one of those shown")
    return load_recipe(name)


def rating_recipe() -> str | None:
    """The recipe that learns from ratings; None if none is shipped."""
    return next((name for name, recipe in recipes().items() if recipe.spec.kind == "number"), None)


def files_of(recipe: Recipe) -> dict[Kind, str]:
    """The files that a recipe reads, in the order in which they are brought."""
    data, file = recipe.data, PurePosixPath(recipe.data.file)
    named: dict[Kind, str | None] = {
        "catalog": data.catalog,
        "history": data.history_catalog,
        "examples": data.file,
        "test": data.test_file or str(file.with_name(f"{file.stem}.{_TEST}{file.suffix}")),
    }
    return {kind: name for kind, name in named.items() if name}


def wanted_files(merchant: Merchant, recipe: Recipe) -> list[WantedFile]:
    """The files that a recipe reads, with what a merchant has of them."""
    needed = {"catalog", "history"} if recipe.spec.from_catalog else {"catalog", "history", "examples"}
    return [WantedFile(kind, name, _rows(merchant, name), kind in needed) for kind, name in files_of(recipe).items()]


def ready(files: Sequence[WantedFile]) -> bool:
    """Whether all is there that is needed to start."""
    return all(file.rows for file in files if file.needed)


def read_upload(home: Path, upload: Upload, recipe: Recipe, reading: Reading) -> Brought:
    """A file that was brought, as the recipe reads it.

    Raises:
        DataError: if nothing of it can be read, or the catalog that its ids are of.
    """
    merchant = merchant_called(home, upload.merchant)
    found = Catalogs()
    if upload.kind in ("examples", "test"):
        found = catalogs_of(merchant, recipe)
    try:
        return read_brought(upload.folder, upload.file, upload.kind, recipe, reading, found)
    except DataError as error:
        raise without_places(error, home) from error


def catalogs_of(merchant: Merchant, recipe: Recipe) -> Catalogs:
    """The catalogs of a merchant that the ids of examples are in.

    Raises:
        DataError: if one is not there yet, or has bad rows.
    """
    data = recipe.data
    for name in (data.catalog, data.history_catalog):
        if name and not merchant.file(name).exists():
            raise DataError(
                f"{merchant.name} has no {name} yet, which these rows name items of",
                next_step="bring that file first, then this one",
            )
    catalog = merchant.catalog(data.catalog, recipe) if data.catalog else None
    return Catalogs(catalog, merchant.catalog(data.history_catalog, recipe) if data.history_catalog else None)


def take_upload(
    home: Path,
    upload: Upload,
    recipe: Recipe,
    reading: Reading,
    queues: LabelQueues | None,
    *,
    append: bool,
    without_bad: bool,
    without_test: bool,
) -> tuple[int, int]:
    """Write the good rows of a file to the merchant's folder; how many they are, and how many wait for a label.

    Args:
        home: SHOPFIT_HOME.
        upload: the file.
        recipe: that it is for.
        reading: how it is read.
        queues: that take the rows without a label; None to leave them out.
        append: to the rows that are there, rather than in their place.
        without_bad: whether rows that are bad may be left out.
        without_test: whether the merchant's test set is removed, as it was one for other rows.

    Raises:
        DataError: if there are bad rows and they may not be left out, or nothing can be written.
    """
    found = read_upload(home, upload, recipe, reading)
    if not found.usable or (found.bad and not without_bad):
        raise DataError(
            f"{found.bad_lines or 'some'} rows cannot be used",
            problems=[Problem(f"line {one.line}" if one.line else "file", one.what, one.allowed) for one in found.bad],
            next_step="correct them and bring the file again, or say that they are to be left out",
        )
    merchant, name = kept_merchant(home, upload.merchant), files_of(recipe)[upload.kind]
    kept = 0
    try:
        if queues is not None and found.unlabeled:  # what is there already is not added again, as after a failure
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found.unlabeled)
            kept, _ = queues.bring(merchant, recipe, "rows.jsonl", lines.encode())
        with held(merchant):  # or a label that somebody gives meanwhile would be lost
            if found.ours and append and merchant.file(name).exists():
                _check_together(upload, merchant, recipe, name, found)
            if found.ours:
                write_rows(merchant, name, found.ours, append=append)
            if without_test and upload.kind == "examples" and (test := files_of(recipe).get("test")):
                (merchant.folder / test).unlink(missing_ok=True)
    except DataError as error:
        raise without_places(error, home) from error
    upload.discard()
    return len(found.ours), kept


def understood(home: Path, merchant: Merchant, recipe: Recipe) -> Understood:
    """What an adapter would learn from, and what would be measured.

    Raises:
        DataError: with what keeps it from being used.
    """
    try:
        catalog, history = catalogs_of(merchant, recipe)
        shown = Prompter(recipe, None, catalog, history)
        splits = split(
            merchant,
            recipe,
            text=lambda example: shown.text(example.fields),
            labels=labels_of,
            catalog=catalog,
            history=history,
        )
    except DataError as error:
        raise without_places(error, home) from error
    rows = (*splits.train, *splits.valid, *splits.test)
    return Understood(splits, language_note((shown.query_text(row.fields) for row in rows), merchant.language))


def merchant_called(home: Path, name: str) -> Merchant:
    """A merchant with data here.

    Raises:
        NoPage: if there is none of that name.
    """
    found = find_merchant(home, name)
    if found is None:
        raise NoPage(f"there are no data of {name[:80]} here yet", next_step="begin at the start of this page")
    return found


def reading_of(form: Mapping[str, Any], columns: Sequence[str] | None) -> Reading:
    """How a file is to be read, as a form says it.

    Args:
        form: `encoding`, `headed`, `decimal`, `c.<field>` with the number of a column, and `l.<value>` with what a
            value of the label column means: `label:<label>`, `out` or `none`.
        columns: of the file; None where they are not known yet.
    """
    encoding, decimal = str(form.get("encoding", "utf-8")), str(form.get("decimal", "auto"))
    asked = {name.removeprefix("c."): str(value) for name, value in form.items() if name.startswith("c.")}
    chosen = None
    if asked and columns is not None:
        places = {str(place): column for place, column in enumerate(columns)}
        chosen = {field: places[value] for field, value in asked.items() if value in places}
    meanings: dict[str, str | None] = {}
    for name, value in form.items():
        if name.startswith("l."):
            kind, _, label = str(value).partition(":")
            meanings[name.removeprefix("l.")] = LEFT_OUT if kind == "out" else label or None
    return Reading(
        encoding=encoding if encoding in get_args(Encoding) else "utf-8",  # type: ignore[arg-type]
        headed={"yes": True, "no": False}.get(str(form.get("headed", ""))),
        columns=chosen,
        decimal=decimal if decimal in get_args(DecimalMark) else "auto",  # type: ignore[arg-type]
        meanings=meanings,
    )


def methods_of(merchant: Merchant, recipe: Recipe) -> list[str]:
    """The methods that work with a recipe on the base that it has for a merchant; the recipe's own comes first."""
    packaged = PACKAGED.get(settled(recipe, merchant.language).base)
    kind = None if packaged is None else packaged.kind
    own = "dora" if recipe.adapter.dora else recipe.adapter.method
    layers = recipe.adapter.layers
    sized = {method: rules for method, rules in METHOD_RULES.items() if layers == "all" or rules.size_key == "rank"}
    fits = [method for method in sized if limit_of(method, (), recipe.quantization, kind) is None]
    with_dora = any(
        "dora" in rules.switches and limit_of(method, ("dora",), recipe.quantization, kind) is None
        for method, rules in sized.items()
    )
    return list(dict.fromkeys([own, *fits, *(["dora"] if with_dora else [])]))


def arguments_of(form: Mapping[str, Any], merchant: Merchant, recipe: Recipe) -> list[str]:
    """The arguments of a run: nothing but settings from a short list can be asked for.

    Args:
        form: `method`, `epochs`, `shots` and `only_instant`; what is empty is left to the recipe.
        merchant: whose run it is.
        recipe: that it is of.

    Raises:
        ShopfitError: if a setting is not allowed.
    """
    sets = []
    method = str(form.get("method", ""))
    if method:
        if method not in methods_of(merchant, recipe):
            raise NoPage("there is no such method for this recipe", next_step="choose one of those shown")
        if method != methods_of(merchant, recipe)[0]:
            plain = "lora" if method == "dora" else method
            sets += [f"adapter.method={plain}", f"adapter.dora={str(method == 'dora').lower()}"]
    for name, key, most in (("epochs", "tune.epochs", _MOST_EPOCHS), ("shots", "data.shots", _MOST_SHOTS)):
        if said := str(form.get(name, "")).strip():
            if not said.isascii() or not said.isdecimal() or not 1 <= int(said[:9]) <= most:
                raise DataError(f"{name} cannot be {said[:20]!r}", next_step=f"give a whole number from 1 to {most:,}")
            sets.append(f"{key}={int(said)}")
    load_recipe(recipe.name, overrides=sets)  # raises what does not fit together
    arguments = [word for one in sets for word in ("--set", one)]
    return [*arguments, *(["--instant"] if form.get("only_instant") else [])]


def without_places(error: DataError, home: Path) -> DataError:
    """An error without the paths of this machine, which are nothing to whoever is at a page."""
    return DataError(
        without_paths(error.message, home),
        problems=[
            Problem(without_paths(one.where, home), without_paths(one.what, home), one.allowed)
            for one in error.problems
        ],
        next_step=without_paths(error.next_step, home),
    )


def without_paths(text: str, home: Path) -> str:
    """A text without the paths of merchants' folders."""
    for folder in (merchant_folder(home, ""), home):
        text = text.replace(f"{folder}/", "")
    return text


def _rows(merchant: Merchant, name: str) -> int | None:
    file = merchant.file(name)
    if not file.exists():
        return None
    with file.open() as opened:
        return sum(bool(line.strip()) for line in opened)


def _check_together(upload: Upload, merchant: Merchant, recipe: Recipe, name: str, found: Brought) -> None:
    """Make sure that new rows go with those that are there, before anything is written.

    Raises:
        DataError: if they do not, as when both have rows of one id.
    """
    together = Merchant(name=merchant.name, folder=upload.folder)
    both = "together.jsonl"
    (upload.folder / both).write_bytes((merchant.folder / name).read_bytes())
    write_rows(together, both, found.ours, append=True)
    try:
        if upload.kind in ("catalog", "history"):
            together.catalog(both, recipe)
        else:
            load_examples(together, recipe, both, **catalogs_of(merchant, recipe)._asdict())
    except DataError as error:
        raise DataError(
            "these rows cannot stand beside those that are there",
            problems=[Problem(one.where.rpartition("/")[2], one.what, one.allowed) for one in error.problems],
            next_step="replace the rows that are there, or correct what is named above",
        ) from error
