"""The engine: base + adapters -> answers. The only way to an answer, so what is evaluated is what is served."""

from shopfit.engine.engine import Engine
from shopfit.engine.requests import (
    ChooseAnswer,
    ChooseRequest,
    GenerateAnswer,
    GenerateRequest,
    RankAnswer,
    RankedItem,
    RankRequest,
)
from shopfit.engine.tenant import Tenant

__all__ = [
    "ChooseAnswer",
    "ChooseRequest",
    "Engine",
    "GenerateAnswer",
    "GenerateRequest",
    "RankAnswer",
    "RankRequest",
    "RankedItem",
    "Tenant",
]
