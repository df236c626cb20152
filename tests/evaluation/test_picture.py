import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shopfit.evaluation import CurvePoint, Interval, Report, SystemResult, plot


def pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return np.asarray(imread(path))


def test_it_is_a_picture_with_ink_on_both_halves(report: Report, tmp_path: Path) -> None:
    plot(report, tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    picture = pixels(tmp_path / "report.png")
    assert picture.shape == (750, 1725, 4)
    for half in (picture[:, :700, :3], picture[:, 800:, :3]):
        assert (half < 0.6).any(-1).mean() > 0.005


def test_a_better_adapter_has_a_longer_bar(report: Report, tmp_path: Path) -> None:
    def green(value: float) -> int:
        metrics = {"macro_f1": Interval(value, value - 0.01, value + 0.01)}
        systems = (
            SystemResult("base", "base", {"macro_f1": Interval(1, 1, 1)}),
            SystemResult("adapter", "adapter", metrics),
        )
        plot(report.model_copy(update={"systems": systems, "curve": ()}), tmp_path / "bar.png")
        return int(
            np.isclose(pixels(tmp_path / "bar.png")[..., :3], (0x0F / 255, 0x76 / 255, 0x6E / 255), atol=0.01)
            .all(-1)
            .sum()
        )

    assert green(0.8) / green(0.4) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(
    "curve",
    [
        (),
        (CurvePoint(epoch=1, train_loss=1.0),),
        (CurvePoint(epoch=1, train_loss=1.0, valid=0.5),),
        tuple(CurvePoint(epoch=epoch, train_loss=math.nan, valid=0.5) for epoch in range(1, 60)),
    ],
)
def test_any_learning_curve_can_be_drawn(report: Report, tmp_path: Path, curve: tuple[CurvePoint, ...]) -> None:
    plot(report.model_copy(update={"curve": curve}), tmp_path / "report.png")
    assert pixels(tmp_path / "report.png").shape[0] == 750


def test_undefined_numbers_can_be_drawn(report: Report, tmp_path: Path) -> None:
    nan = Interval(math.nan, math.nan, math.nan)
    half = Interval(0.5, math.nan, math.nan)
    for first in (nan, half):
        systems = (
            SystemResult("base", "base", {"macro_f1": first}),
            SystemResult("adapter", "adapter", {"macro_f1": nan}),
        )
        plot(report.model_copy(update={"systems": systems}), tmp_path / "report.png")
        assert pixels(tmp_path / "report.png").shape[0] == 750


def test_the_same_report_is_the_same_file(report: Report, tmp_path: Path) -> None:
    plot(report, tmp_path / "a.png")
    plot(report, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_pyplot_is_not_touched(report: Report, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(report.to_json())
    script = (
        "import sys; from pathlib import Path; from shopfit.evaluation import Report, plot;"
        "plot(Report.from_json(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]));"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path / "report.json"), str(tmp_path / "report.png")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
