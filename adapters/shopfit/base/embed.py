"""Sentence embeddings by an encoder base: mean-pooled, of unit length (Sentence-BERT, arXiv:1908.10084)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shopfit.base.load import Base, load_base

Vectors = NDArray[np.float32]


class Embedder:
    """Turns texts into vectors. Equal texts are embedded once.

    Args:
        base: an encoder, loaded.
        batch_size: texts a forward.
        max_tokens: of a text; what is longer is cut.
    """

    def __init__(self, base: Base, *, batch_size: int = 64, max_tokens: int = 256) -> None:
        self._base = base
        self._batch_size = batch_size
        self._max_tokens = min(max_tokens, base.max_length)
        self._known: dict[str, Vectors] = {}

    @classmethod
    def load(cls, home: Path, name: str = "minilm-l6", *, device: str | None = None) -> "Embedder":
        """Load the encoder called `name`."""
        return cls(load_base(name, home, device=device))

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Embed N texts.

        Returns:
            (N, D) float32, rows of length 1; D is 384 for minilm-l6.
        """
        new = sorted(set(texts) - self._known.keys(), key=len)
        for start in range(0, len(new), self._batch_size):
            batch = new[start : start + self._batch_size]
            self._known.update(zip(batch, self._embed(batch), strict=True))
        if not texts:
            return np.zeros((0, self._base.model.config.hidden_size), np.float32)
        return np.stack([self._known[text] for text in texts])

    def _embed(self, texts: list[str]) -> Vectors:
        import torch

        tokens = self._base.tokenizer(
            texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        ).to(self._base.device)
        with torch.inference_mode():
            hidden = self._base.model(**tokens).last_hidden_state  # (N, T, D)
            mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)  # (N, T, 1)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            vectors: Vectors = torch.nn.functional.normalize(pooled, dim=-1).float().cpu().numpy()
        return vectors
