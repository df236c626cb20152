"""shopfit: fit one shared language model to every shop.

A base model is loaded once; each merchant gets a small adapter, trained from a handful of examples, kept in a
registry, and put on the base for that merchant's requests only. Importing this package is cheap: torch and its
friends load with the first name that needs them, which no request or answer does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shopfit.adapter.bundle import Bundle
    from shopfit.engine import (
        ChooseAnswer,
        ChooseRequest,
        EmbedAnswer,
        EmbedRequest,
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
        TextPart,
        WrittenToken,
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
    "EmbedAnswer",
    "EmbedRequest",
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
    "TextPart",
    "WrittenToken",
    "__version__",
    "load_recipe",
]

_HOMES = {
    "Bundle": "shopfit.adapter.bundle",
    "ChooseAnswer": "shopfit.tasks.choose",
    "ChooseRequest": "shopfit.tasks.choose",
    "EmbedAnswer": "shopfit.tasks.embeddings",
    "EmbedRequest": "shopfit.tasks.embeddings",
    "Engine": "shopfit.engine",
    "GenerateAnswer": "shopfit.tasks.generate",
    "GenerateRequest": "shopfit.tasks.generate",
    "RankAnswer": "shopfit.tasks.rank_answers",
    "RankRequest": "shopfit.tasks.rank_answers",
    "RankedItem": "shopfit.tasks.rank_answers",
    "RateAnswer": "shopfit.tasks.rate",
    "RateRequest": "shopfit.tasks.rate",
    "RecommendAnswer": "shopfit.tasks.rank_answers",
    "RecommendRequest": "shopfit.tasks.rank_answers",
    "RecommendedItem": "shopfit.tasks.rank_answers",
    "Registry": "shopfit.registry",
    "Rules": "shopfit.recipe.item_rules",
    "Settings": "shopfit.settings",
    "ShopfitError": "shopfit.errors",
    "Tenant": "shopfit.tasks.tenant",
    "TextPart": "shopfit.tasks.generate",
    "WrittenToken": "shopfit.tasks.generate",
    "load_recipe": "shopfit.recipe.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'shopfit' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
