"""What every request to an engine and every answer have in common; each task's own are in its file."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from shopfit.merchant.examples import Fields
from shopfit.recipe.tasks import Task

if TYPE_CHECKING:
    from shopfit.tasks.tenant import Adapter


@dataclass(frozen=True, slots=True)
class Request:
    """Asks an adapter.

    Args:
        adapter: whose answer is wanted.
        fields: what the recipe's prompt shows, by name.
    """

    task: ClassVar[Task]

    adapter: "Adapter"
    fields: Fields

    @classmethod
    def options(cls) -> list[str]:
        """Names of the fields that only this kind of request has."""
        return [one.name for one in fields(cls) if one.name not in {"adapter", "fields"}]


@dataclass(slots=True)
class TokenUsage:
    """Tokens that a request has cost so far; what was spent stays spent if it fails, is late, or is cancelled.

    Args:
        read: tokens of prompts and answers that forwards read for it, from when they begin to.
        written: tokens generated, without the one that ended the answer.
    """

    read: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(ABC):
    """Fields of every answer.

    Args:
        version: the version that made it, such as `acme/review-sentiment@7`; for a bundle or tenant, its name.
        digest: of that version's bundle, SHA-256 in hex; empty for the bare base and tenants that callers assembled.
        read: tokens of prompts and answers that forwards read for it, also where other requests shared a row; vectors
            that were cached were not read. 0 if the model was not needed.
        written: tokens generated, without the one that ended the answer; 0 but for `generate`.
        waited: seconds from its submission to its first forward; 0 where there was none.
    """

    version: str = ""
    digest: str = ""
    read: int = field(default=0, compare=False)
    written: int = field(default=0, compare=False)
    waited: float = field(default=0.0, compare=False)

    @property
    @abstractmethod
    def lines(self) -> list[str]:
        """The answer as a terminal shows it."""

    @abstractmethod
    def raw(self, labels: Sequence[str], pool: Sequence[str]) -> Any:
        """The answer as the task's `collect` takes it.

        Args:
            labels: those of the adapter, in order.
            pool: rank: the items that were ranked.
        """
