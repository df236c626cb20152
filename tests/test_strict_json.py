"""JSON that has one meaning is read; what has two, or none, says why."""

from typing import Any

import pytest

from shopfit.strict_json import DEEPEST, parse_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": [1, 2.5, null, true, "\xc3\xa4"]}', {"a": [1, 2.5, None, True, "ä"]}),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        (" 5 ", 5),
        ("[" * DEEPEST + "]" * DEEPEST, None),
        ('["' + "[" * 1000 + '"]', ["[" * 1000]),
    ],
)
def test_what_is_read(text: str | bytes, value: Any) -> None:
    assert value in (None, parse_json(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ("{'a': 1}", "Expecting property name"),
        ("[NaN]", "NaN is no number in JSON"),
        ("[-Infinity]", "-Infinity is no number"),
        ("[1e999]", "1e999 is too large a number"),
        ("[" + "9" * 5000 + "]", "4300 digits"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' stands there twice"),
        ('["\\ud800"]', "half of a character"),
        ('["\ud800"]', "half of a character"),
        (b'["\xff"]', "byte 2 is not UTF-8"),
        (b"\xff\xfe1\x00", "byte 0 is not UTF-8"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "nested too deeply"),
        ('{"a":' * 500 + "1" + "}" * 500, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_refused(text: str | bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_json(text)
