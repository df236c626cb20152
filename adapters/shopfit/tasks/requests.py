"""What every request to an engine and every answer have in common; each task's own are in its file."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
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
        return [field.name for field in fields(cls) if field.name not in {"adapter", "fields"}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(ABC):
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

    @abstractmethod
    def raw(self, labels: Sequence[str], pool: Sequence[str]) -> Any:
        """The answer as the task's `collect` takes it.

        Args:
            labels: those of the adapter, in order.
            pool: rank: the items that were ranked.
        """
