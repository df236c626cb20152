import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shopfit.errors import BundleError
from shopfit.evaluation import (
    ChoosePredictions,
    Contender,
    Report,
    bootstrap,
    make_report,
    measure,
    paired_difference,
)
from shopfit.evaluation.report import Held, Sources
from shopfit.recipe.schema import Recipe
from shopfit.recipe.tasks import TASKS

MakeRecipe = Callable[..., Recipe]
GOLD = np.array([0, 1, 0, 1, 1, 0])
FEW = Sources("crema", 10, "held out")


def answers(wrong: float) -> ChoosePredictions:
    right = np.full(6, 1 - wrong)
    right[0] = 0.4
    return ChoosePredictions(("no", "yes"), np.where(np.eye(2)[GOLD] == 1, right[:, None], 1 - right[:, None]), GOLD)


def contenders() -> list[Contender]:
    return [
        Contender("base", "base", answers(0.6)),
        Contender("adapter", "adapter", answers(0.1)),
        Contender("majority", "prior", answers(0.5)),
        Contender("like-rate", "prior", answers(0.3)),
    ]


def test_a_report_measures_every_contender_and_compares(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("choose", "log_loss")
    groups = ["a", "a", "b", "b", None, None]
    made = make_report(recipe, Held(contenders(), groups), FEW)
    assert [row.name for row in made.systems] == ["base", "adapter", "majority", "like-rate"]
    assert made.adapter.name == "adapter"
    assert {row.name: list(row.metrics) for row in made.systems} == {
        one.name: list(TASKS["choose"].metric_names) for one in contenders()
    }
    expected = measure(answers(0.1), TASKS["choose"].metric_names)
    assert {name: one.value for name, one in made.adapter.metrics.items()} == pytest.approx(expected)
    assert made.adapter.metrics["accuracy"] == bootstrap(answers(0.1), "accuracy", 10, groups, 200, 7)
    assert (made.n_test, made.n_train, made.task, made.metric) == (6, 10, "choose", "log_loss")
    assert made.best_prior == "like-rate"
    assert made.verdict.candidate  # better, but six rows of four shoppers prove nothing


def test_gains_are_positive_where_the_adapter_is_better_also_if_lower_is_better(make_recipe: MakeRecipe) -> None:
    made = make_report(make_recipe("choose", "log_loss"), Held(contenders()), FEW)
    assert made.gain_over_base == paired_difference(answers(0.6), answers(0.1), "log_loss", resamples=200, seed=7)
    assert made.gain_over_base.value > 0
    assert made.gain_over_prior.value == pytest.approx(5 / 6 * (math.log(0.9) - math.log(0.7)))
    upward = make_report(make_recipe("choose", "accuracy"), Held(contenders()), FEW)
    assert upward.gain_over_base.value == pytest.approx(5 / 6)


def longer(wrong: int, rows: int = 12) -> ChoosePredictions:
    """The first `wrong` rows are."""
    gold = np.arange(rows) % 2
    chosen = np.where(np.arange(rows) < wrong, 1 - gold, gold)
    return ChoosePredictions(("no", "yes"), np.where(np.eye(2)[chosen] == 1, 0.8, 0.2), gold)


def test_cross_validation_is_asked_only_where_the_test_set_does_not_decide(make_recipe: MakeRecipe) -> None:
    recipe, asked = make_recipe("choose", "accuracy"), []

    def made(rows: int, right: int) -> Report:
        def held_out() -> Held:
            asked.append(rows)
            half, most = longer(12, 24), longer(1, 24)
            return Held(
                [
                    Contender("base", "base", half),
                    Contender("adapter", "adapter", most),
                    Contender("majority", "prior", half),
                ]
            )

        return make_report(
            recipe,
            Held(
                [
                    Contender("base", "base", longer(rows - right, rows)),
                    Contender("adapter", "adapter", longer(0, rows)),
                    Contender("majority", "prior", longer(rows - right, rows)),
                    Contender("minilm-logreg", "baseline", longer(1, rows)),
                ]
            ),
            Sources("crema", 24, "held out"),
            held_out=held_out,
        )

    sure = made(40, 10)
    assert (sure.verdict.promote, sure.n_held_out, asked) == (True, 0, [])
    few = made(4, 1)
    assert (few.verdict.promote, few.n_held_out, few.n_test, asked) == (True, 24, 4, [4])
    assert "4 test rows do not prove that alone, but together with 24 answers" in few.verdict.reason
    assert Report.from_json(few.to_json()) == few
    worse = made(4, 4)
    assert worse.verdict.refused
    assert asked == [4]


def test_a_report_of_before_candidates_is_read(report: Report) -> None:
    document = json.loads(report.to_json())
    del document["n_held_out"], document["verdict"]["candidate"], document["verdict"]["rows_to_decide"]
    assert Report.from_json(json.dumps(document)) == report


def test_it_comes_back_from_json_as_it_was(report: Report) -> None:
    assert Report.from_json(report.to_json()) == report
    assert json.loads(report.to_json())["verdict"]["promote"] is True


def test_what_is_undefined_is_null_in_json_and_comes_back_as_nan(make_recipe: MakeRecipe) -> None:
    one_class = ChoosePredictions(("no", "yes"), np.full((4, 2), 0.5), np.zeros(4, np.int64))
    rows = [Contender(one.name, one.kind, one_class) for one in contenders()]
    made = make_report(make_recipe("choose", "auc"), Held(rows), Sources("crema", 10, "fixed"))
    assert not made.verdict.promote
    assert "NaN" not in made.to_json()
    assert json.loads(made.to_json())["systems"][0]["metrics"]["auc"] == {"value": None, "low": None, "high": None}
    again = Report.from_json(made.to_json())
    assert math.isnan(again.gain_over_base.value)
    assert again.to_json() == made.to_json()


@pytest.mark.parametrize("content", ["", "{}", '{"merchant": 1}', "[1, 2]"])
def test_what_is_no_report_is_refused(content: str) -> None:
    with pytest.raises(BundleError, match=r"report\.json is not a report"):
        Report.from_json(content)


def test_a_field_that_is_unknown_is_named(report: Report) -> None:
    document = json.loads(report.to_json()) | {"colour": "red"}
    with pytest.raises(BundleError, match="colour"):
        Report.from_json(json.dumps(document))


def test_writing_leaves_report_and_picture(report: Report, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    report.write(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["report.json", "report.png"]
    assert Report.from_json((folder / "report.json").read_bytes()) == report
