"""Two versions on the same rows: what each reaches, how sure that is, and where they differ."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from shopfit.base.load import load_base
from shopfit.comparing import Comparison, compare_versions
from shopfit.errors import RequestError
from shopfit.merchant.kept_folder import folder_digest
from shopfit.merchant.merchant import Merchant
from shopfit.registry import Registry
from shopfit.reports import measure_again
from shopfit.settings import Settings
from tests.cli.conftest import Run
from tests.cli.conftest import run as run
from tests.serve.shops import RECIPES, bundle_of

TEXTS = ("lovely crema", "arrived cracked", "would buy again", "the box was wet", "five happy months", "broken")
ROWS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "choose": [{"text": text, "label": ("positive", "negative")[row % 2]} for row, text in enumerate(TEXTS)],
    "rank": [{"query": f"{item} {row}", "relevant": [item]} for row, item in enumerate(("tent", "bag", "stove"))],
    "rate": [{"text": text, "score": 5.0 - 4 * (row % 2)} for row, text in enumerate(TEXTS)],
    "generate": [{"input": text, "output": "lamp"} for text in TEXTS[:3]],
}


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def shop_of(folder: Path, task: str) -> Merchant:
    folder.mkdir()
    (folder / "merchant.yaml").write_text("name: acme\n")
    write(folder / "x.test.jsonl", ROWS[task])
    write(folder / "x.jsonl", [row | _other(task, row) for row in ROWS[task]])
    items = ("tent", "bag", "stove", "boots", "rope")
    write(folder / "c.jsonl", [{"id": name, "title": name.title()} for name in items])
    return Merchant.open(folder)


def _other(task: str, row: Mapping[str, Any]) -> dict[str, Any]:
    name = {"rank": "query", "generate": "input"}.get(task, "text")
    return {name: f"once more {row[name]} as before"}


def publish(settings: Settings, base: Path, folder: Path, recipe: str, *seeds: int) -> None:
    with Registry.open(settings) as registry:
        for seed in seeds:
            bundle = bundle_of(folder / f"{recipe}-{seed}", load_base(str(base), folder), "acme", recipe, seed=seed)
            registry.publish(bundle, promote=True, actor="tests")


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_versions_are_compared_row_by_row(
    recipe: str, settings: Settings, tiny_encoder: Path, tiny_base: Path, tmp_path: Path
) -> None:
    task = RECIPES[recipe]
    merchant = shop_of(tmp_path / "acme", task)
    publish(settings, tiny_base if task == "generate" else tiny_encoder, tmp_path, recipe, 0, 5)
    found = compare_versions(f"acme/{recipe}@1", f"acme/{recipe}@2", merchant, settings=settings)
    assert (found.task, found.rows, found.test_kind) == (task, len(ROWS[task]), "fixed")
    assert (found.first.version, found.second.version) == (f"acme/{recipe}@1", f"acme/{recipe}@2")
    assert found.first.digest != found.second.digest
    assert sum(found.counts.values()) == found.rows
    assert found.data == folder_digest(merchant.folder)
    sides = [side.metrics[found.metric] for side in (found.first, found.second)]
    assert all(one.low <= one.value <= one.high for one in sides)
    better = sides[1].value - sides[0].value
    assert found.gain.value == pytest.approx(better if found.higher_is_better else -better)
    for row in found.different:
        assert row.first.said != row.second.said or row.first.items != row.second.items
        assert row.fields
        assert (row.better == "both") <= (row.first.right and row.second.right)
        assert (row.better == "first") == (row.first.merit > row.second.merit)


def test_the_numbers_are_those_of_evaluate(settings: Settings, tiny_encoder: Path, tmp_path: Path) -> None:
    merchant = shop_of(tmp_path / "acme", "choose")
    publish(settings, tiny_encoder, tmp_path, "sentiment", 0, 5)
    found = compare_versions("acme/sentiment@1", "acme/sentiment@2", merchant, settings=settings)
    first, second = (measure_again(side.version, merchant, settings=settings) for side in (found.first, found.second))
    assert found.second.metrics == second.adapter.metrics
    told = first.adapter.metrics  # whose resamples are drawn by the seed of another recipe
    assert {name: one.value for name, one in found.first.metrics.items()} == {name: told[name].value for name in told}


def test_rows_that_a_version_has_learned_from_are_told(settings: Settings, tiny_encoder: Path, tmp_path: Path) -> None:
    merchant = shop_of(tmp_path / "acme", "choose")
    write(merchant.folder / "x.test.jsonl", [{"id": str(number), **row} for number, row in enumerate(ROWS["choose"])])
    publish(settings, tiny_encoder, tmp_path, "sentiment", 0, 5)
    found = compare_versions("acme/sentiment@1", "acme/sentiment@2", merchant, settings=settings)
    assert (found.first.learned, found.second.learned) == (2, 2)  # its manifest names the rows 0 and 1
    assert {row.id for row in found.different if row.learned} <= {"0", "1"}


def test_a_label_that_one_version_does_not_know_is_wrong_for_it(
    settings: Settings, tiny_encoder: Path, tmp_path: Path
) -> None:
    merchant = shop_of(tmp_path / "acme", "choose")
    write(merchant.folder / "x.test.jsonl", [*ROWS["choose"], {"text": "so and so", "label": "mixed"}])
    examples = [row | _other("choose", row) for row in ROWS["choose"]]
    write(merchant.folder / "x.jsonl", [*examples, {"text": "neither this nor that", "label": "mixed"}])
    publish(settings, tiny_encoder, tmp_path, "sentiment", 0, 5)
    found = compare_versions("acme/sentiment@1", "acme/sentiment@2", merchant, settings=settings)
    assert found.rows == 7
    assert found.counts["neither"] >= 1


def test_only_two_versions_of_one_adapter_are_compared(settings: Settings, tiny_encoder: Path, tmp_path: Path) -> None:
    merchant = shop_of(tmp_path / "acme", "choose")
    publish(settings, tiny_encoder, tmp_path, "sentiment", 0)
    publish(settings, tiny_encoder, tmp_path, "stars", 0)
    for second in ("acme/sentiment@production", "acme/stars@1"):
        with pytest.raises(RequestError, match="cannot be compared"):
            compare_versions("acme/sentiment@1", second, merchant, settings=settings)


def test_the_command_prints_it_for_people_and_for_machines(
    run: Run, settings: Settings, tiny_encoder: Path, tmp_path: Path
) -> None:
    merchant = shop_of(tmp_path / "acme", "choose")
    publish(settings, tiny_encoder, tmp_path, "sentiment", 0, 5)
    asked = ("compare", "acme/sentiment@1", "acme/sentiment@2", "--data", str(merchant.folder))
    printed = run(*asked)
    assert printed.returncode == 0, printed.stderr
    assert "acme/sentiment@2 beside acme/sentiment@1, on 6 test rows" in printed.stdout
    told = json.loads(run(*asked, "--json").stdout)
    found: Comparison = compare_versions(asked[1], asked[2], merchant, settings=settings)
    assert told["counts"] == found.counts
    assert told["second"]["metrics"]["accuracy"]["value"] == found.second.metrics["accuracy"].value
    wrong = run("compare", "acme/sentiment@1", "acme/sentiment@9", "--data", str(merchant.folder))
    assert wrong.returncode == 2
    assert "@9" in wrong.stderr
