"""What pages are made of: messages in every language, files that stay what they were, numbers as people read them."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Formatter

import pytest

from shopfit.serve import console
from shopfit.serve.console import formats
from shopfit.serve.console.assets import PINNED, address, asset
from shopfit.serve.console.wording import LANGUAGES, Wording, catalog, language_of

FOLDER = Path(console.__file__).parent
SOURCES = [*sorted((FOLDER / "templates").glob("*.html")), *sorted(FOLDER.rglob("*.py"))]
KEY = re.compile(r"""\bt\(\s*f?['"]([a-z_]+\.[a-z0-9_.-]+)['"]\s*[,)]""")
MOST_SCRIPT = 120_000  # bytes, compressed


def values_in(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_every_message_is_there_in_every_language_with_the_same_values() -> None:
    for key, texts in catalog().items():
        assert texts.keys() == LANGUAGES.keys(), key
        assert all(text.strip() for text in texts.values()), key
        assert len({frozenset(values_in(text)) for text in texts.values()}) == 1, key


def test_every_message_that_a_page_names_is_in_the_catalog() -> None:
    named = {key: path.name for path in SOURCES for key in KEY.findall(path.read_text())}
    assert len(named) > 50
    assert {key: file for key, file in named.items() if key not in catalog()} == {}


def test_chinese_messages_are_chinese() -> None:
    plain = [key for key, texts in catalog().items() if not re.search(r"[\u3000-\u303f\u4e00-\u9fff]", texts["zh"])]
    assert [key for key in plain if catalog()[key]["zh"] != catalog()[key]["en"]] == []


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [("", "zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("", "de-DE,de;q=0.9", "en"), ("en", "zh-CN", "en"), ("xx", "", "en")],
)
def test_the_reader_is_spoken_to_in_a_language_of_theirs(chosen: str, accepted: str, language: str) -> None:
    assert language_of(chosen, accepted) == language
    assert Wording(language)("frame.fleet") == catalog()["frame.fleet"][language]


def test_scripts_are_small_and_what_others_wrote_has_its_licence() -> None:
    scripts = [path.name for path in (FOLDER / "assets").glob("*.js")]
    found = [asset(name) for name in scripts]
    assert all(one is not None for one in found), scripts
    assert sum(len(one.compressed) for one in found if one is not None) < MOST_SCRIPT
    assert PINNED.keys() <= {path.name for path in (FOLDER / "assets").iterdir()}
    assert {asset("htmx.LICENSE") is None, asset("uPlot.LICENSE") is None} == {False}
    assert asset("../assets.py") is None
    assert re.fullmatch(r"/console/assets/console\.css\?[0-9a-f]{12}", address("console.css"))


def test_numbers_and_times_are_written_as_people_read_them() -> None:
    now = datetime(2026, 11, 29, tzinfo=UTC)
    assert [formats.number(value) for value in (0.12345, None, float("nan"))] == ["0.123", formats.NONE, formats.NONE]
    assert [formats.size(value) for value in (12, 1500, 2.5e6, 3e9)] == ["12 B", "1.5 kB", "2.5 MB", "3.0 GB"]
    assert [formats.duration(value) for value in (4, 65, 3700)] == ["4 s", "1 min 5 s", "1 h 1 min"]
    assert [formats.ago(now - timedelta(seconds=value), now) for value in (5, 7200, 200_000)] == ["5 s", "2 h", "2 d"]
    assert [formats.duration(value, "zh") for value in (4, 65, 3700)] == ["4 秒", "1 分钟 5 秒", "1 小时 1 分钟"]
    assert formats.ago(now - timedelta(days=40), now, "zh") == "1 个月"
    assert [formats.direction(text) for text in ("شاي", "tea", "123", "12 شاي")] == ["rtl", "ltr", "ltr", "rtl"]
