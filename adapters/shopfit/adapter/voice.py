"""What scoring and generation need to know of a base with an adapter on it, in training or finished."""

from typing import Any, Protocol


class Voice(Protocol):
    """A causal language model that answers with an adapter, or bare."""

    @property
    def model(self) -> Any:
        """The causal language model, adapter layers in it."""

    @property
    def prefix_length(self) -> int:
        """Positions that stand before every row; 0 but for prefix tuning."""

    def prefix(self, rows: int) -> Any:
        """A fresh cache of `prefix_length` positions for `rows` rows, or None."""
