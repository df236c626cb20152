"""What an engine knows of one adapter: everything that turns a request into an answer."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from shopfit.adapter.bundle import LORA, MANIFEST, NATIVE, Bundle, HeldBundle
from shopfit.adapter.head import HEAD
from shopfit.engine.blending import ADAPTER, Blend
from shopfit.errors import BundleError
from shopfit.merchant.catalog import Catalog, Item
from shopfit.recipe.loading import parse_recipe
from shopfit.recipe.schema import Recipe

CATALOG, HISTORY, BLEND = "catalog.jsonl", "history.jsonl", "blend.json"
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
            BundleError: if the bundle's own recipe or catalog cannot be read.
        """
        manifest = bundle.manifest
        return cls(
            name or f"{manifest.merchant}/{manifest.recipe}",
            parse_recipe(manifest.recipe_snapshot),
            tuple(manifest.labels),
            read_items(bundle, CATALOG),
            read_items(bundle, HISTORY),
            bundle,
            read_blend(bundle),
        )


def write_items(path: Path, catalog: Catalog | None) -> None:
    """Keep a catalog in a bundle; None writes nothing."""
    if catalog is not None:
        lines = (json.dumps(dict(item.fields), ensure_ascii=False, default=str) + "\n" for item in catalog.values())
        path.write_text("".join(lines), encoding="utf-8")


def read_items(bundle: Bundle | HeldBundle, name: str) -> Catalog | None:
    """Read what `write_items` wrote; None if it wrote nothing.

    Raises:
        BundleError: if it holds anything else.
    """
    content = bundle.read(name)
    if content is None:
        return None
    try:
        rows = [json.loads(line) for line in content.decode("utf-8").split("\n") if line]
        return Catalog({row["id"]: Item(row["id"], row["title"], row) for row in rows})
    except (ValueError, KeyError, TypeError) as error:
        adapter = f"{bundle.manifest.merchant}/{bundle.manifest.recipe}"
        raise BundleError(f"{name} of {adapter} is not a catalog: {error}") from error


def read_blend(bundle: Bundle | HeldBundle) -> Blend | None:
    """The blend of a bundle; None if its adapter answers alone.

    Raises:
        BundleError: if it is malformed.
    """
    content = bundle.read(BLEND)
    try:
        return None if content is None else Blend.model_validate_json(content)
    except ValidationError as error:
        adapter = f"{bundle.manifest.merchant}/{bundle.manifest.recipe}"
        raise BundleError(f"{BLEND} of {adapter} is not a blend: {error.errors()[0]['msg']}") from error


def needed(paths: Collection[str]) -> set[str]:
    """Which of a bundle's files it takes to answer: neither the report, nor the form that is only trained on."""
    weights = [path for path in paths if path.startswith(f"{LORA}/")]
    weights = weights or [path for path in paths if path.startswith(f"{NATIVE}/")]
    return {MANIFEST, CATALOG, HISTORY, BLEND, HEAD, *weights} & set(paths)
