import math
from collections.abc import Callable

import pytest

from shopfit.evaluation import Interval, SystemResult, Verdict, decide
from shopfit.evaluation.gate import leads
from shopfit.recipe.schema import Recipe

MakeRecipe = Callable[..., Recipe]
NAN = math.nan


def rows(metric: str, base: float, adapter: float, *priors: float, baseline: float | None = None) -> list[SystemResult]:
    found = [("base", "base", base), ("adapter", "adapter", adapter)]
    found += [(f"prior{place}", "prior", value) for place, value in enumerate(priors)]
    found += [("bm25", "baseline", baseline)] if baseline is not None else []
    return [SystemResult(name, kind, {metric: Interval(value, value, value)}) for name, kind, value in found]  # type: ignore[arg-type]


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
    verdict = decide(rows(metric, base, adapter, prior), make_recipe("choose", metric, least))
    assert verdict.promote is promote
    assert verdict.reason.startswith("The adapter may be" if promote else "The adapter is not promoted")
    assert verdict.reason.endswith(".")
    assert metric in verdict.reason


def test_the_reason_has_the_numbers(make_recipe: MakeRecipe) -> None:
    assert decide(rows("ndcg@k", 0.301, 0.412, 0.21), make_recipe("rank")) == Verdict(
        True,
        "The adapter may be promoted: its ndcg@10 of 0.412 beats the base (0.301, a gain of +0.111) "
        "and the prior prior0 (0.210, a gain of +0.202).",
    )
    assert decide(rows("ndcg@k", 0.3, 0.4, 0.2, 0.45), make_recipe("rank", min_gain=0.01)) == Verdict(
        False,
        "The adapter is not promoted: its ndcg@10 of 0.400 does not beat the prior prior1 (0.450, a gain of -0.050) "
        "by more than the 0.010 that gate.min_gain asks for.",
    )


def test_every_prior_must_be_beaten(make_recipe: MakeRecipe) -> None:
    assert not decide(rows("accuracy", 0.5, 0.8, 0.6, 0.9), make_recipe("choose", "accuracy")).promote
    assert decide(rows("accuracy", 0.5, 0.8, 0.6, 0.7), make_recipe("choose", "accuracy")).promote


@pytest.mark.parametrize(("baseline", "told"), [(0.9, True), (0.8, False), (0.7, False), (NAN, False)])
def test_a_better_baseline_does_not_stop_it_but_is_told(make_recipe: MakeRecipe, baseline: float, told: bool) -> None:
    verdict = decide(rows("accuracy", 0.5, 0.8, 0.6, baseline=baseline), make_recipe("choose", "accuracy"))
    assert verdict.promote
    assert ("the simple baseline bm25 (0.900) does better still" in verdict.reason) is told


def test_undefined_names_who_and_what_would_help(make_recipe: MakeRecipe) -> None:
    reason = decide(rows("auc", NAN, NAN, 0.5), make_recipe("choose", "auc")).reason
    assert "auc is undefined for the base and the adapter" in reason or "the adapter and the base" in reason
    assert "larger test set" in reason


def test_a_report_without_base_or_prior_is_a_mistake(make_recipe: MakeRecipe) -> None:
    for wrong in (rows("accuracy", 0.5, 0.8), rows("accuracy", 0.5, 0.8, 0.6)[1:], rows("accuracy", 0.5, 0.8, 0.6) * 2):
        with pytest.raises(ValueError, match="a report has"):
            decide(wrong, make_recipe("choose", "accuracy"))


def test_leaders_share_their_mark_unless_all_are_equal() -> None:
    found = rows("ece", 0.2, 0.1, 0.1, NAN)
    assert [leads(row, found, "ece") for row in found] == [False, True, True, False]
    equal = rows("accuracy", 1, 1, 1)
    assert not any(leads(row, equal, "accuracy") for row in equal)
