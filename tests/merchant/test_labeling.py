"""What people say of rows: kept as rows of the example file, taken back without a trace, and shared among people."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.merchant.shop import recipe, shop

from shopfit.errors import DataError
from shopfit.merchant.examples import Example, load_examples
from shopfit.merchant.kept_folder import take_back
from shopfit.merchant.labeling import Labeling, Said, check_appendable, give, held, key_of, mark, said_of, undo

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def said(row: str, by: str, minutes: float, word: Any = "label") -> Said:
    return Said(row, word, "good", by, NOW - timedelta(minutes=minutes), row)


def rows_of(*texts: str) -> dict[str, Example]:
    task = recipe("choose")
    return {key_of(task, {"text": text}): Example(str(place), {"text": text}) for place, text in enumerate(texts)}


def test_a_label_is_an_example_and_goes_as_it_came(tmp_path: Path) -> None:
    before = '{"text": "a",   "label": "good", "id": "0"}\nnot JSON\n'
    merchant = shop(tmp_path, rows=[])
    (tmp_path / "rows.jsonl").write_text(before)
    task = recipe("choose", columns={"id": "number", "label": "verdict"})
    rows = rows_of("b", "c")
    state = Labeling(rows, [Said("elsewhere", "label", "good", id="0")], ())
    [first, _] = rows
    with held(merchant):
        give(merchant, task, state, first, "bad", "ann")
    added = json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[-1])
    assert added.pop("labeled_at")
    assert added == {"number": "0-2", "text": "b", "verdict": "bad", "labeled_by": "ann"}, "0 was taken"
    values = {"text": "b", "label": "bad", "id": "0-2", **json.loads(_last(tmp_path))}
    kept = said_of(task, values)
    assert kept is not None
    assert (kept.row, kept.by, kept.id) == (first, "ann", "0-2")
    assert not undo(merchant, task, replace(kept, by="bob"))
    assert undo(merchant, task, kept)
    assert (tmp_path / "rows.jsonl").read_text() == before
    assert not undo(merchant, task, kept)


def test_readers_take_who_and_when_and_no_prompt_shows_them(tmp_path: Path) -> None:
    merchant = shop(tmp_path, rows=[{"text": "a", "label": "good", "at": "03/14/2026"}])
    task, rows = recipe("choose"), rows_of("b")
    with held(merchant):
        give(merchant, task, Labeling(rows, (), ()), next(iter(rows)), "bad", "ann")
    examples = load_examples(merchant, task, "rows.jsonl", catalog=None, history=None)
    assert [(one.fields["text"], one.label) for one in examples] == [("a", "good"), ("b", "bad")]
    assert "labeled_by" not in task.fields


def test_the_only_row_goes_with_its_file(tmp_path: Path) -> None:
    merchant = shop(tmp_path)
    task = recipe("choose")
    mark(merchant, task, "k", "skip", "ann")
    [file] = tmp_path.glob("*.labeling.jsonl")
    assert take_back(merchant, file.name, {"row": "k"})
    assert not file.exists()
    assert not take_back(merchant, file.name, {"row": "k"})


def test_other_files_are_not_written(tmp_path: Path) -> None:
    for file in ("rows.csv", "rows.parquet"):
        with pytest.raises(DataError, match="cannot be added to"):
            check_appendable(recipe("choose"), file)


def test_what_is_left_follows_from_what_was_said() -> None:
    rows = rows_of("a", "b", "c", "d", "e")
    a, b, c, d, e = rows
    marks = [said(b, "ann", 3, "skip"), said(c, "bob", 2, "none"), said(a, "bob", 1, "skip")]
    state = Labeling(rows, [said(a, "ann", 40), said("gone", "ann", 1)], marks)
    assert state.open("ann") == [d, e]
    assert state.open("bob", [e, "unknown"]) == [e, b, d]
    assert state.skipped("bob") == []
    assert state.unfit == [c]
    last = state.last("ann")
    assert last is not None
    assert (last.row, last.word) == (b, "skip"), "of a row that is gone nothing is left to take back"
    assert state.sitting("ann", NOW) == 1
    assert state.sitting("nobody", NOW) == 0


def test_people_who_are_there_together_are_asked_about_different_rows() -> None:
    rows = rows_of(*map(str, range(40)))
    state = Labeling(rows, [said("x", "ann", 1), said("y", "bob", 2), said("z", "old", 60)], ())
    ann, bob = state.turn("ann", now=NOW), state.turn("bob", now=NOW)
    assert sorted(ann) == sorted(bob) == sorted(rows)
    assert not set(ann[:10]) & set(bob[:10])
    assert state.turn("ann", now=NOW + timedelta(hours=1)) == list(rows)


def test_case_and_spacing_make_no_other_row() -> None:
    task = recipe("choose")
    assert key_of(task, {"text": "A  b ", "id": 1}) == key_of(task, {"text": "a b", "channel": "web"})
    assert key_of(task, {"text": "a b"}) != key_of(task, {"text": "a c"})


def _last(folder: Path) -> str:
    return (folder / "rows.jsonl").read_text().splitlines()[-1]
