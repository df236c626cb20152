"""`shopfit curve` from the command line."""

import json
from pathlib import Path

from rich.console import Console
from tests.cli.conftest import Run

from shopfit.cli.curve import table
from shopfit.evaluation.learning_curve import LearningCurve


def test_a_curve_is_json_a_picture_and_a_table(run: Run, shop: Path, tmp_path: Path) -> None:
    asked = ["acme", str(shop / "sentiment.yaml"), "--data", str(shop), "--seeds", "2", "--set", "tune.epochs=1"]
    out = tmp_path / "mine.png"
    done = run("curve", *asked, "--shots", "0,4", "--json", "--out", str(out))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document.pop("picture") == str(out)
    assert out.read_bytes().startswith(b"\x89PNG")
    curve = LearningCurve.model_validate(document)
    assert [point.shots for point in curve.points] == [0, 4]
    console = Console(width=80)
    with console.capture() as captured:
        console.print(table(curve))
    lines = {line.split()[0]: line.split() for line in captured.get().splitlines() if line.strip()}
    assert lines["examples"] == ["examples", "0", "4"]
    base, majority = curve.points[0].of("base"), curve.points[1].of("majority")
    assert base is not None
    assert majority is not None
    assert lines["base"] == ["base", *[f"{base.mean:.3f}"] * 2]
    assert lines["majority"] == ["majority", "-", f"{majority.mean:.3f}"]


def test_bad_options_are_found_before_anything_is_trained(run: Run, shop: Path, tmp_path: Path) -> None:
    asked = ["acme", str(shop / "sentiment.yaml"), "--data", str(shop)]
    for options, said in (
        (["--shots", "4,-1"], "'4,-1' is no list of whole numbers"),
        (["--shots", "4,,8"], "'4,,8' is no list of whole numbers"),
        (["--shots", "nan"], "'nan' is no list of whole numbers"),
        (["--shots", "9" * 5000], "is no list of whole numbers"),
        (["--shots", ""], "'' is no list of whole numbers"),
        (["--shots", "4,eight"], "'4,eight' is no list of whole numbers"),
        (["--out", str(tmp_path / "curve.jpg")], "is not the name of a PNG"),
        (["--out", str(tmp_path / "nowhere" / "curve.png")], "nothing can be written to the folder"),
    ):
        done = run("curve", *asked, *options)
        assert done.returncode == 2, options
        assert said in done.stderr
        assert "Next: " in done.stderr
