"""Vectors of texts, as an adapter on an encoder makes them, whatever its task is."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from shopfit.merchant.examples import Fields
from shopfit.tasks.requests import Answer, Request


@dataclass(frozen=True, slots=True)
class EmbedRequest(Request):
    """Asks for the vector of a text. Exactly one of `fields` and `text` says which.

    Args:
        adapter: on an encoder, of any task.
        fields: what the recipe's prompt shows, by name: what is looked for. A history's items are one text here.
        text: what may be found: it is read as the title of an item is.
    """

    fields: Fields = field(default_factory=dict)
    text: str | None = None


@dataclass(frozen=True, slots=True)
class EmbedAnswer(Answer):
    """A vector.

    Args:
        vector: D numbers, of length 1: the dot product of two is their cosine.
    """

    vector: tuple[float, ...]

    @property
    def lines(self) -> list[str]:
        """The numbers, in one line."""
        return [" ".join(f"{number:.6f}" for number in self.vector)]

    def raw(self, labels: Sequence[str], pool: Sequence[str]) -> tuple[float, ...]:
        """The vector."""
        return self.vector
