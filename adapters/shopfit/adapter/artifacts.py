"""A bundle's serving artifacts: the files that answering needs besides the weights.

`catalog.jsonl` and `history.jsonl` hold items, `blend.json` the score fusion, `head.safetensors` prototypes (see
`head`); the calibration is in the manifest. Their names, and reading items and fusion, need no torch.
"""

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shopfit.adapter.bundle import LORA, MANIFEST, NATIVE, Bundle, HeldBundle
from shopfit.adapter.finite import finite_json
from shopfit.adapter.manifest_rules import place_of, printable
from shopfit.adapter.safe_reading import lines
from shopfit.adapter.score_fusion import ScoreFusion
from shopfit.errors import BundleError
from shopfit.merchant.catalog import Catalog, Item

CATALOG, HISTORY, FUSION, HEAD = "catalog.jsonl", "history.jsonl", "blend.json", "head.safetensors"
TEMPERATURE, THRESHOLD = "temperature", "threshold"  # in a manifest's `calibration`
AGAIN = "bring the bundle again, or train it again"
_NUMBERS = {"price", "min_age"}


def write_items(path: Path, catalog: Catalog | None) -> None:
    """Write a catalog into a bundle; None writes nothing."""
    if catalog is not None:
        path.write_text("".join(_line(item) for item in catalog.values()), encoding="utf-8")


def _line(item: Item) -> str:
    fields = {name: value for name, value in item.fields.items() if not _endless(value)}
    return json.dumps(fields, ensure_ascii=False, default=str) + "\n"


def _endless(value: Any) -> bool:
    """Whether it is NaN (pandas' empty cell) or infinite."""
    return isinstance(value, float) and not math.isfinite(value)


def read_items(bundle: Bundle | HeldBundle, name: str) -> Catalog | None:
    """Read what `write_items` wrote; None if it wrote nothing. Numbers that are not finite count as missing.

    Raises:
        BundleError: if the file holds anything else.
    """
    content = bundle.read(name)
    if content is None:
        return None
    items: dict[str, Item] = {}
    for number, line in enumerate(lines(content, f"{name} of {bundle.manifest.reference}"), start=1):
        if not line:
            continue
        try:
            row = json.loads(line, parse_constant=lambda _: None)
            reason = "it is no item" if not isinstance(row, dict) else _item_problem(row)
        except (ValueError, RecursionError) as error:
            reason = printable(str(error), 200)
        if not reason and row["id"] in items:
            reason = "its id is there twice"
        if reason:
            raise BundleError(
                f"{name} of {bundle.manifest.reference} is not a catalog: line {number}: {reason}", next_step=AGAIN
            )
        items[row["id"]] = Item(row["id"], row["title"], row)
    return Catalog(items)


def _item_problem(row: dict[str, Any]) -> str:
    """Why `read_catalog` would refuse a row; empty if it would not. Missing values are removed from the row."""
    for name in [name for name, value in row.items() if value is None or _endless(value)]:
        del row[name]
    for name in ("id", "title"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            return f"its {name} is no text"
    for name in _NUMBERS & row.keys():
        if type(row[name]) not in {int, float} or row[name] < 0:
            return f"its {name} is no number from 0"
    if type(row.get("in_stock", True)) is not bool:
        return "its in_stock is neither true nor false"
    texts = [value for value in row.values() if isinstance(value, str)]
    if any("\ud800" <= character <= "\udfff" for text in texts if not text.isascii() for character in text):
        return "a text in it holds half a character"
    return ""


def read_fusion(bundle: Bundle | HeldBundle, kind: type[ScoreFusion] | None) -> ScoreFusion | None:
    """The score fusion of a bundle; None if its answers are the adapter's scores alone.

    Args:
        bundle: to read.
        kind: the task's; None if it has no score fusion.

    Raises:
        BundleError: if it is malformed, or a number in it is not finite.
    """
    content = bundle.read(FUSION)
    if content is None:
        return None
    try:
        if kind is None:
            raise ValueError("its task has no score fusion")
        return kind.model_validate(finite_json(content))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        reason = ": ".join([place_of(first), first["msg"]]).removeprefix(": ")
    except ValueError as error:
        reason = str(error)
    raise BundleError(f"{FUSION} of {bundle.manifest.reference} is not a blend: {reason}", next_step=AGAIN)


def needed(paths: Collection[str]) -> set[str]:
    """The files of a bundle that serving needs: without the report, and without `native/` where `lora/` is served."""
    weights = [path for path in paths if path.startswith(f"{LORA}/")]
    weights = weights or [path for path in paths if path.startswith(f"{NATIVE}/")]
    return {MANIFEST, CATALOG, HISTORY, FUSION, HEAD, *weights} & set(paths)
