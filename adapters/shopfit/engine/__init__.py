"""The engine: base + adapters -> answers. The only way to an answer, so what is evaluated is what is served."""

from shopfit.engine.engine import Engine
from shopfit.engine.requests import (
    Answer,
    ChooseAnswer,
    ChooseRequest,
    GenerateAnswer,
    GenerateRequest,
    RankAnswer,
    RankedItem,
    RankRequest,
    RecommendAnswer,
    RecommendedItem,
    RecommendRequest,
    Request,
)
from shopfit.engine.status import Status
from shopfit.engine.tenant import Tenant

__all__ = [
    "Answer",
    "ChooseAnswer",
    "ChooseRequest",
    "Engine",
    "GenerateAnswer",
    "GenerateRequest",
    "RankAnswer",
    "RankRequest",
    "RankedItem",
    "RecommendAnswer",
    "RecommendRequest",
    "RecommendedItem",
    "Request",
    "Status",
    "Tenant",
]
