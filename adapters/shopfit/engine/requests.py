"""Requests to an engine, and its answers: one pair of classes a task, and recommendations."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as fields_of
from typing import Any, ClassVar, Literal, assert_never

from shopfit.adapter.bundle import Bundle
from shopfit.engine.tenant import Tenant
from shopfit.errors import RequestError
from shopfit.merchant.examples import Fields
from shopfit.recipe.rules import Rules
from shopfit.recipe.tasks import Task

Adapter = str | Bundle | Tenant
"""How a request names its adapter: a registry reference, a bundle, or a tenant (maybe the bare base)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(ABC):
    """Fields of every answer.

    Args:
        version: the version that made it, such as `acme/review-sentiment@7`; for a bundle or tenant, its name.
        digest: of that version's bundle, SHA-256 in hex; empty for the bare base and tenants that callers assembled.
    """

    version: str = ""
    digest: str = ""

    @property
    @abstractmethod
    def lines(self) -> list[str]:
        """The answer as a terminal shows it."""


@dataclass(frozen=True, slots=True)
class ChooseRequest:
    """Asks which label fits.

    Args:
        adapter: whose answer is wanted.
        fields: what the recipe's prompt shows, by name.
    """

    task: ClassVar[Task] = "choose"

    adapter: Adapter
    fields: Fields


@dataclass(frozen=True, slots=True)
class ChooseAnswer(Answered):
    """A label.

    Args:
        label: the most probable one.
        probabilities: of every label; they sum to 1.
        sure: whether the label's probability reaches the adapter's threshold, from which on held-out answers were right
            as often as `serve.precision` asks; always true if the recipe does not set it.
    """

    label: str
    probabilities: Mapping[str, float]
    sure: bool = True

    @property
    def lines(self) -> list[str]:
        """Every label, the most probable first."""
        falling = sorted(self.probabilities.items(), key=lambda pair: -pair[1])
        return [f"{probability:6.1%}  {label}" for label, probability in falling]


@dataclass(frozen=True, slots=True)
class RankRequest:
    """Asks which items fit best.

    Args:
        adapter: whose answer is wanted.
        fields: what the recipe's prompt shows, by name.
        candidates: ids to rank (titles, without a catalog), each once, 10,000 at most; by default the catalog, less
            what is out of stock or in the history.
        top: how many to return, 1 or more; the recipe's `serve.top` by default.
    """

    task: ClassVar[Task] = "rank"

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
        score: higher is better, comparable within one answer only: mean log-probability a token, or the score
            fusion's sum.
    """

    id: str
    title: str
    score: float


@dataclass(frozen=True, slots=True)
class RankAnswer(Answered):
    """A ranking.

    Args:
        items: best first.
    """

    items: tuple[RankedItem, ...]

    @property
    def lines(self) -> list[str]:
        """An item a line."""
        return [f"{item.score:7.3f}  {item.title}  ({item.id})" for item in self.items]


@dataclass(frozen=True, slots=True)
class RecommendRequest:
    """Asks what a shopper should see: search retrieves items, rules filter them, the adapter ranks them.

    Args:
        adapter: whose answer is wanted, of a `rank` recipe.
        fields: what the recipe's prompt shows, by name, such as `query` and `history`.
        k: how many to return, 1 or more; the recipe's `serve.top` by default.
        rules: the request's own, besides those of the recipe: an item must pass both.
    """

    task: ClassVar[Task] = "rank"

    adapter: Adapter
    fields: Fields
    k: int | None = None
    rules: Rules | None = None


@dataclass(frozen=True, slots=True)
class RecommendedItem:
    """One recommendation.

    Args:
        id: in the merchant's catalog.
        title: as the catalog prints it.
        score: as in a ranking.
        reasons: score of each stage that found or ranked it: "bm25", "adapter", and where the engine has an encoder,
            "minilm" and "history".
    """

    id: str
    title: str
    score: float
    reasons: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RecommendAnswer(Answered):
    """Recommendations.

    Args:
        items: best first; empty if no item passes the rules.
    """

    items: tuple[RecommendedItem, ...]

    @property
    def lines(self) -> list[str]:
        """An item a line."""
        return [f"{item.score:7.3f}  {item.title}  ({item.id})" for item in self.items]


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Asks for a generated answer. Defaults come from the recipe's `serve` section.

    Args:
        adapter: whose answer is wanted.
        fields: what the recipe's prompt shows, by name.
        max_new_tokens: tokens at most, 1 to 4096.
        temperature: 0 is greedy, 5 at most.
        top_p: share of the probability that tokens are drawn from, above 0, to 1.
        stop: texts that end the answer and are not part of it, 64 at most, of 1 to 10,000 characters each.
        seed: of the sampling; the same request with the same seed gets the same answer. Random by default.
        json_schema: the answer is JSON that follows it; 32 KB at most.
    """

    task: ClassVar[Task] = "generate"

    adapter: Adapter
    fields: Fields
    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: Sequence[str] | None = None
    seed: int | None = None
    json_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class GenerateAnswer(Answered):
    """A text.

    Args:
        text: as generated.
        output: the same as JSON, if it is a JSON object.
        finish: "stop" if it is complete, "length" if it was cut off.
    """

    text: str
    output: Mapping[str, Any] | None
    finish: Literal["stop", "length"] = "stop"

    @property
    def lines(self) -> list[str]:
        """The lines of the text."""
        return self.text.splitlines()


Request = ChooseRequest | RankRequest | RecommendRequest | GenerateRequest
Answer = ChooseAnswer | RankAnswer | RecommendAnswer | GenerateAnswer


def request_for(task: Task, adapter: Adapter, fields: Fields, options: Mapping[str, Any]) -> Request:
    """The request of an adapter's task.

    Args:
        task: the adapter's.
        adapter: that answers.
        fields: what the recipe's prompt shows, by name.
        options: other fields of the task's request, by name.

    Raises:
        RequestError: if the request has no such field.
    """
    kind: type[ChooseRequest | RankRequest | GenerateRequest]
    match task:
        case "choose":
            kind = ChooseRequest
        case "rank":
            kind = RankRequest
        case "generate":
            kind = GenerateRequest
        case _:
            assert_never(task)
    allowed = [field.name for field in fields_of(kind) if field.name not in {"adapter", "fields"}]
    if unknown := [name for name in options if name not in allowed]:
        raise RequestError(
            f"a request to {task} has no option {', '.join(map(repr, unknown))}",
            next_step=f"it takes {', '.join(allowed)}" if allowed else "leave it out",
        )
    return kind(adapter, fields, **options)
