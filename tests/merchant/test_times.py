from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfit.merchant.times import settle_times


@pytest.mark.parametrize(
    ("column", "first"),
    [
        (["2026-05-01T12:00:00Z"], "2026-05-01T12:00:00Z"),
        (["2025-12-31 10:00"], "2025-12-31 10:00"),
        ([20251231], "20251231"),
        ([1700000000], "2023-11-14T22:13:20+00:00"),
        (["1700000000"], "2023-11-14T22:13:20+00:00"),
        ([1700000000000], "2023-11-14T22:13:20+00:00"),
        ([1700000000.5], "2023-11-14T22:13:20.500000+00:00"),
        ([1700000000000000], "2023-11-14T22:13:20+00:00"),
        (["Fri, 27 Nov 2026 02:05:23 +0100"], "2026-11-27T02:05:23+01:00"),
        (["31.12.2025", "01.02.2025"], "2025-12-31"),
        (["31.12.2025 14:30"], "2025-12-31T14:30:00"),
        (["1/2/2025", "12/31/2025"], "2025-01-02"),
        (["1/2/2025", "31/12/2025"], "2025-02-01"),
        (["1/2/2025 2:30 PM", "12/31/2025"], "2025-01-02T14:30:00"),
        (["2025/12/31"], "2025-12-31"),
        (["3/3/2025"], "2025-03-03"),
    ],
)
def test_forms(column: list[Any], first: str) -> None:
    form = settle_times(column)
    assert not form.doubtful
    assert form.read(column[0]) == first


@pytest.mark.parametrize("column", [["1/2/2025", "3/4/2025"], ["01-02-2025"]])
def test_day_and_month_that_cannot_be_told_apart(column: list[str]) -> None:
    assert settle_times(column).doubtful == column[0]


@pytest.mark.parametrize(
    "value",
    [
        *[
            5,
            -1,
            True,
            10**30,
            1e300,
            float("inf"),
            float("nan"),
            "9999-12-31",
            "0001-01-01T00:00:00+23:59",
            "31.02.2025",
        ],
        *["May", "99999999999999999999", "12/31/0025", "32.01.2025", "x" * 10_000, [1], {"a": 1}],
    ],
)
def test_out_of_range_or_no_time(value: Any) -> None:
    assert settle_times([value]).read(value) is None


def test_one_kind_a_column() -> None:
    form = settle_times([1700000000, 1700000001, "2025-01-01"])
    assert form.read("2025-01-01") is None
    assert form.read(1700000000) is not None


@given(st.one_of(st.integers(), st.floats(), st.text(max_size=40), st.booleans(), st.none(), st.datetimes().map(str)))
def test_nothing_overflows(value: Any) -> None:
    read = settle_times([value]).read(value)
    assert read is None or isinstance(read, str)
