"""A merchant as a recipe sees it: what its prompts show, and its examples, split and checked."""

from dataclasses import dataclass

from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.splits import Splits, split
from shopfit.recipe.schema import Recipe
from shopfit.tune.lessons import Material


@dataclass(frozen=True, slots=True)
class Shop:
    """One merchant's data for one recipe, read without any base.

    Args:
        merchant: whose it is.
        recipe: that reads it.
        shown: a prompter without a tokenizer: it shows texts.
        splits: the examples.
    """

    merchant: Merchant
    recipe: Recipe
    shown: Prompter
    splits: Splits

    @classmethod
    def read(cls, merchant: Merchant, recipe: Recipe) -> "Shop":
        """Read a merchant's catalogs and examples.

        Raises:
            DataError: with every bad row.
        """
        data = recipe.data
        catalog = merchant.catalog(data.catalog) if data.catalog else None
        history = merchant.catalog(data.history_catalog) if data.history_catalog else None
        shown = Prompter(recipe, None, catalog, history)
        splits = split(
            merchant, recipe, text=lambda example: shown.text(example.fields), catalog=catalog, history=history
        )
        return cls(merchant, recipe, shown, splits)

    def prompter(self, base: Base) -> Prompter:
        """What writes its prompts for a base."""
        return Prompter(self.recipe, base.tokenizer, self.shown.catalog, self.shown.history, encoder=base.encoder)

    def material(self, base: Base) -> Material:
        """What there is to learn from."""
        return Material(self.splits.train, self.splits.valid, self.splits.labels, self.prompter(base))
