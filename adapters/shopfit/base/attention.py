"""The masks of decoders: which tokens a position reads, in the form that a model takes them.

A layer reads the whole text before a position, or only a window of it: the last w positions, itself among them
(Longformer, arXiv:2004.05150; Mistral 7B, arXiv:2310.06825). Models of both kinds take one mask a kind of layer.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

FULL, SLIDING = "full_attention", "sliding_attention"  # transformers' names


@dataclass(frozen=True, slots=True)
class Attention:
    """How the layers of a decoder attend.

    Args:
        window: positions that layers with a sliding window read, at least 1; None if no layer has one.
        by_kind: whether the model takes a mask for each kind of layer, by its name.
        added: dtype of masks that are added to the scores (eager attention); None for masks of booleans (SDPA).
    """

    window: int | None = None
    by_kind: bool = False
    added: torch.dtype | None = field(default=None)

    def mask(self, allowed: Tensor, asking: Tensor, read: Tensor) -> Any:
        """The mask of a forward.

        Args:
            allowed: (B, T, L) whether a position may read another, were there no window.
            asking: (B, T) places of the positions that read.
            read: (B, L) places of those that are read.

        Returns:
            (B, 1, T, L), or a dictionary of such by kind of layer.
        """
        if self.window is None:
            return self._form(allowed)
        near = allowed & (asking[:, :, None] - read[:, None, :] < self.window)
        return {FULL: self._form(allowed), SLIDING: self._form(near)} if self.by_kind else self._form(near)

    def _form(self, allowed: Tensor) -> Tensor:
        mask = allowed[:, None]
        if self.added is None:
            return mask
        least = torch.finfo(self.added).min
        return torch.zeros(mask.shape, dtype=self.added, device=mask.device).masked_fill_(~mask, least)

    @contextmanager
    def narrowed(self, model: Any, window: int) -> Iterator["Attention"]:
        """A context in which a model with windows has narrow ones, so that a few tokens tell whether they are right."""
        if self.window is None:
            yield self
            return
        config = text_config(model)
        usual, config.sliding_window = config.sliding_window, window
        try:
            yield replace(self, window=window)
        finally:
            config.sliding_window = usual


def text_config(model: Any) -> Any:
    """The settings of a model's text side, which multimodal checkpoints keep apart."""
    return model.config.get_text_config(decoder=True)


def attention_of(model: Any) -> Attention | None:
    """How the layers of a decoder attend; None if not by masks of these two kinds."""
    config = text_config(model)
    kinds: Mapping[str, None] = dict.fromkeys(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    if not set(kinds) <= {FULL, SLIDING} or (SLIDING in kinds and not isinstance(window, int)):
        return None
    eager = model.config._attn_implementation == "eager"
    return Attention(
        window=window if isinstance(window, int) and (SLIDING in kinds or not kinds) else None,
        by_kind=SLIDING in kinds,
        added=model.dtype if eager else None,
    )
