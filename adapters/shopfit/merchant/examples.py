"""One training or test example, and the checks that turn a raw row into one."""

import hashlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from shopfit.errors import DataError, Problem, ShopfitError
from shopfit.merchant import times
from shopfit.merchant.amounts import NumberFormat, no_number, settle
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.catalog_reading import FIELDS, ambiguous
from shopfit.merchant.files import MerchantFile
from shopfit.merchant.label_meanings import named_labels
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.reading import Cell, Row, read_rows
from shopfit.merchant.values import Checks, as_id, as_ids, as_label, is_missing, mapped, meant
from shopfit.recipe.label_spelling import label_key
from shopfit.recipe.levels import as_written, bounds_of
from shopfit.recipe.schema import Recipe
from shopfit.recipe.suggestions import did_you_mean, shown

logger = logging.getLogger(__name__)

_LARGEST_WEIGHT = 1e30  # what float32 can hold
_LARGEST_SCORE = 1e12
_MOST_COLUMNS = 20  # that a message shows
_MOST_NAMES = 2000  # of a catalog that are searched for a near one
_UNNAMED = "is not in prompt.labels"

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """One example of a task.

    Args:
        id: unique within its file; made from the content where the row names none.
        fields: every field of the row that the prompt may show.
        label: choose: the right label.
        relevant: rank: ids (or titles, without a catalog) of the right items.
        candidates: rank: ids to choose from, or None for the catalog.
        output: generate: the right answer, text or a JSON object.
        score: rate: the right number.
        group: rows of one group (a user, an order) never lie on both sides of a split.
        weight: its share in the loss, above 0.
        at: ISO time, for the reader; not used in training.
        where: file and line, for messages.
        titles: rank: whether answers show items by title alone, as in pairs whose query is an item's description.
        rewrites: what a model wrote for its texts before training, by augmentation step and field.
        written: choose: the label as its file has it, where it is read as another spelling; else empty.
    """

    id: str
    fields: Fields
    label: str | None = None
    relevant: tuple[str, ...] = ()
    candidates: tuple[str, ...] | None = None
    output: str | Mapping[str, Any] | None = None
    score: float | None = None
    group: str | None = None
    weight: float = 1.0
    at: str | None = None
    where: str = field(default="", compare=False)
    titles: bool = False
    rewrites: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict, compare=False)
    written: str = field(default="", compare=False)


def seen(fields: Fields) -> tuple[str, ...]:
    """The items of an example's history."""
    history = fields.get("history") or ()
    return (history,) if isinstance(history, str) else tuple(history)


def load_examples(
    merchant: Merchant,
    recipe: Recipe,
    file: str,
    *,
    catalog: Catalog | None,
    history: Catalog | None,
    labelled: bool = True,
) -> list[Example]:
    """The examples in one of a merchant's files, checked for a recipe's task.

    Exact copies of an earlier row are left out, and logged. Labels are those of `prompt.labels`, whatever their case,
    outer spaces, width and Unicode form; weights and times may be text in the format of their column.

    Args:
        merchant: whose folder the file is in.
        recipe: names the task, the columns and the fields the prompt shows.
        file: path inside the merchant's folder; any kind `read_rows` reads.
        catalog: rank: holds every relevant item and candidate; None for plain titles.
        history: holds the ids in `data.item_fields`; by default `catalog`, and plain titles if that is None too.
        labelled: whether every row has its answer; else none may have one.

    Raises:
        DataError: with every bad row, each with file, line, field, value and what is allowed.
    """
    path, columns = merchant.file(file, recipe.data.encoding), recipe.data.columns
    problems: list[Problem] = []
    rows = read_rows(path, cells=cells_of(recipe), problems=problems)
    if rows:
        there = dict.fromkeys(name for row in rows for name in row.values)
        problems += _column_problems(str(path), recipe, there, labelled)
        columns = {ours: theirs for ours, theirs in columns.items() if theirs in there}
        answer = recipe.spec.answer
        if labelled and columns.get(answer, answer) not in there:  # else it would be reported for every row
            raise _unfit(path, recipe, problems)
    read = [Row(row.line, mapped(row.values, columns)) for row in rows]
    formats = _Formats.of(read, recipe)
    problems += formats.problems(str(path), recipe)
    check = _RowCheck(recipe, catalog, history if history is not None else catalog, labelled, read, formats)
    contents: set[str] = set()
    examples: dict[str, Example] = {}
    for row in read:
        values = row.values
        content = content_digest(values)
        if content in contents:
            continue
        contents.add(content)
        example, bad = check(f"{path}:{row.line}", values, content)
        problems += bad
        if example is not None and (other := examples.get(example.id)) is not None:
            what = f"{example.id!r} is the id of {other.where} too"
            problems.append(Problem(f"{example.where} id", what, "one row an id"))
        elif example is not None:
            examples[example.id] = example
    if check.answered:
        raise DataError(
            f"{path} is an unlabeled file with labels in it",
            problems=problems,
            next_step=f"move the rows that have their {recipe.spec.answer} to {recipe.data.file}",
        )
    if problems:
        raise _unfit(path, recipe, problems)
    if copies := len(rows) - len(contents):
        logger.warning("%s: left out %d exact %s of earlier rows", path, copies, "copy" if copies == 1 else "copies")
    return list(examples.values())


def _unfit(path: MerchantFile, recipe: Recipe, problems: Sequence[Problem]) -> DataError:
    unnamed = all(_UNNAMED in problem.what for problem in problems)
    step = (
        "correct the labels named above, add them to the recipe's `prompt.labels`, or say what they mean in its "
        "`data.label_aliases`"
        if unnamed
        else "correct the rows named above, or map columns in the recipe's `data.columns`"
    )
    return DataError(
        f"{path} has {'a problem' if len(problems) == 1 else f'{len(problems)} problems'} for recipe {recipe.name}",
        problems=problems,
        next_step=step,
    )


def content_digest(value: Any) -> str:
    """SHA-256 of a value as canonical JSON: keys sorted, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def cells_of(recipe: Recipe) -> dict[str, Cell]:
    """What the columns of a CSV file hold, by the file's own names."""
    items: dict[str, Cell] = dict.fromkeys(recipe.data.item_fields, "list")
    cells = items | dict(recipe.spec.cells)
    return {recipe.data.columns.get(name, name): cell for name, cell in cells.items()}


def _column_problems(where: str, recipe: Recipe, there: Collection[str], labelled: bool) -> list[Problem]:
    """Mapped columns that are not there, and an answer's column that is there under nearly its name."""
    answer = recipe.spec.answer
    columns = {ours: theirs for ours, theirs in recipe.data.columns.items() if labelled or ours != answer}
    of_catalogs = (recipe.data.catalog or recipe.data.history_catalog) is not None
    problems = [
        Problem(f"{where} data.columns.{ours}", f"there is no column {theirs!r}{did_you_mean(theirs, there)}")
        for ours, theirs in columns.items()
        # the catalog's reader looks for what only a catalog needs
        if theirs not in there and not (of_catalogs and ours in FIELDS and ours not in recipe.fields)
    ]
    wanted = [*([answer] if labelled else []), *(recipe.fields if len(recipe.fields) == 1 else ())]
    for ours in wanted:
        if ours not in there and ours not in columns and (near := meant(ours, there)) is not None:
            what = f"there is no column {ours!r}; did you mean {near!r}?"
            problems.append(Problem(f"{where} {ours}", what, f"data.columns: {{{ours}: {near}}}"))
        elif ours == answer and ours not in there and ours not in columns:
            what = f"there is no column {ours!r}, but {', '.join(map(shown, list(there)[:_MOST_COLUMNS]))}"
            problems.append(Problem(f"{where} {ours}", what, f"data.columns: {{{ours}: the one that holds it}}"))
    return problems


@dataclass(frozen=True, slots=True)
class _Formats:
    """How the columns of one file are written."""

    weight: NumberFormat
    at: times.TimeFormat
    score: NumberFormat

    @classmethod
    def of(cls, rows: Sequence[Row], recipe: Recipe) -> "_Formats":
        weight = settle((row.values.get("weight") for row in rows), recipe.data.decimal)
        numbers = [row.values.get(recipe.spec.answer) for row in rows] if recipe.spec.kind == "number" else []
        at = times.settle_times(row.values.get("at") for row in rows)
        return cls(weight, at, settle(numbers, recipe.data.decimal))

    def problems(self, where: str, recipe: Recipe) -> list[Problem]:
        """Columns whose format is ambiguous."""
        columns = recipe.data.columns
        problems = []
        for name, form in (("weight", self.weight), (recipe.spec.answer, self.score)):
            if form.doubtful:
                problems.append(ambiguous(f"{where} {columns.get(name, name)}", form))
        if self.at.doubtful:
            what = f"{self.at.doubtful!r} may begin with the day or the month, and every time of the column fits both"
            problems.append(Problem(f"{where} {columns.get('at', 'at')}", what, "ISO 8601, such as 2026-05-01"))
        return problems


class _RowCheck:
    """Turns one row into an example, or into everything that is wrong with it."""

    def __init__(
        self,
        recipe: Recipe,
        catalog: Catalog | None,
        history: Catalog | None,
        labelled: bool,
        rows: Sequence[Row],
        formats: _Formats,
    ) -> None:
        self.recipe = recipe
        self.labelled = labelled
        self.answered = 0  # rows with an answer where none should be
        self.catalog = catalog
        self.history = history
        self._formats = formats
        self._named = named_labels(recipe)
        self._hidden = set(recipe.spec.hidden)
        self._shown = recipe.fields
        self._columns = [name for name in recipe.fields if any(name in row.values for row in rows)]
        self._hints = ShopfitError.shown_problems  # near names take time, and no more problems are shown

    def __call__(self, where: str, values: Mapping[str, Any], content: str) -> tuple[Example | None, list[Problem]]:
        checks = Checks(where, self.recipe.data.columns)
        fields = self._fields(checks, values)
        answer = self._answer(checks, values)
        key = as_id(values["id"]) if not is_missing(values.get("id")) else content[:16]
        if key is None:
            checks.bad("id", values["id"], "text or a whole number")
        group = as_id(values["group"]) if not is_missing(values.get("group")) else None
        if group is None and not is_missing(values.get("group")):
            checks.bad("group", values["group"], "text or a whole number")
        weight = _weight(checks, values.get("weight"), self._formats.weight)
        at = _time(checks, values.get("at"), self._formats.at)
        if checks.problems or key is None:
            return None, checks.problems
        return Example(id=key, fields=fields, group=group, weight=weight, at=at, where=where, **answer), []

    def _fields(self, checks: Checks, values: Mapping[str, Any]) -> dict[str, Any]:
        fields = {name: value for name, value in values.items() if name not in self._hidden and not is_missing(value)}
        for name in self.recipe.data.item_fields:
            if name in fields:
                fields[name] = self._items(checks, name, fields[name])
        if not any(name in fields for name in self._shown):
            if len(self._shown) == len(self._columns) == 1:
                [name] = self._columns
                checks.problems.append(Problem(f"{checks.where} {name}", f"the {name} is empty"))
            else:
                what = "none of the fields that the prompt shows is there"
                checks.problems.append(Problem(checks.where, what, f"any of {', '.join(self._shown)}"))
        return fields

    def _items(self, checks: Checks, name: str, value: Any) -> Any:
        """One id or a list of them, each as text; a history may name an item twice."""
        if not isinstance(value, list):
            items: list[str | None] = [as_id(value)]
        else:
            items = [as_id(part) for part in value]
        known = [item for item in items if item is not None]
        if len(known) < len(items):
            checks.bad(name, value, "an item id, or a list of item ids")
            return value
        self._known(checks, name, known, self.history)
        return known if isinstance(value, list) else known[0]

    def _answer(self, checks: Checks, values: Mapping[str, Any]) -> dict[str, Any]:
        if not self.labelled:
            return self._no_answer(checks, values)
        answer = values.get(self.recipe.spec.answer)
        match self.recipe.spec.kind:
            case "label":
                label, written = self._label(checks, answer), as_label(answer)
                return {"label": label, "written": written if written != label else ""}
            case "items":
                return self._relevant(checks, values)
            case "text":
                if is_missing(answer) or not isinstance(answer, str | dict):
                    checks.bad(self.recipe.spec.answer, answer, "text, or a JSON object")
                return {"output": answer}
            case "number":
                return {"score": self._score(checks, answer)}
            case _:
                assert_never(self.recipe.spec.kind)

    def _score(self, checks: Checks, value: Any) -> float | None:
        bounds = bounds_of(self.recipe.data.bounds, self.recipe.prompt.labels)
        least, most = bounds or (-_LARGEST_SCORE, _LARGEST_SCORE)
        read = None if no_number(value) else self._formats.score.read(value)
        if read is None or read.currency is not None or not least <= read.value <= most:
            alone = "" if read is None or read.currency is None else ", without a currency"
            checks.bad(
                self.recipe.spec.answer, value, f"a number from {as_written(least)} to {as_written(most)}{alone}"
            )
            return None
        return float(read.value)

    def _no_answer(self, checks: Checks, values: Mapping[str, Any]) -> dict[str, Any]:
        """Of an unlabeled row: nothing but what it may be ranked from."""
        answer = self.recipe.spec.answer
        if not is_missing(values.get(answer)):
            self.answered += 1
            checks.bad(answer, values[answer], "null, or no such field", "is filled in already")
        return self._candidates(checks, values, ()) if "candidates" in self.recipe.spec.own_fields else {}

    def _label(self, checks: Checks, value: Any) -> str | None:
        label, labels = as_label(value), self.recipe.prompt.labels
        if label is not None:
            label = self._named.get(label_key(label), label)
        if label is None:
            checks.bad(self.recipe.spec.answer, value, ", ".join(labels) or "text, a whole number, true or false")
        elif labels and label not in labels:
            allowed = f"{', '.join(labels)}; or what it means, in data.label_aliases"
            checks.bad(self.recipe.spec.answer, value, allowed, f"{_UNNAMED}{self._hint(label, labels)}")
        return label

    def _relevant(self, checks: Checks, values: Mapping[str, Any]) -> dict[str, Any]:
        name = self.recipe.spec.answer
        relevant = as_ids(values[name]) if not is_missing(values.get(name)) else None
        if relevant is None:
            checks.bad(name, values.get(name), "a list of item ids, at least one")
        else:
            self._known(checks, name, relevant, self.catalog)
        return {"relevant": relevant} | self._candidates(checks, values, relevant or ())

    def _candidates(self, checks: Checks, values: Mapping[str, Any], relevant: Sequence[str]) -> dict[str, Any]:
        if is_missing(values.get("candidates")):
            return {}
        candidates = as_ids(values["candidates"])
        if candidates is None:
            checks.bad("candidates", values["candidates"], "a list of item ids")
        else:
            self._known(checks, "candidates", candidates, self.catalog)
            if lacking := [item for item in relevant if item not in candidates]:
                checks.bad(
                    "candidates", values["candidates"], "all of relevant and others", f"lacks {', '.join(lacking)}"
                )
        return {"candidates": candidates}

    def _known(self, checks: Checks, name: str, items: Sequence[str], catalog: Catalog | None) -> None:
        if catalog is None:
            return
        for item in dict.fromkeys(items):
            if item not in catalog:
                checks.bad(name, item, "ids of the catalog", f"is not in the catalog{self._hint(item, catalog)}")

    def _hint(self, seen: str, names: Collection[str]) -> str:
        self._hints -= 1
        return did_you_mean(seen, names) if self._hints >= 0 and len(names) <= _MOST_NAMES else ""


def _weight(checks: Checks, value: Any, form: NumberFormat) -> float:
    if no_number(value):
        return 1.0
    weight = form.read(value)
    if weight is None or weight.currency is not None or not 0 < weight.value < _LARGEST_WEIGHT:
        checks.bad("weight", value, "a number above 0 that is finite")
        return 1.0
    return float(weight.value)


def _time(checks: Checks, value: Any, form: times.TimeFormat) -> str | None:
    if is_missing(value):
        return None
    time = form.read(value)
    if time is None:
        checks.bad(
            "at", value, times.ALLOWED if form.name == "ISO 8601" else f"a time as in the whole column: {form.name}"
        )
    return time
