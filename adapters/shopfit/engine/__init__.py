"""The engine: base + adapters -> answers. The only way to an answer, so what is evaluated is what is served."""

from shopfit.engine.engine import Engine
from shopfit.engine.status import Status
from shopfit.tasks.choose import ChooseAnswer, ChooseRequest
from shopfit.tasks.embeddings import EmbedAnswer, EmbedRequest
from shopfit.tasks.explanations import ExplainRequest, Explanation
from shopfit.tasks.generate import GenerateAnswer, GenerateRequest, TextPart, WrittenToken
from shopfit.tasks.rank_answers import (
    RankAnswer,
    RankedItem,
    RankRequest,
    RecommendAnswer,
    RecommendedItem,
    RecommendRequest,
)
from shopfit.tasks.rate import RateAnswer, RateRequest
from shopfit.tasks.requests import Answer, Request, TokenUsage
from shopfit.tasks.tenant import Tenant

__all__ = [
    "Answer",
    "ChooseAnswer",
    "ChooseRequest",
    "EmbedAnswer",
    "EmbedRequest",
    "Engine",
    "ExplainRequest",
    "Explanation",
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
    "Request",
    "Status",
    "Tenant",
    "TextPart",
    "TokenUsage",
    "WrittenToken",
]
