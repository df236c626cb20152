"""What an engine knows of one adapter: everything that turns a request into an answer."""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from sys import getsizeof
from typing import Any

from pydantic import BaseModel, ValidationError

from shopfit.adapter.bundle import LORA, MANIFEST, NATIVE, Bundle, HeldBundle
from shopfit.adapter.head import HEAD
from shopfit.adapter.manifest_rules import manifest_problems, place_of, printable
from shopfit.adapter.numbers import finite_json
from shopfit.adapter.plain_files import lines
from shopfit.engine.blending import ADAPTER, Blend, blend_problems
from shopfit.errors import BundleError, Problem, RecipeError
from shopfit.merchant.catalog import Catalog, Item
from shopfit.recipe.loading import parse_recipe
from shopfit.recipe.schema import Recipe

CATALOG, HISTORY, BLEND = "catalog.jsonl", "history.jsonl", "blend.json"
_AGAIN = "bring the bundle again, or train it again"
_NUMBERS = {"price", "min_age"}
_ITEM = 2 * 1024  # bytes that an item takes besides its values: in dictionaries, and in an index of its words
_NESTED = (list, tuple, dict)
TEMPERATURE, THRESHOLD = "temperature", "threshold"  # in a manifest's `calibration`


@dataclass(frozen=True, slots=True)
class Tenant:
    """One adapter, or the bare base, with its recipe and items.

    Args:
        name: for messages, such as `acme/review-sentiment@7`. Nothing is ever read from it.
        recipe: how requests become prompts.
        labels: choose: every label.
        catalog: rank: the items to recommend.
        history: the items of histories, where they are others.
        bundle: the adapter; None answers with the bare base, for comparison.
        blend: what else its score is made of.
        offsets: choose: taken off the scores of the labels, in their order; none by default.
        merchant: whose it is, for fairness and catalogs; by default the bundle's, or where there is none, `name`.
    """

    name: str
    recipe: Recipe
    labels: tuple[str, ...] = ()
    catalog: Catalog | None = None
    history: Catalog | None = None
    bundle: Bundle | HeldBundle | None = None
    blend: Blend | None = None
    offsets: tuple[float, ...] = ()
    merchant: str = ""

    def __post_init__(self) -> None:
        if not self.merchant:
            merchant = self.name if self.bundle is None else self.bundle.manifest.merchant
            object.__setattr__(self, "merchant", merchant)

    @property
    def bytes(self) -> int:
        """About the memory that manifest, labels, blend and items take; counted anew at each call."""
        manifest = None if self.bundle is None else self.bundle.manifest
        catalogs = [catalog for catalog in (self.catalog, self.history) if catalog is not None]
        rows = [item.fields for catalog in catalogs for item in catalog.values()]
        nested = [value for row in rows for value in row.values() if isinstance(value, _NESTED)]
        texts = sum(sum(map(getsizeof, row.values())) for row in rows)
        return _ITEM * len(rows) + texts + _held([manifest, self.labels, self.offsets, self.blend, nested])

    @property
    def temperature(self) -> float:
        """That scores of labels are divided by: calibrated on held-out examples, else that of training."""
        known = {} if self.bundle is None else self.bundle.manifest.calibration
        return known.get(TEMPERATURE, self.recipe.tune.temperature)

    @property
    def speaks(self) -> bool:
        """Whether the adapter has a part in the score at all: a blend may have found it of no use."""
        return self.blend is None or ADAPTER in self.blend.weights

    @property
    def threshold(self) -> float:
        """Probability from which on the adapter is sure of a label."""
        return 0.0 if self.bundle is None else self.bundle.manifest.calibration.get(THRESHOLD, 0.0)

    @classmethod
    def of(cls, bundle: Bundle | HeldBundle, name: str = "") -> "Tenant":
        """The tenant of a bundle, from its files alone.

        Raises:
            BundleError: if the bundle's manifest, its recipe, its items or its blend are not what this release reads.
        """
        manifest, name = bundle.manifest, name or _name(bundle)
        if problems := manifest_problems(manifest):
            raise BundleError(f"the manifest of {_name(bundle)} is not valid", problems=problems, next_step=_AGAIN)
        try:
            recipe = parse_recipe(manifest.recipe_snapshot)
        except RecipeError as error:
            problems = [
                Problem(printable(one.where), printable(one.what, 300), printable(one.allowed, 300))
                for one in error.problems
            ]
            message = f"{_name(bundle)}: {printable(error.message, 300)}"
            raise BundleError(message, problems=problems, next_step=error.next_step) from error
        if recipe.task == "choose" and not manifest.labels:
            raise BundleError(f"{_name(bundle)} chooses among no labels at all", next_step=_AGAIN)
        blend = read_blend(bundle)
        if blend is not None and (problems := blend_problems(blend, recipe.task, len(manifest.labels))):
            raise BundleError(f"{BLEND} of {_name(bundle)} is not a blend", problems=problems, next_step=_AGAIN)
        labels, catalog, history = tuple(manifest.labels), read_items(bundle, CATALOG), read_items(bundle, HISTORY)
        return cls(name, recipe, labels, catalog, history, bundle, blend)


def _held(value: Any) -> int:
    """About the bytes of data and all that is in it."""
    size, waiting = 0, [value]
    while waiting:
        part = waiting.pop()
        size += getsizeof(part)
        if isinstance(part, BaseModel):
            waiting.append(vars(part))
        elif isinstance(part, Mapping):
            waiting += part.keys()
            waiting += part.values()
        elif isinstance(part, _NESTED):
            waiting += part
    return size


def write_items(path: Path, catalog: Catalog | None) -> None:
    """Keep a catalog in a bundle; None writes nothing."""
    if catalog is not None:
        path.write_text("".join(_line(item) for item in catalog.values()), encoding="utf-8")


def _line(item: Item) -> str:
    fields = {name: value for name, value in item.fields.items() if not _endless(value)}
    return json.dumps(fields, ensure_ascii=False, default=str) + "\n"


def _endless(value: Any) -> bool:
    """NaN and infinity: pandas' empty cell, and no price."""
    return isinstance(value, float) and not math.isfinite(value)


def read_items(bundle: Bundle | HeldBundle, name: str) -> Catalog | None:
    """Read what `write_items` wrote; None if it wrote nothing. A number that is not finite is missing.

    Raises:
        BundleError: if it holds anything else.
    """
    content = bundle.read(name)
    if content is None:
        return None
    items: dict[str, Item] = {}
    for number, line in enumerate(lines(content, f"{name} of {_name(bundle)}"), start=1):
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
            raise BundleError(f"{name} of {_name(bundle)} is not a catalog: line {number}: {reason}", next_step=_AGAIN)
        items[row["id"]] = Item(row["id"], row["title"], row)
    return Catalog(items)


def _item_problem(row: dict[str, Any]) -> str:
    """Why a row is not what `read_catalog` lets through; empty if it is. What is missing in it is taken out."""
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


def read_blend(bundle: Bundle | HeldBundle) -> Blend | None:
    """The blend of a bundle; None if its adapter answers alone.

    Raises:
        BundleError: if it is malformed, or a number in it is not finite.
    """
    content = bundle.read(BLEND)
    if content is None:
        return None
    try:
        return Blend.model_validate(finite_json(content))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        reason = ": ".join([place_of(first), first["msg"]]).removeprefix(": ")
    except ValueError as error:
        reason = str(error)
    raise BundleError(f"{BLEND} of {_name(bundle)} is not a blend: {reason}", next_step=_AGAIN)


def _name(bundle: Bundle | HeldBundle) -> str:
    return f"{bundle.manifest.merchant}/{bundle.manifest.recipe}"


def needed(paths: Collection[str]) -> set[str]:
    """Which of a bundle's files it takes to answer: neither the report, nor the form that is only trained on."""
    weights = [path for path in paths if path.startswith(f"{LORA}/")]
    weights = weights or [path for path in paths if path.startswith(f"{NATIVE}/")]
    return {MANIFEST, CATALOG, HISTORY, BLEND, HEAD, *weights} & set(paths)
