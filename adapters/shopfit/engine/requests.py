"""What an engine is asked, and what it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shopfit.adapter.bundle import Bundle
from shopfit.engine.tenant import Tenant
from shopfit.merchant.examples import Fields

Adapter = str | Bundle | Tenant
"""How a request names its adapter: a registry reference, a bundle, or a tenant (maybe the bare base)."""


@dataclass(frozen=True, slots=True)
class ChooseRequest:
    """Which label fits?

    Args:
        adapter: whose answer is wanted.
        fields: what the recipe's prompt shows, by name.
    """

    adapter: Adapter
    fields: Fields


@dataclass(frozen=True, slots=True)
class ChooseAnswer:
    """A label.

    Args:
        label: the most probable one.
        probabilities: of every label; they sum to 1.
    """

    label: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RankRequest:
    """Which items fit best?

    Args:
        adapter: whose answer is wanted.
        fields: what the recipe's prompt shows, by name.
        candidates: ids to rank (titles, without a catalog); by default the catalog, less what is out of stock or in the
            history.
        top: how many to return; the recipe's `serve.top` by default.
    """

    adapter: Adapter
    fields: Fields
    candidates: Sequence[str] | None = None
    top: int | None = None


@dataclass(frozen=True, slots=True)
class RankedItem:
    """One item of a ranking.

    Args:
        id: in the merchant's catalog.
        title: as the catalog prints it.
        score: mean log-probability a token; higher is better, comparable within one answer only.
    """

    id: str
    title: str
    score: float


@dataclass(frozen=True, slots=True)
class RankAnswer:
    """A ranking.

    Args:
        items: best first.
    """

    items: tuple[RankedItem, ...]


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What is the answer?

    Args:
        adapter: whose answer is wanted.
        fields: what the recipe's prompt shows, by name.
    """

    adapter: Adapter
    fields: Fields


@dataclass(frozen=True, slots=True)
class GenerateAnswer:
    """A text.

    Args:
        text: as generated.
        output: the same as JSON, if it is a JSON object.
    """

    text: str
    output: Mapping[str, Any] | None


Request = ChooseRequest | RankRequest | GenerateRequest
