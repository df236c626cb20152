"""What a merchant has that its recipe shows nothing of is found before training, all of it, by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from shopfit.base.load import Base
from shopfit.errors import DataError
from shopfit.merchant.merchant import Merchant
from shopfit.recipe.schema import Recipe
from shopfit.tune.merchant_dataset import MerchantDataset


def merchant(folder: Path, **files: list[dict[str, Any]]) -> Merchant:
    folder.mkdir()
    (folder / "merchant.yaml").write_text("name: acme\n", encoding="utf-8")
    for name, rows in files.items():
        lines = "\n".join(json.dumps(row) for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return Merchant.open(folder)


def recipe(task: str, **prompt: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "r",
            "task": task,
            "data": {"file": "rows.jsonl"} | ({"catalog": "catalog.jsonl"} if task == "rank" else {}),
            "prompt": prompt,
            "evaluate": {"metric": "ndcg@k" if task == "rank" else "accuracy"},
        }
    )


def test_items_without_an_answer(base: Base, encoder: Base, tmp_path: Path) -> None:
    items = [{"id": f"t{number}", "title": f"Tent {number}", "brand": "Lumo"} for number in range(8)]
    items[3].pop("brand")
    items[5]["brand"] = "\u200b"
    rows = [{"query": f"tent number {number}", "relevant": [f"t{number}"]} for number in range(8)]
    shop = merchant(tmp_path / "acme", catalog=items, rows=rows)
    read = MerchantDataset.read(shop, recipe("rank", template="{query}", answer="{brand}"))
    with pytest.raises(DataError) as error:
        read.training_set(base)
    assert [problem.where for problem in error.value.problems] == ["item 't3'", "item 't5'"]
    assert "prompt.answer '{brand}'" in error.value.problems[0].what
    read.training_set(encoder)  # which compares with all of an item's text


def test_rows_and_labels_without_words(base: Base, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(20)]
    rows[4]["text"] = [" "]
    rows[7]["text"] = ["\u200b"]
    shop = merchant(tmp_path / "acme", rows=rows)
    with pytest.raises(DataError) as error:
        MerchantDataset.read(
            shop, recipe("choose", template="{text}", labels={"a": "good", "b": "\u2060"})
        ).training_set(base)
    where = [problem.where for problem in error.value.problems]
    assert where[0] == "label 'b'"
    assert sorted(place.rpartition("rows.jsonl")[2] for place in where[1:]) == [":5", ":8"]


def test_a_shop_that_shows_everything_is_read(base: Base, tmp_path: Path) -> None:
    rows = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(20)]
    read = MerchantDataset.read(merchant(tmp_path / "acme", rows=rows), recipe("choose", template="{text}"))
    assert read.training_set(base).train


@pytest.mark.parametrize(
    ("label", "reason"), [("po\ts", "has control characters"), ("x" * 1001, "has 1001 characters")]
)
def test_labels_that_no_bundle_can_hold_are_told_before_training(tmp_path: Path, label: str, reason: str) -> None:
    rows: list[dict[str, Any]] = [{"text": f"text {number}", "label": ("a", label)[number % 2]} for number in range(20)]
    with pytest.raises(DataError, match="no adapter of r can be kept with these labels of acme") as error:
        MerchantDataset.read(merchant(tmp_path / "acme", rows=rows), recipe("choose", template="{text}"))
    [problem] = error.value.problems
    assert problem.where == "labels.1"
    assert reason in problem.what
