"""How many examples are worth asking for, and the picture of it."""

import math
from pathlib import Path

import numpy as np
import pytest

from shopfit.evaluation.learning_curve import Advice, LearningCurve, Point, Standing, Step, advise, enough
from shopfit.evaluation.learning_curve_picture import plot_learning


def steps(*means: float, spread: float = 0.0) -> list[Step]:
    return [Step(4 * number, mean, spread) for number, mean in enumerate(means)]


@pytest.mark.parametrize(
    ("given", "metric", "wanted"),
    [
        (steps(0.5, 0.8, 0.805, 0.809), "accuracy", (4, False)),  # what follows is less than 0.01 better
        (steps(0.5, 0.8, 0.8, 0.82), "accuracy", (12, True)),
        (steps(0.5, 0.8, 0.82, 0.82), "accuracy", (8, False)),
        (steps(0.5, 0.8, 0.82, 0.83, spread=0.05), "accuracy", (4, False)),  # better, but not by the spread
        (steps(0.9, 0.8, 0.7), "accuracy", (0, False)),
        (steps(0.9, 0.5, 0.3), "log_loss", (8, True)),
        (steps(0.3, 0.5, 0.9), "log_loss", (0, False)),
        (steps(0.5), "accuracy", (0, False)),
        (steps(math.nan, 0.5, math.nan, 0.7), "accuracy", (12, True)),
        (steps(math.nan, math.nan), "accuracy", (0, False)),
        ([Step(4, 0.5, 0.4), Step(8, 0.8, 0.02)], "accuracy", (8, True)),  # that few examples sway is no excuse
    ],
)
def test_the_smallest_number_that_no_larger_one_beats(given: list[Step], metric: str, wanted: tuple[int, bool]) -> None:
    assert enough(given, metric) == wanted


def point(shots: int, adapter: list[float], baseline: list[float] | None = None) -> Point:
    systems = [Standing.of("base", "base", [0.4]), Standing.of("adapter", "adapter", adapter)]
    if baseline is not None:
        systems.append(Standing.of("minilm-logreg", "baseline", baseline))
    return Point(shots=shots, systems=tuple(systems))


def curve(*points: Point) -> LearningCurve:
    return LearningCurve(
        merchant="crema",
        recipe="r",
        task="choose",
        metric="accuracy",
        k=10,
        n_test=60,
        available=20,
        seeds=[7, 8],
        without="base",
        points=points,
        advice=advise(points, "accuracy", 10, available=20),
        seconds=1.0,
    )


RISING = (point(0, [0.4]), point(4, [0.5, 0.7], [0.8, 0.8]), point(20, [0.9, 0.9], [0.85, 0.85]))


def test_the_spread_is_the_standard_deviation_over_seeds() -> None:
    one = Standing.of("adapter", "adapter", [0.5, 0.7])
    assert one.mean == pytest.approx(0.6)
    assert one.spread == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert Standing.of("base", "base", [0.4]).spread == 0
    assert math.isnan(Standing.of("adapter", "adapter", [0.5, math.nan]).mean)


def test_the_advice_says_how_many_and_what_is_better_still() -> None:
    rising = advise(RISING, "accuracy", 10, available=20)
    assert (rising.shots, rising.rising) == (20, True)
    assert rising.text.startswith("Ask for more than 20 examples, all that there are: accuracy is 0.900")
    assert "minilm-logreg" not in rising.text
    flat = advise((point(4, [0.7, 0.7], [0.8, 0.8]), point(8, [0.7, 0.7], [0.9, 0.9])), "accuracy", 10, available=20)
    assert flat.text.startswith("Ask for 4 examples: accuracy is 0.700")
    assert flat.text.endswith("Mind that minilm-logreg (0.800) is better there.")
    assert "says nothing about more or fewer" in advise((point(4, [0.7]),), "accuracy", 10, available=20).text
    assert "undefined" in advise((point(4, [math.nan]),), "auc", 10, available=20).text


def test_it_comes_back_from_json() -> None:
    made = curve(*RISING)
    assert LearningCurve.model_validate_json(made.model_dump_json()) == made
    assert made.names == [("base", "base"), ("adapter", "adapter"), ("minilm-logreg", "baseline")]


def test_the_picture_shows_every_system_and_is_the_same_each_time(tmp_path: Path) -> None:
    from matplotlib.image import imread

    def ink(made: LearningCurve, colour: str) -> int:
        plot_learning(made, tmp_path / "curve.png")
        picture = np.asarray(imread(tmp_path / "curve.png"))
        assert picture.shape == (750, 1350, 4)
        wanted = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        return int(np.isclose(picture[..., :3], wanted, atol=0.01).all(-1).sum())

    whole = curve(*RISING)
    assert ink(whole, "#93a4b8") > 300
    assert ink(whole, "#0f766e") > 300
    first = (tmp_path / "curve.png").read_bytes()
    without = curve(*(Point(shots=one.shots, systems=one.systems[:2]) for one in RISING))
    assert ink(without, "#93a4b8") == 0
    plot_learning(whole, tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == first


def test_one_number_and_undefined_ones_can_be_drawn(tmp_path: Path) -> None:
    undefined = point(4, [math.nan])
    for points in ((point(0, [0.4]),), (undefined,), (point(0, [0.4]), undefined)):
        made = curve(*points)
        assert isinstance(made.advice, Advice)
        plot_learning(made, tmp_path / "curve.png")
        assert (tmp_path / "curve.png").stat().st_size > 1000
