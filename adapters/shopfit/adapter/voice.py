"""What scoring and generation need to know of a base with an adapter on it, in training or finished."""

from dataclasses import dataclass
from typing import Any, Protocol

from shopfit.base.prefix import Prefix


class Voice(Protocol):
    """A causal language model that answers with an adapter, or bare."""

    @property
    def model(self) -> Any:
        """The causal language model, adapter layers in it."""

    def prefix(self, rows: int) -> Prefix | None:
        """What stands before each of `rows` rows, made anew at each call; None but for prefix tuning."""


@dataclass(frozen=True, slots=True)
class Bare:
    """A base without an adapter.

    Args:
        model: the causal language model.
    """

    model: Any

    def prefix(self, rows: int) -> None:  # noqa: ARG002 - a bare base has none
        """Nothing."""
        return
