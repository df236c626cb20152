"""shopfit: fit one shared language model to every shop.

A base model is loaded once; each merchant gets a small adapter, trained from a handful of examples, kept in a
registry, and put on the base for that merchant's requests only. Importing this package is cheap: torch and its
friends load with the first name that needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shopfit.adapter.bundle import Bundle
    from shopfit.engine import (
        ChooseAnswer,
        ChooseRequest,
        Engine,
        GenerateAnswer,
        GenerateRequest,
        RankAnswer,
        RankedItem,
        RankRequest,
        RateAnswer,
        RateRequest,
        RecommendAnswer,
        RecommendedItem,
        RecommendRequest,
        Tenant,
    )
    from shopfit.errors import ShopfitError
    from shopfit.recipe.item_rules import Rules
    from shopfit.recipe.loading import load_recipe
    from shopfit.registry import Registry
    from shopfit.settings import Settings

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "ChooseAnswer",
    "ChooseRequest",
    "Engine",
    "GenerateAnswer",
    "GenerateRequest",
    "RankAnswer",
    "RankRequest",
    "RankedItem",
    "RateAnswer",
    "RateRequest",
    "RecommendAnswer",
    "RecommendRequest",
    "RecommendedItem",
    "Registry",
    "Rules",
    "Settings",
    "ShopfitError",
    "Tenant",
    "__version__",
    "load_recipe",
]

_HOMES = {
    "Bundle": "shopfit.adapter.bundle",
    "Registry": "shopfit.registry",
    "Rules": "shopfit.recipe.item_rules",
    "Settings": "shopfit.settings",
    "ShopfitError": "shopfit.errors",
    "load_recipe": "shopfit.recipe.loading",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'shopfit' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "shopfit.engine")), name)
