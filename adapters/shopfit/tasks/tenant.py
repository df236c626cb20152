"""An adapter as it is served: with its recipe, labels, items, score fusion and calibration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from sys import getsizeof
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from shopfit.adapter.artifacts import FUSION, TEMPERATURE, THRESHOLD, read_fusion, read_items
from shopfit.adapter.bundle import Bundle, HeldBundle
from shopfit.adapter.items import AGAIN, CATALOG, HISTORY
from shopfit.adapter.manifest_rules import manifest_problems, printable
from shopfit.adapter.score_fusion import ADAPTER, ScoreFusion
from shopfit.base.by_language import encoder_of
from shopfit.base.merchant_search import encoder_fingerprint, encoder_name
from shopfit.base.prompt import Prompter
from shopfit.errors import BaseError, BundleError, Problem, RecipeError
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.search import Embed
from shopfit.recipe.loading import parse_recipe
from shopfit.recipe.schema import Recipe
from shopfit.tasks import task_of

if TYPE_CHECKING:
    from shopfit.base.scoring.scorer import Scorer

_ITEM = 2 * 1024  # bytes of an item besides its values: dictionaries, and the index of its words
_NESTED = (list, tuple, dict)
_PLAIN = {str, int, float, bool}


@dataclass(frozen=True, slots=True)
class Tenant:
    """One adapter, or the bare base, with its recipe and items.

    Args:
        name: for messages, such as `acme/review-sentiment@7`. Nothing is ever read from it.
        recipe: how requests become prompts.
        labels: names of the answers that every question has: every label of `choose`.
        catalog: rank: the items to recommend.
        history: the items of histories, if they are not of the catalog.
        bundle: the adapter; None answers with the bare base, for comparison.
        blend: score fusion with other parts; None for the adapter's score alone.
        offsets: choose: subtracted from the scores of the labels, in their order; none by default.
        merchant: for fairness and catalogs; by default the bundle's, or without a bundle `name`.
        identity: of this tenant and no other, also when it is gone; an `id` may be taken again.
    """

    name: str
    recipe: Recipe
    labels: tuple[str, ...] = ()
    catalog: Catalog | None = None
    history: Catalog | None = None
    bundle: Bundle | HeldBundle | None = None
    blend: ScoreFusion | None = None
    offsets: tuple[float, ...] = ()
    merchant: str = ""
    identity: object = field(init=False, default_factory=object, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.merchant:
            merchant = self.name if self.bundle is None else self.bundle.manifest.merchant
            object.__setattr__(self, "merchant", merchant)

    @property
    def bytes(self) -> int:
        """Estimated memory of manifest, labels, blend and items; computed at each call."""
        manifest = None if self.bundle is None else self.bundle.manifest
        catalogs = [catalog for catalog in (self.catalog, self.history) if catalog is not None]
        rows = [item.fields for catalog in catalogs for item in catalog.values()]
        nested = [value for row in rows for value in row.values() if isinstance(value, _NESTED)]
        texts = sum(sum(map(getsizeof, row.values())) for row in rows)
        return _ITEM * len(rows) + texts + _held([manifest, self.labels, self.offsets, self.blend, nested])

    @property
    def temperature(self) -> float:
        """Temperature of the labels' scores: calibrated on held-out examples, else that of training."""
        known = {} if self.bundle is None else self.bundle.manifest.calibration
        return known.get(TEMPERATURE, self.recipe.tune.temperature)

    @property
    def speaks(self) -> bool:
        """Whether the adapter has any weight in the score: a blend may leave it out."""
        return self.blend is None or ADAPTER in self.blend.weights

    @property
    def threshold(self) -> float:
        """Probability from which on an answer counts as sure."""
        return 0.0 if self.bundle is None else self.bundle.manifest.calibration.get(THRESHOLD, 0.0)

    def check_encoder(self, embed: Embed) -> None:
        """Refuse an encoder of the name of the one that score fusion was fitted with, which is another one.

        Args:
            embed: of the sentence encoder that is here, which is loaded for it.

        Raises:
            BaseError: if it is another one.
        """
        fitted, name = "" if self.bundle is None else self.bundle.manifest.encoder, encoder_of(self.recipe)
        if fitted and name == encoder_name(embed) and (here := encoder_fingerprint(embed)) != fitted:
            raise BaseError(
                f"{self.name} was made with the sentence encoder {name} of the fingerprint {fitted[:12]}, and here "
                f"that name is of another one, {here[:12]}",
                next_step="bring that encoder back, or train the adapter again with this one",
            )

    @classmethod
    def of(cls, bundle: Bundle | HeldBundle, name: str = "") -> "Tenant":
        """The tenant of a bundle, from its files alone.

        Raises:
            BundleError: if the bundle's manifest, its recipe, its items or its blend are not what this release reads.
        """
        manifest, name = bundle.manifest, name or bundle.manifest.reference
        if problems := manifest_problems(manifest):
            raise BundleError(
                f"the manifest of {bundle.manifest.reference} is not valid", problems=problems, next_step=AGAIN
            )
        try:
            recipe = parse_recipe(manifest.recipe_snapshot)
        except RecipeError as error:
            problems = [
                Problem(printable(one.where), printable(one.what, 300), printable(one.allowed, 300))
                for one in error.problems
            ]
            message = f"{bundle.manifest.reference}: {printable(error.message, 300)}"
            raise BundleError(message, problems=problems, next_step=error.next_step) from error
        if recipe.spec.closed and not manifest.labels:
            raise BundleError(f"{bundle.manifest.reference} chooses among no labels at all", next_step=AGAIN)
        if problems := task_of(recipe.task).label_problems(recipe, manifest.labels):
            raise BundleError(
                f"the labels of {bundle.manifest.reference} are not of its recipe", problems=problems, next_step=AGAIN
            )
        blend = read_fusion(bundle, task_of(recipe.task).fusion)
        if blend is not None and (problems := blend.problems(len(manifest.labels))):
            raise BundleError(
                f"{FUSION} of {bundle.manifest.reference} is not a blend", problems=problems, next_step=AGAIN
            )
        labels, catalog, history = tuple(manifest.labels), read_items(bundle, CATALOG), read_items(bundle, HISTORY)
        return cls(name, recipe, labels, catalog, history, bundle, blend, tuple(manifest.offsets))

    def prompter(self, tokenizer: Any, scorer: "Scorer[Any] | None" = None) -> Prompter:
        """What writes its prompts for a base, as they were when it was trained.

        Args:
            tokenizer: of the base.
            scorer: of the base; by default that of a decoder whose model is elsewhere.

        Raises:
            RecipeError: if the prompts cannot be in the base's chat template.
            BaseError: if that template cannot be used, or is another one than the adapter was trained with.
        """
        prompter = Prompter(self.recipe, tokenizer, self.catalog, self.history, scorer=scorer)
        here = prompter.chat_template
        known = here if self.bundle is None else self.bundle.manifest.base.chat_template
        if here != known:
            raise BaseError(
                f"{self.name} was trained with the chat template {known[:12] or 'none'} of its base, and here it is "
                f"{here[:12] or 'none'}",
                next_step="serve it on the base it was trained on, with its own chat template, or train it again",
            )
        return prompter


Adapter = str | Bundle | Tenant
"""How a request names its adapter: a registry reference, a bundle, or a tenant (maybe the bare base)."""


def _held(value: Any) -> int:
    """Estimated bytes of a value and everything in it."""
    size, waiting = 0, [value]
    while waiting:
        part = waiting.pop()
        size += getsizeof(part)
        if type(part) in _PLAIN:  # most are, and the questions below take longer
            continue
        if isinstance(part, BaseModel):
            waiting.append(vars(part))
        elif isinstance(part, Mapping):
            waiting += part.keys()
            waiting += part.values()
        elif isinstance(part, _NESTED):
            waiting += part
    return size
