import math

import pytest

from shopfit.evaluation import Interval
from shopfit.evaluation.wording import arrow, metric_name, number, signed, signed_with_span, span


@pytest.mark.parametrize(
    ("value", "plain", "with_sign"),
    [(0.12345, "0.123", "+0.123"), (-0.5, "-0.500", "-0.500"), (-0.0001, "-0.000", "0.000"), (math.nan, "n/a", "n/a")],
)
def test_numbers(value: float, plain: str, with_sign: str) -> None:
    assert number(value) == plain
    assert signed(value) == with_sign


def test_intervals_and_what_has_none() -> None:
    assert span(Interval(0.5, 0.4, 0.6)) == "0.400-0.600"
    assert signed_with_span(Interval(0.1, -0.1, 0.2)) == "+0.100 [-0.100, +0.200]"
    assert span(Interval(0.5, math.nan, math.nan)) == "n/a"
    assert signed_with_span(Interval(0.5, math.nan, math.nan)) == "+0.500"


def test_metrics_show_their_cut_off_and_direction() -> None:
    assert [metric_name(name, 5) for name in ("ndcg@k", "mrr")] == ["ndcg@5", "mrr"]
    assert [arrow(name) for name in ("ece", "auc")] == [" ↓", ""]
