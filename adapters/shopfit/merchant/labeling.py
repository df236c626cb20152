"""Rows that people label: which are left, what was said of each and by whom, and how it is taken back.

A label is a row of the example file as any other, with `labeled_by` and `labeled_at` besides, which no prompt shows.
What is no example, a row that is skipped or that no label fits, is a line of `<recipe>.labeling.jsonl` beside it. The
unlabeled file stays as it is: what is left of it follows from the other two, so whoever reads them sees the same.
"""

import fcntl
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from shopfit.errors import DataError
from shopfit.merchant.examples import Example, content_digest
from shopfit.merchant.kept_folder import take_back, write_rows
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.text import normalised
from shopfit.merchant.values import as_id, is_missing
from shopfit.recipe.schema import Recipe

Word = Literal["label", "none", "skip"]
"""What can be said of a row: its answer; that none fits, which all see; or not now, which is one person's own."""

BY, AT = "labeled_by", "labeled_at"
_ROW, _WORD = "row", "said"

_PAUSE = timedelta(minutes=30)  # that ends a sitting
_BESIDE = timedelta(minutes=10)  # since somebody's last word: they are still there
_KEY = 24  # of a digest's characters


@dataclass(frozen=True, slots=True)
class Said:
    """What was said of a row.

    Args:
        row: its key.
        word: what kind of thing.
        answer: the label, score or items; None for another word.
        by: who; empty for a row of the example file that nobody labelled here.
        at: when, with time zone; None for such a row.
        id: the row's in the example file; empty for none.
    """

    row: str
    word: Word
    answer: Any = None
    by: str = ""
    at: datetime | None = None
    id: str = ""


@dataclass(frozen=True, slots=True)
class Labeling:
    """Where the labelling of one merchant's rows for one recipe stands.

    Args:
        rows: to be labelled, by their keys, in the file's order; those of the test set are left out.
        examples: what the example file says, a row each.
        marks: the other words, the oldest first.
    """

    rows: Mapping[str, Example]
    examples: Sequence[Said]
    marks: Sequence[Said]

    @property
    def labelled(self) -> dict[str, Said]:
        """What the example file says by row; of two of one row the first counts."""
        return {one.row: one for one in reversed(self.examples)}

    @property
    def counts(self) -> Counter[str]:
        """Examples of each answer."""
        return Counter(str(one.answer) for one in self.examples)

    def answered(self, row: str) -> Said | None:
        """What was said of a row for everybody: its label, or that none fits; None if it is open."""
        if (label := self.labelled.get(row)) is not None:
            return label
        return next((one for one in self.marks if one.row == row and one.word == "none"), None)

    @property
    def unfit(self) -> list[str]:
        """Rows that no label fits."""
        return [row for row in dict.fromkeys(one.row for one in self.marks if one.word == "none") if row in self.rows]

    def skipped(self, by: str) -> list[str]:
        """Rows that a person skipped."""
        own = dict.fromkeys(one.row for one in self.marks if one.word == "skip" and one.by == by)
        return [row for row in own if row in self.rows and self.answered(row) is None]

    def open(self, by: str, order: Sequence[str] = ()) -> list[str]:
        """Rows that a person may be asked about.

        Args:
            by: who.
            order: rows that come first; the others follow in the file's order.
        """
        done = self.labelled.keys() | set(self.unfit) | set(self.skipped(by))
        return [row for row in dict.fromkeys([*order, *self.rows]) if row in self.rows and row not in done]

    def turn(self, by: str, order: Sequence[str] = (), now: datetime | None = None) -> list[str]:
        """The open rows, those first that no one else who labels at the moment is asked about."""
        left, now = self.open(by, order), now or datetime.now(UTC)
        recent = (one.by for one in (*self.examples, *self.marks) if one.at is not None and now - one.at < _BESIDE)
        people = sorted({by, *recent})
        if len(people) == 1:
            return left
        place = people.index(by)
        return sorted(left, key=lambda row: int(row[:8], 16) % len(people) != place)

    def last(self, by: str) -> Said | None:
        """The last word of a person that can be taken back; None without."""
        own = [one for one in (*self.examples, *self.marks) if one.by == by and one.at and one.row in self.rows]
        return max(own, key=lambda one: one.at or datetime.min, default=None)

    def sitting(self, by: str, now: datetime | None = None) -> int:
        """How many labels a person gave without a pause of half an hour, until now."""
        times = sorted((one.at for one in self.examples if one.by == by and one.at is not None), reverse=True)
        count, later = 0, now or datetime.now(UTC)
        for time in times:
            if later - time > _PAUSE:
                break
            count, later = count + 1, time
        return count


def key_of(recipe: Recipe, values: Mapping[str, Any]) -> str:
    """What tells a row from others: what the prompt shows of it, whatever its id, case and spacing.

    Args:
        recipe: names the fields.
        values: of the row, under our names.
    """
    shown: dict[str, Any] = {}
    for name in (*recipe.fields, *recipe.spec.beside):
        value = values.get(name)
        if is_missing(value):
            continue
        if name in recipe.data.item_fields or name in recipe.spec.beside:
            parts = value if isinstance(value, list | tuple) else [value]
            shown[name] = [as_id(part) or str(part) for part in parts]
        else:
            shown[name] = normalised(value) if isinstance(value, str) else value
    return content_digest(shown)[:_KEY]


def marks_file(recipe: Recipe) -> str:
    """The file of what was said of rows that are no examples."""
    return f"{recipe.name}.labeling.jsonl"


def file_row(recipe: Recipe, row: Example, **more: Any) -> dict[str, Any]:
    """A row as its merchant's files have it, under their own names.

    Args:
        recipe: maps the names.
        row: as it was read.
        more: further values, None included.
    """
    values: dict[str, Any] = {"id": row.id, **row.fields, "group": row.group, "at": row.at}
    values["weight"] = row.weight if row.weight != 1 else None
    if row.candidates is not None:
        values["candidates"] = list(row.candidates)
    known = {name: value for name, value in values.items() if value is not None} | more
    return {recipe.data.columns.get(name, name): value for name, value in known.items()}


def check_appendable(recipe: Recipe, file: str) -> None:
    """Make sure that rows can be added to a file.

    Raises:
        DataError: if it is of a kind that is not written.
    """
    if not file.endswith((".jsonl", ".json")) or recipe.data.encoding != "utf-8":
        raise DataError(
            f"{file} cannot be added to (allowed: JSON lines in UTF-8)",
            next_step="convert it to a .jsonl file, and name that in the recipe's `data` section",
        )


@contextmanager
def held(merchant: Merchant) -> Iterator[None]:
    """Nobody else writes what people say of this merchant's rows, in whatever process."""
    try:
        with (merchant.folder / ".labeling.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise DataError(
            f"{merchant.folder} cannot be written: {error.strerror}", next_step="let this user write there"
        ) from error


def give(merchant: Merchant, recipe: Recipe, state: Labeling, row: str, answer: Any, by: str) -> None:
    """Add a row with its answer to the example file; for use while `held`.

    Args:
        merchant: whose kept folder it is.
        recipe: that the row is labelled for.
        state: as it stands; the row is open.
        row: its key.
        answer: as the example file has it.
        by: who says so.

    Raises:
        DataError: if it cannot be written.
    """
    check_appendable(recipe, recipe.data.file)
    example = state.rows[row]
    taken, number, id_ = {one.id for one in state.examples}, 1, example.id
    while id_ in taken:
        number += 1
        id_ = f"{example.id}-{number}"
    said = {recipe.spec.answer: answer, BY: by, AT: datetime.now(UTC).isoformat()}
    write_rows(merchant, recipe.data.file, [file_row(recipe, replace(example, id=id_), **said)], append=True)


def mark(merchant: Merchant, recipe: Recipe, row: str, word: Word, by: str) -> None:
    """Keep that a row is skipped, or that no label fits it; for use while `held`."""
    line = {_ROW: row, _WORD: word, BY: by, AT: datetime.now(UTC).isoformat()}
    write_rows(merchant, marks_file(recipe), [line], append=True)


def undo(merchant: Merchant, recipe: Recipe, said: Said) -> bool:
    """Take a word back; for use while `held`. Whether it was there."""
    known = {BY: said.by, AT: said.at.isoformat() if said.at else ""}
    if said.word == "label":
        return take_back(merchant, recipe.data.file, known | {recipe.data.columns.get("id", "id"): said.id})
    return take_back(merchant, marks_file(recipe), known | {_ROW: said.row, _WORD: said.word})


def said_of(recipe: Recipe, values: Mapping[str, Any]) -> Said | None:
    """What a row of the example file says, given under our names; None if it has no answer."""
    answer = values.get(recipe.spec.answer)
    if is_missing(answer):
        return None
    by, id_ = values.get(BY), as_id(values.get("id")) or ""
    return Said(key_of(recipe, values), "label", answer, by if isinstance(by, str) else "", _time(values.get(AT)), id_)


def marks_of(rows: Sequence[Mapping[str, Any]]) -> list[Said]:
    """What lines of the file of marks say; those that cannot be read are passed over."""
    found = []
    for values in rows:
        row, word, by, at = (values.get(name) for name in (_ROW, _WORD, BY, AT))
        if isinstance(row, str) and isinstance(by, str) and word in ("none", "skip"):
            found.append(Said(row, word, None, by, _time(at)))
    return found


def _time(value: Any) -> datetime | None:
    try:
        read = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)
