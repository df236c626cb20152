import json
import math
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from shopfit.adapter.bundle import BaseIdentity, DataIdentity, Manifest
from shopfit.evaluation import Interval, Report, Verdict, card


def manifest(**changes: Any) -> Manifest:
    snapshot = {
        "description": "Read a review\nand judge it.",
        "prompt": {"template": "Review: {text}\nViewed: {history}"},
        "data": {"item_fields": ["history"]},
    }
    made = Manifest(
        merchant="crema",
        recipe="r",
        recipe_snapshot=snapshot,
        labels=["negative", "odd|label"],
        base=BaseIdentity(name="smollm2-135m", fingerprint="f00d"),
        data=DataIdentity(digest="d1ge57", train=["1", "2"], valid=["3"], test=["4"]),
        seed=7,
        method="lora",
        rank=8,
        trainable_parameters=1234567,
        steps=40,
        libraries={"torch": "2.13.0"},
        created=datetime(2026, 1, 2, tzinfo=UTC),
    )
    return made.model_copy(update=changes)


def test_it_says_what_it_is_what_it_reaches_and_where_it_ends(report: Report) -> None:
    text = card(report, manifest())
    assert text.startswith("# crema/r\n\nRead a review and judge it.\n")
    for part in (
        "`d1ge57`",
        "`f00d`",
        "lora, rank 8, 1,234,567",
        "2 to fit, 1 to choose",
        "near duplicates 1",
        "torch 2.13.0",
    ):
        assert part in text
    assert report.verdict.reason in text
    assert "(report.png)" in text
    assert "60 test rows are few" in text
    assert "not calibrated" in text


def test_the_commands_name_the_fields_of_the_prompt(report: Report) -> None:
    text = card(report, manifest())
    shown = re.search(r"shopfit predict crema/r '(.*)'", text)
    assert shown
    assert json.loads(shown[1]) == {"text": "…", "history": ["…"]}
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code
    compile(code[1], "card", "exec")
    assert 'engine.choose([ChooseRequest("crema/r"' in code[1]


def test_the_tables_are_tables(report: Report) -> None:
    lines = [line for line in card(report, manifest()).splitlines() if line.startswith("|")]
    results = [line for line in lines if line.count("|") > 3 and "odd" not in line]
    assert len({line.count("|") for line in results}) == 1
    assert len(results) == 2 + len(report.systems)
    assert any(line.startswith("| adapter | adapter | **0.900**") for line in results)
    assert r"`odd\|label`" in "\n".join(lines)


@pytest.mark.parametrize(("low", "told"), [(-0.1, True), (0.1, False), (math.nan, False)])
def test_a_gain_that_may_be_none_is_a_limit(report: Report, low: float, told: bool) -> None:
    text = card(report.model_copy(update={"gain_over_base": Interval(0.2, low, 0.3)}), manifest())
    assert ("gain over the base includes 0" in text) is told


def test_calibration_is_told_as_the_bundle_has_it(report: Report) -> None:
    facts = {"temperature": 0.5, "ece_before": 0.2, "ece_after": 0.05}
    measured = report.model_copy(update={"calibration": facts})
    text = card(measured, manifest(calibration={"temperature": 0.5}))
    assert "not calibrated" not in text
    assert (
        "calibrated to temperature 0.500 by held-out answers: on the test rows the ece went from 0.200 to 0.050" in text
    )
    # a test set may show no difference: the bundle is calibrated all the same
    same = report.model_copy(update={"calibration": facts | {"ece_after": 0.2}})
    text = card(same, manifest(calibration={"temperature": 0.5}))
    assert "calibrated to temperature 0.500 by held-out answers: on the test rows the ece went from 0.200 to 0.200" in (
        text
    )
    trained = card(same, manifest(calibration={"temperature": 0.2}))
    assert "not calibrated" not in trained
    assert "those of training, at temperature 0.200: held-out answers asked for no other" in trained
    assert "not calibrated: no answer was held out" in card(measured, manifest())
    sure = card(measured, manifest(calibration={"temperature": 0.5, "threshold": 0.75}))
    assert "From 0.750 on it says that it is sure." in sure


def test_a_blend_speaks_for_its_probabilities(report: Report) -> None:
    blended = report.model_copy(update={"blend": {"adapter": 0.5, "minilm": 1.0}})
    for calibration in ({}, {"temperature": 0.5}):
        text = card(blended, manifest(calibration=calibration))
        assert "calibrated" not in text
        assert "those of the blend" in text


def test_a_candidate_is_told_and_asked_as_one(report: Report) -> None:
    verdict = Verdict(False, "The adapter is a candidate: who knows.", candidate=True, rows_to_decide=1234)
    text = card(report.model_copy(update={"verdict": verdict}), manifest())
    assert text.startswith("# crema/r\n")
    assert "> The adapter is a candidate: who knows." in text
    assert "about 1,234 test rows would decide" in text
    assert "shopfit predict crema/r@candidate " in text
    assert 'ChooseRequest("crema/r@candidate"' in text


def test_a_refusal_is_told(report: Report) -> None:
    refused = report.model_copy(update={"verdict": Verdict(False, "The adapter is not promoted: it is worse.")})
    assert "> The adapter is not promoted: it is worse." in card(refused, manifest())


def test_a_prefix_has_virtual_tokens(report: Report) -> None:
    assert "prefix, virtual tokens 8" in card(report, manifest(method="prefix"))


def test_a_switch_of_the_method_is_told(report: Report) -> None:
    told = card(report, manifest(recipe_snapshot=manifest().recipe_snapshot | {"adapter": {"dora": True}}))
    assert "lora, dora, rank 8" in told
