"""A small shop on disk, for the tests of this folder."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.merchant import Merchant
from shopfit.recipe.schema import Recipe

PROMPTS = {
    "choose": "Text: {text}\nLabel:",
    "rank": "Seen: {history}\nSearch: {query}",
    "generate": "In: {input}",
    "rate": "Text: {text}\nScore:",
}
METRICS = {"choose": "accuracy", "rank": "mrr", "generate": "exact_match", "rate": "rmse"}
ITEMS = Catalog({key: Item(key, f"Item {key}", {"id": key, "title": f"Item {key}"}) for key in ("a", "b", "c", "7")})


def recipe(
    task: str, *, prompt: dict[str, Any] | None = None, tune: dict[str, Any] | None = None, **data: Any
) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "r",
            "task": task,
            "data": {"file": "rows.jsonl"} | ({"catalog": "catalog.jsonl"} if task == "rank" else {}) | data,
            "prompt": {"template": PROMPTS[task]} | (prompt or {}),
            "tune": tune or {},
            "evaluate": {"metric": METRICS[task]},
        }
    )


def shop(folder: Path, **files: Iterable[dict[str, Any]]) -> Merchant:
    """A merchant whose file `rows.test.jsonl` is given as `rows_test=`."""
    for name, rows in files.items():
        path = folder / f"{name.replace('_', '.')}.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return Merchant(name="acme", folder=folder)
