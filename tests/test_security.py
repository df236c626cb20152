"""Every promise of SECURITY.md names tests that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = re.compile(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`")


def named() -> list[tuple[str, str]]:
    found, file = [], ""
    for line in (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines():
        for path, test in NAMES.findall(line):
            file = path or file
            found.append((file, test))
    return found


@pytest.mark.parametrize(("file", "test"), named())
def test_a_promise_has_its_test(file: str, test: str) -> None:
    source = (ROOT / file).read_text(encoding="utf-8")
    assert f"def {test}(" in source if test else "def test_" in source


def test_every_row_has_a_test() -> None:
    tables = (ROOT / "SECURITY.md").read_text(encoding="utf-8").partition("## To every merchant")[2]
    rows = [
        line for line in tables.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "| ---"))
    ]
    assert len(rows) > 20
    assert all(NAMES.search(row) for row in rows)
