"""What is to be labelled: read from merchants' files, each once as long as it does not change."""

import json
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from shopfit.errors import DataError, Problem
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example, cells_of, load_examples
from shopfit.merchant.kept_folder import write_rows
from shopfit.merchant.labeling import (
    Labeling,
    Said,
    check_appendable,
    file_row,
    held,
    key_of,
    marks_file,
    marks_of,
    said_of,
)
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.reading import read_rows
from shopfit.merchant.search import CatalogIndex
from shopfit.merchant.splits import test_file_of
from shopfit.merchant.unlabeled import load_unlabeled, unlabeled_file_of
from shopfit.merchant.values import mapped
from shopfit.recipe.schema import Recipe
from shopfit.registry.temp_folders import ROWS

T = TypeVar("T")

_KEPT = 100  # files whose content stays in memory


@dataclass(frozen=True, slots=True)
class Catalogs:
    """What a recipe's rows name.

    Args:
        ranked: items to rank; None without.
        history: items of histories; None without.
    """

    ranked: Catalog | None
    history: Catalog | None


class LabelQueues:
    """Reads what is to be labelled. Any thread may ask."""

    def __init__(self) -> None:
        self._read: OrderedDict[Hashable, tuple[Hashable, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def labeling(self, merchant: Merchant, recipe: Recipe) -> Labeling:
        """Where the labelling stands.

        Args:
            merchant: whose rows.
            recipe: that they are labelled for.

        Raises:
            DataError: with every bad row of the unlabeled file, or if a file cannot be read.
        """
        examples = self._examples(merchant, recipe, recipe.data.file)
        test_file = test_file_of(merchant, recipe)
        tested = [] if test_file is None else self._examples(merchant, recipe, test_file)
        apart = {one.row for one in tested}
        marks = self._once(merchant, recipe, "marks", [marks_file(recipe)], lambda: _marks(merchant, recipe))
        rows = {key: row for key, row in self._unlabeled(merchant, recipe).items() if key not in apart}
        return Labeling(rows, examples, marks)

    def catalogs(self, merchant: Merchant, recipe: Recipe) -> Catalogs:
        """The items that a recipe's rows name.

        Raises:
            DataError: if a catalog is not there or cannot be read.
        """

        def read(file: str | None) -> Catalog | None:
            if file is None:
                return None
            return self._once(merchant, recipe, f"catalog {file}", [file], lambda: merchant.catalog(file, recipe))

        ranked = read(recipe.data.catalog)
        return Catalogs(ranked, read(recipe.data.history_catalog) or ranked)

    def index(self, merchant: Merchant, recipe: Recipe) -> CatalogIndex | None:
        """A search in the items to rank, by words; None without a catalog."""
        file, catalog = recipe.data.catalog, self.catalogs(merchant, recipe).ranked
        if file is None or catalog is None:
            return None
        return self._once(merchant, recipe, "index", [file], lambda: CatalogIndex(catalog))

    def bring(self, merchant: Merchant, recipe: Recipe, name: str, content: bytes) -> tuple[int, int]:
        """Add rows to the unlabeled file.

        Args:
            merchant: whose kept folder it is.
            recipe: that they are to be labelled for.
            name: of the file that they came in; empty if they were typed.
            content: a text a line, CSV or JSON lines.

        Returns:
            how many were added, and how many were there already.

        Raises:
            DataError: with every bad row.
        """
        file = unlabeled_file_of(merchant, recipe) or _beside(recipe)
        check_appendable(recipe, file)
        catalogs = self.catalogs(merchant, recipe)
        found = _loaded(merchant, recipe, name, content, catalogs)
        with held(merchant):
            known = self._unlabeled(merchant, recipe)
            state = self.labeling(merchant, recipe)
            seen, ids = known.keys() | state.labelled.keys(), {row.id for row in known.values()}
            new: dict[str, Example] = {}
            for row in found:
                key = key_of(recipe, _values(row))
                if key not in seen and key not in new:
                    new[key] = replace(row, id=row.id if row.id not in ids else f"{row.id}-{key[:8]}")
                    ids.add(new[key].id)
            if new:
                write_rows(merchant, file, [file_row(recipe, row) for row in new.values()], append=True)
        return len(new), len(found) - len(new)

    def keys(self, recipe: Recipe, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """The keys of rows that are given under the file's own names."""
        return [key_of(recipe, mapped(row, recipe.data.columns)) for row in rows]

    def _examples(self, merchant: Merchant, recipe: Recipe, file: str) -> list[Said]:
        return self._once(merchant, recipe, f"said {file}", [file], lambda: _said(merchant, recipe, file))

    def _unlabeled(self, merchant: Merchant, recipe: Recipe) -> dict[str, Example]:
        file = unlabeled_file_of(merchant, recipe)
        if file is None or not merchant.file(file).exists():
            return {}
        files = [file, *filter(None, (recipe.data.catalog, recipe.data.history_catalog))]
        return self._once(merchant, recipe, "unlabeled", files, lambda: self._rows(merchant, recipe))

    def _rows(self, merchant: Merchant, recipe: Recipe) -> dict[str, Example]:
        catalogs = self.catalogs(merchant, recipe)
        rows = load_unlabeled(merchant, recipe, catalog=catalogs.ranked, history=catalogs.history)
        found: dict[str, Example] = {}
        for row in rows:
            found.setdefault(key_of(recipe, _values(row)), row)
        return found

    def forget(self, merchant: str) -> None:
        """Keep nothing of a merchant in memory, as after it was erased."""
        with self._lock:
            for name in [one for one in self._read if isinstance(one, tuple) and one[0] == merchant]:
                del self._read[name]

    def _once(self, merchant: Merchant, recipe: Recipe, what: str, files: Sequence[str], read: Callable[[], T]) -> T:
        """What is read from files, anew if one of them changed."""
        name = (
            merchant.name,
            str(merchant.folder),
            recipe.model_dump_json(include={"name", "task", "data", "prompt"}),
            what,
        )
        state = tuple(_state(merchant.folder / file) for file in files)
        with self._lock:
            known = self._read.get(name)
            if known is not None and known[0] == state:
                self._read.move_to_end(name)
                return known[1]  # type: ignore[no-any-return]
        found = read()
        with self._lock:
            self._read[name] = state, found
            self._read.move_to_end(name)
            if len(self._read) > _KEPT:
                self._read.popitem(last=False)
        return found


def _state(path: Path) -> Hashable:
    try:
        found = os.stat(path)  # noqa: PTH116 - a missing file is no error
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _said(merchant: Merchant, recipe: Recipe, file: str) -> list[Said]:
    """What the rows of an example file say. What is wrong with others is for whoever trains on them."""
    path = merchant.file(file, recipe.data.encoding)
    if not path.exists():
        return []
    problems: list[Problem] = []
    rows = read_rows(path, cells=cells_of(recipe), problems=problems)
    found = (said_of(recipe, mapped(row.values, recipe.data.columns)) for row in rows)
    return [one for one in found if one is not None]


def _marks(merchant: Merchant, recipe: Recipe) -> list[Said]:
    path = merchant.file(marks_file(recipe))
    if not path.exists():
        return []
    problems: list[Problem] = []
    return marks_of([row.values for row in read_rows(path, problems=problems)])


def _values(row: Example) -> dict[str, Any]:
    return {**row.fields, "candidates": list(row.candidates or ())}


def _beside(recipe: Recipe) -> str:
    file = PurePosixPath(recipe.data.file)
    return str(file.with_name(f"{file.stem}.unlabeled.jsonl"))


def _loaded(merchant: Merchant, recipe: Recipe, name: str, content: bytes, catalogs: Catalogs) -> list[Example]:
    """Rows as a file of theirs would be read."""
    kind, text = _kind(recipe, name, content)
    folder = Path(tempfile.mkdtemp(prefix=ROWS))
    file = f"rows{kind}"
    try:
        (folder / file).write_text(text, encoding="utf-8")
        return load_examples(
            replace(merchant, folder=folder),
            recipe,
            file,
            catalog=catalogs.ranked,
            history=catalogs.history,
            labelled=False,
        )
    except DataError as error:  # where the rows lay for a moment says nothing
        place = f"{folder}/"
        raise DataError(
            error.message.replace(place, ""),
            problems=[Problem(one.where.replace(place, ""), one.what, one.allowed) for one in error.problems],
            next_step=error.next_step.replace(place, ""),
        ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _kind(recipe: Recipe, name: str, content: bytes) -> tuple[str, str]:
    """The suffix of rows as a file, and their text; plain texts become JSON lines, one a line.

    Raises:
        DataError: if they are no text, or of a kind that is not read here.
    """
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\0", "")
    except UnicodeDecodeError:
        raise DataError("these rows are not text in UTF-8", next_step="save them as UTF-8, then try again") from None
    if not text.strip():
        raise DataError("there are no rows in what was sent", next_step="paste some, or choose a file with some")
    suffix = PurePosixPath(name.lower()).suffix
    if suffix in (".jsonl", ".json") or (not suffix and text.lstrip().startswith("{")):
        return ".jsonl", text
    head = text.lstrip("\n").partition("\n")[0]
    columns = {part.strip().strip('"') for mark in ",;\t" for part in head.split(mark)}
    names = {recipe.data.columns.get(field, field) for field in recipe.fields}
    if suffix in (".csv", ".tsv") or (not suffix and columns & names and text.strip() != head.strip()):
        return ".csv", text
    if suffix not in ("", ".txt"):
        raise DataError(
            f"rows in {suffix} files are not read here (allowed: .txt, .csv, .jsonl)", next_step="convert the file"
        )
    texts = [field for field in recipe.fields if field not in recipe.data.item_fields]
    if not texts:
        raise DataError(
            f"rows of {recipe.name} are no plain texts (allowed: CSV or JSON lines with {', '.join(recipe.fields)})",
            next_step="send them so",
        )
    field = recipe.data.columns.get(texts[0], texts[0])
    lines = (line.strip() for line in text.split("\n"))
    return ".jsonl", "".join(json.dumps({field: line}) + "\n" if line else "\n" for line in lines)
