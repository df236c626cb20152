"""Which column of a file is which field: by its name, else by what its values look like."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from shopfit.merchant.catalog_reading import FIELDS
from shopfit.merchant.column_names import KNOWN, OF_CATALOGS, OF_EXAMPLES
from shopfit.merchant.reading import Row
from shopfit.merchant.values import is_missing, squeezed
from shopfit.recipe.label_spelling import label_key
from shopfit.recipe.schema import Recipe

Shape = Literal["text", "label", "number", "items", "any"]

_LOOKED_AT = 500  # rows
_EXACT, _PART, _SHAPE = 100.0, 40.0, 30.0  # what a name, a part of one, and values that look right are worth
_LABELS = 60.0  # of values that are labels of the recipe
_SURE = 50.0  # from which a field that may be left out is taken
_LONG_LABEL = 60  # characters
_LONG_NAME = 80
_OPTIONAL = ("group", "id", "at", "weight")
_UNASKED = {"id", "at", "weight"}  # taken unasked only from a column of that very name


@dataclass(frozen=True, slots=True)
class Wanted:
    """A field that a recipe or a catalog reads.

    Args:
        name: of the field.
        needed: whether nothing can be read without it.
        shape: what its values are.
    """

    name: str
    needed: bool
    shape: Shape


def wanted_of_examples(recipe: Recipe) -> tuple[Wanted, ...]:
    """The fields of a recipe's examples: what its prompt shows, the answer, and what may be there besides."""
    spec, items = recipe.spec, set(recipe.data.item_fields)
    answers: Mapping[str, Shape] = {"label": "label", "number": "number", "items": "items", "text": "text"}
    shown = [Wanted(name, len(recipe.fields) == 1, "items" if name in items else "text") for name in recipe.fields]
    used = [name for name in spec.used if name not in recipe.fields and name not in items and spec.kind == "number"]
    more = [name for name in (*spec.beside, *used, *_OPTIONAL) if name not in recipe.fields]
    return (*shown, Wanted(spec.answer, True, answers[spec.kind]), *(Wanted(name, False, "any") for name in more))


def wanted_of_catalogs() -> tuple[Wanted, ...]:
    """The fields of a catalog's items."""
    return tuple(
        Wanted(name, name in ("id", "title"), "text" if name == "title" else "any")
        for name in FIELDS
        if name in OF_CATALOGS
    )


def guess_columns(
    rows: Sequence[Row],
    columns: Sequence[str],
    wanted: Sequence[Wanted],
    *,
    catalog: bool,
    answers: Collection[str] = (),
) -> dict[str, str]:
    """The column that each field is probably in; a field without one is left out.

    Args:
        rows: of the file.
        columns: its names, in order.
        wanted: the fields.
        catalog: whether they are an item's.
        answers: labels that the recipe names.
    """
    labels = {label_key(answer) for answer in answers}
    names = OF_CATALOGS if catalog else OF_EXAMPLES
    looks = {name: _Look.of([row.values.get(name) for row in rows[:_LOOKED_AT]]) for name in columns}
    longest = max((look.length for look in looks.values()), default=0.0) or 1.0
    worth = []
    for place, field in enumerate(wanted):
        for name in columns:
            value = _by_name(field.name, name, names)
            if value or field.needed or field.shape in ("text", "items"):
                value += _SHAPE * looks[name].fits(field.shape, longest)
            if field.shape == "label" and labels:
                value += _LABELS * _share(rows, name, labels)
            worth.append((value, -place, field, name))
    found: dict[str, str] = {}
    for value, _, field, name in sorted(worth, key=lambda one: (-one[0], -one[1], columns.index(one[3]))):
        enough = _SHAPE / 3 if field.needed else _EXACT if field.name in _UNASKED else _SURE
        if value >= enough and field.name not in found and name not in found.values():
            found[field.name] = name
    lacking = [field for field in wanted if field.needed and field.name not in found]
    left = [name for name in columns if name not in found.values()]
    if len(lacking) == len(left) == 1:
        once = len(rows) > len(labels) and looks[left[0]].distinct == 1  # as numbers of orders are there
        if not (lacking[0].shape == "label" and labels and once):
            found[lacking[0].name] = left[0]
    return {field.name: found[field.name] for field in wanted if field.name in found}


def names_columns(first: Sequence[str], following: Sequence[Sequence[str]], answers: Collection[str] = ()) -> bool:
    """Whether the first line of a table names its columns, rather than being a row like those that follow.

    Args:
        first: its cells.
        following: those of the lines that follow, or of the first of them.
        answers: that rows may have.
    """
    if any(label_key(cell) in {label_key(answer) for answer in answers} for cell in first):
        return False
    if any(squeezed(cell) in KNOWN for cell in first):
        return True
    if not all(cell.strip() for cell in first) or len(set(first)) < len(first):
        return False
    if any(len(cell) > _LONG_NAME or _is_number(cell) for cell in first):
        return False
    return not any(cell in {row[place] for row in following if place < len(row)} for place, cell in enumerate(first))


@dataclass(frozen=True, slots=True)
class _Look:
    """What a column's values look like.

    Args:
        length: mean characters of its texts.
        distinct: share of values that are there once, of those that are there.
        numbers: share that are numbers.
        lists: share that are lists.
        filled: share of rows that say something.
        varied: whether there are two values at least.
    """

    length: float
    distinct: float
    numbers: float
    lists: float
    filled: float
    varied: bool

    @classmethod
    def of(cls, values: Sequence[Any]) -> "_Look":
        there = [value for value in values if not is_missing(value)]
        if not there:
            return cls(0.0, 0.0, 0.0, 0.0, 0.0, varied=False)
        texts = [str(value) for value in there]
        lists = fmean(isinstance(value, list) or str(value).startswith("[") or "|" in str(value) for value in there)
        return cls(
            fmean(map(len, texts)),
            len(set(texts)) / len(texts),
            fmean(map(_is_number, texts)),
            lists,
            len(there) / len(values),
            varied=len(set(texts)) > 1,
        )

    def fits(self, shape: Shape, longest: float) -> float:
        """How well they are what a field wants, 0 to 1."""
        if not self.filled:
            return 0.0
        match shape:
            case "text":
                return self.filled * self.length / longest * (1 - self.numbers)
            case "label":
                return self.filled * (1 - self.distinct) if self.varied and self.length <= _LONG_LABEL else 0.0
            case "number":
                return self.filled * self.numbers * (0.5 + 0.5 * (1 - self.distinct))
            case "items":
                return self.lists
            case "any":
                return 0.0


def _by_name(field: str, column: str, names: Mapping[str, Collection[str]]) -> float:
    """How well a column is called for a field, 0 to 100."""
    called, known = squeezed(column), list(names.get(field, (squeezed(field),)))
    if called in known:
        return _EXACT - known.index(called)
    inside = [len(name) for name in known if len(name) > 1 + name.isascii() and name in called]
    return _PART * max(inside) / len(called) if inside else 0.0


def _share(rows: Sequence[Row], column: str, labels: Collection[str]) -> float:
    """Of a column's values, the share that are such labels."""
    there = [row.values[column] for row in rows[:_LOOKED_AT] if not is_missing(row.values.get(column))]
    return fmean(label_key(str(value)) in labels for value in there) if there else 0.0


def _is_number(text: Any) -> bool:
    try:
        float(str(text).replace(",", "."))
    except ValueError:
        return False
    return True
