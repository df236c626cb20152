import math
from collections.abc import Callable

import pytest

from shopfit.evaluation import Interval, SystemResult, Verdict, decide
from shopfit.evaluation.evidence import Evidence
from shopfit.evaluation.gate import leads
from shopfit.recipe.schema import Recipe
from shopfit.recipe.tasks import METRICS

MakeRecipe = Callable[..., Recipe]
NAN = math.nan


def rows(metric: str, base: float, adapter: float, *priors: float, baseline: float | None = None) -> list[SystemResult]:
    found = [("base", "base", base), ("adapter", "adapter", adapter)]
    found += [(f"prior{place}", "prior", value) for place, value in enumerate(priors)]
    found += [("bm25", "baseline", baseline)] if baseline is not None else []
    return [SystemResult(name, kind, {metric: Interval(value, value, value)}) for name, kind, value in found]  # type: ignore[arg-type]


def evidence(
    found: list[SystemResult], metric: str, give: float = 0.0, *, groups: int = 100, telling: int = 50, wanted: int = 6
) -> dict[str, Evidence]:
    """Of rows by which each gain is sure to within `give`."""
    adapter = next(row for row in found if row.kind == "adapter").metrics[metric].value
    said = {}
    for row in found:
        lead = METRICS[metric].gain(adapter, row.metrics[metric].value)
        interval = Interval(lead, lead - give, lead + give)
        spread = give / 1.96 * groups**0.5
        said[row.name] = Evidence(interval, interval.low, groups, groups, telling, wanted, spread)
    return said


def judged(found: list[SystemResult], recipe: Recipe, **given: float) -> Verdict:
    return decide(found, recipe, evidence(found, recipe.evaluate.metric, **given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "base", "adapter", "prior", "least", "promote"),
    [
        ("accuracy", 0.5, 0.8, 0.6, 0.0, True),
        ("accuracy", 0.8, 0.8, 0.6, 0.0, False),  # a tie with the base loses
        ("accuracy", 0.5, 0.8, 0.8, 0.0, False),  # and one with a prior
        ("accuracy", 0.5, 0.7, 0.8, 0.0, False),
        ("accuracy", 0.9, 0.8, 0.6, 0.0, False),
        ("accuracy", 0.5, 0.8, 0.7, 0.1, False),  # exactly min_gain is a tie; 0.8 - 0.7 is 0.10000000000000009
        ("accuracy", 0.5, 0.8, 0.7, 0.09, True),
        ("log_loss", 0.9, 0.4, 0.7, 0.0, True),  # lower is better
        ("log_loss", 0.4, 0.9, 0.7, 0.0, False),
        ("log_loss", 0.9, 0.6, 0.7, 0.1, False),
        ("ece", 0.2, 0.1, 0.15, 0.0, True),
        ("auc", NAN, 0.9, 0.5, 0.0, False),
        ("auc", 0.5, NAN, 0.5, 0.0, False),
        ("auc", 0.5, 0.9, NAN, 0.0, False),
    ],
)
def test_who_passes(
    make_recipe: MakeRecipe, metric: str, base: float, adapter: float, prior: float, least: float, promote: bool
) -> None:
    verdict = judged(rows(metric, base, adapter, prior), make_recipe("choose", metric, least))
    assert verdict.promote is promote
    assert verdict.reason.startswith("The adapter may be" if promote else "The adapter is not promoted")
    assert verdict.reason.endswith(".")
    assert metric in verdict.reason


def test_the_reason_has_the_numbers(make_recipe: MakeRecipe) -> None:
    assert judged(rows("ndcg@k", 0.301, 0.412, 0.21), make_recipe("rank")) == Verdict(
        True,
        "The adapter may be promoted: its ndcg@10 of 0.412 beats the base (0.301, a gain of +0.111 [+0.111, +0.111]) "
        "and the prior prior0 (0.210, a gain of +0.202 [+0.202, +0.202]).",
    )
    assert judged(rows("ndcg@k", 0.3, 0.4, 0.2, 0.45), make_recipe("rank", min_gain=0.01)) == Verdict(
        False,
        "The adapter is not promoted: its ndcg@10 of 0.400 does not beat the prior prior1 (0.450, a gain of -0.050) "
        "by more than the 0.010 that gate.min_gain asks for.",
    )


def test_every_prior_must_be_beaten(make_recipe: MakeRecipe) -> None:
    assert not judged(rows("accuracy", 0.5, 0.8, 0.6, 0.9), make_recipe("choose", "accuracy")).promote
    assert judged(rows("accuracy", 0.5, 0.8, 0.6, 0.7), make_recipe("choose", "accuracy")).promote


@pytest.mark.parametrize(("baseline", "told"), [(0.9, True), (0.8, False), (0.7, False), (NAN, False)])
def test_a_better_baseline_does_not_stop_it_but_is_told(make_recipe: MakeRecipe, baseline: float, told: bool) -> None:
    verdict = judged(rows("accuracy", 0.5, 0.8, 0.6, baseline=baseline), make_recipe("choose", "accuracy"))
    assert verdict.promote
    assert ("the simple baseline bm25 (0.900) does better still" in verdict.reason) is told


def test_a_gain_that_may_be_chance_makes_a_candidate(make_recipe: MakeRecipe) -> None:
    found, recipe = rows("accuracy", 0.5, 0.8, 0.6), make_recipe("choose", "accuracy")
    assert judged(found, recipe, give=0.19).promote
    verdict = judged(found, recipe, give=0.25)
    assert (verdict.promote, verdict.candidate, verdict.refused) == (False, True, False)
    assert verdict.reason == (
        "The adapter is a candidate: its accuracy of 0.800 beats the base (0.500, a gain of +0.300 [+0.050, +0.550]) "
        "and the prior prior0 (0.600, a gain of +0.200 [-0.050, +0.450]), but 100 test rows do not prove it over the "
        "prior prior0. About 319 test rows would decide if the gain is what it seems to be; till then it can be "
        "promoted by hand."
    )
    assert verdict.rows_to_decide == 319
    asked = make_recipe("choose", "accuracy", 0.1)
    assert judged(found, asked, give=0.05).promote
    assert judged(found, asked, give=0.15).candidate  # above nothing, but not above what is asked for
    assert judged(found, make_recipe("choose", "accuracy", 0.2), give=0.01).refused


def test_an_interval_without_ends_proves_nothing(make_recipe: MakeRecipe) -> None:
    found, recipe = rows("auc", 0.5, 0.8, 0.6), make_recipe("choose", "auc")
    assert judged(found, recipe, give=NAN).candidate


def test_few_rows_prove_nothing_whatever_their_interval_says(make_recipe: MakeRecipe) -> None:
    found, recipe = rows("accuracy", 0.5, 1, 0.5), make_recipe("choose", "accuracy")
    assert judged(found, recipe, groups=6, telling=6).promote
    one = judged(found, recipe, groups=1, telling=1)
    assert one.candidate
    assert "1 test row does not prove it over the base and the prior prior0" in one.reason
    assert "Fewer than 6 prove nothing. About 6 test rows would decide" in one.reason
    few = judged(found, recipe, groups=40, telling=5)
    assert "Fewer than 6 of them tell the two apart. About 48 test rows" in few.reason
    assert judged(found, recipe, groups=19, telling=19, wanted=20).candidate


def test_answers_from_cross_validation_may_prove_what_test_rows_do_not(make_recipe: MakeRecipe) -> None:
    found, recipe = rows("accuracy", 0.5, 0.8, 0.6), make_recipe("choose", "accuracy")
    tested = evidence(found, "accuracy", 0.25, groups=20, telling=10)
    verdict = decide(found, recipe, tested, evidence(found, "accuracy", 0.1, groups=60))
    assert verdict.promote
    assert verdict.reason.endswith(
        "20 test rows do not prove that alone, but together with 40 answers from cross-validation: a gain of +0.200 "
        "[+0.100, +0.300] over the prior prior0."
    )
    verdict = decide(found, recipe, tested, evidence(found, "accuracy", 0.21, groups=60))
    assert verdict.candidate
    assert (
        "20 test rows do not prove it over the prior prior0, nor with 40 answers from cross-validation."
        in verdict.reason
    )


def test_worse_is_refused_whatever_cross_validation_says(make_recipe: MakeRecipe) -> None:
    found, recipe = rows("accuracy", 0.9, 0.8, 0.6), make_recipe("choose", "accuracy")
    better = evidence(rows("accuracy", 0.5, 0.8, 0.6), "accuracy")
    assert decide(found, recipe, evidence(found, "accuracy"), better).refused


def test_undefined_names_who_and_what_would_help(make_recipe: MakeRecipe) -> None:
    reason = judged(rows("auc", NAN, NAN, 0.5), make_recipe("choose", "auc")).reason
    assert "auc is undefined for the base and the adapter" in reason or "the adapter and the base" in reason
    assert "larger test set" in reason


def test_a_report_without_base_or_prior_is_a_mistake(make_recipe: MakeRecipe) -> None:
    for wrong in (rows("accuracy", 0.5, 0.8), rows("accuracy", 0.5, 0.8, 0.6)[1:], rows("accuracy", 0.5, 0.8, 0.6) * 2):
        with pytest.raises(ValueError, match="a report has"):
            judged(wrong, make_recipe("choose", "accuracy"))


def test_leaders_share_their_mark_unless_all_are_equal() -> None:
    found = rows("ece", 0.2, 0.1, 0.1, NAN)
    assert [leads(row, found, "ece") for row in found] == [False, True, True, False]
    equal = rows("accuracy", 1, 1, 1)
    assert not any(leads(row, equal, "accuracy") for row in equal)
