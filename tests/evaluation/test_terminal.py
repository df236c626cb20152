import io

from rich.console import Console

from shopfit.evaluation import Report, show
from shopfit.evaluation.report import Searched


def printed(report: Report, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_number_is_there_at_80_columns(report: Report) -> None:
    text = printed(report, width=80)
    assert "…" not in text
    for row in report.systems:
        line = next(line for line in text.splitlines() if line.strip().startswith(row.name))
        for interval in row.metrics.values():
            assert f"{interval.value:.3f}" in line
            assert f"{interval.low:.2f}-{interval.high:.2f}".replace("0.", ".") in text


def test_the_best_of_each_column_is_marked(report: Report) -> None:
    lines = {line.split()[0]: line for line in printed(report).splitlines() if line.strip()}
    assert lines["adapter"].count("★") == 5  # all but the calibration, where the majority's 0.6 is nearer
    assert lines["base"].count("★") == 0


def test_gains_leaks_and_verdict_are_told(report: Report) -> None:
    text = " ".join(printed(report).split())
    assert "crema/r choose, 86 training rows, 60 test rows (fixed)" in text
    assert f"macro_f1 over the base: +{report.gain_over_base.value:.3f} [+" in text
    assert f"macro_f1 over the prior majority: +{report.gain_over_prior.value:.3f} [+" in text
    assert "duplicates 2, near duplicates 1" in text
    assert "shared groups" not in text
    assert f"✓ {report.verdict.reason}" in text


def test_brackets_in_names_are_not_taken_for_styles(report: Report) -> None:
    assert "[red]x" in printed(report.model_copy(update={"recipe": "[red]x"}))


def test_a_search_is_told_with_what_it_chose_and_what_the_recipe_had_reached(report: Report) -> None:
    assert "Searched" not in printed(report)
    searched = Searched(
        trials=12, pruned=3, folds=3, chosen={"adapter.method": "adalora", "tune.lr": 0.002}, loss=0.3, own_loss=0.4
    )
    assert (
        "Searched for settings: adapter.method adalora, tune.lr 0.002, the best of 12 tried in 3-fold "
        "cross-validation, 3 given up early: loss 0.300, the recipe's own settings 0.400"
    ) in " ".join(printed(report.model_copy(update={"searched": searched})).split())
