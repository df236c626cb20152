"""Sentence embeddings by an encoder base: made as its profile says, of length 1 (Sentence-BERT, arXiv:1908.10084)."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopfit.base.encode import PlainTokenizer
from shopfit.base.load import Base, load_base
from shopfit.base.profile import Profile
from shopfit.recipe.schema import AUTO

Vectors = NDArray[np.float32]


class Embedder:
    """Turns texts into vectors.

    Args:
        base: an encoder, loaded.
        batch_size: texts a forward.
        max_tokens: of a text; longer ones are truncated.
        remember: cache every vector, so that a text is embedded once. The cache is unbounded: not for queries.
    """

    def __init__(self, base: Base, *, batch_size: int = 64, max_tokens: int = 256, remember: bool = True) -> None:
        self._base = base
        self._batch_size = batch_size
        self._max_tokens = min(max_tokens, base.max_length)
        self._remember = remember
        self._known: dict[str, Vectors] = {}

    @classmethod
    def load(
        cls, home: Path, name: str = "minilm-l6", *, device: str | None = None, remember: bool = True
    ) -> "Embedder":
        """Load the encoder called `name`."""
        return cls(load_base(name, home, device=device, dtype="float32"), remember=remember)

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Embed N texts that ask, or that are compared with their like.

        Returns:
            (N, D) float32, rows of length 1; D is 384 for minilm-l6.
        """
        return self._vectors([self._profile.query + text for text in texts])

    def items(self, texts: Sequence[str]) -> Vectors:
        """Embed N texts that are found, likewise."""
        return self._vectors([self._profile.passage + text for text in texts])

    def similarity(self, cosines: Any) -> Any:
        """Cosines as similarities; see `Profile`."""
        return self._profile.similarity(cosines)

    @property
    def _profile(self) -> Profile:
        from shopfit.base.scoring.dual_encoder import reading_of

        return reading_of(self._base.model).profile

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.width), np.float32)
        vectors = self._new(set(texts) - self._known.keys())
        if self._remember:
            self._known |= vectors
            vectors = self._known
        return np.stack([vectors[text] for text in texts])

    @property
    def identity(self) -> str:
        """What its vectors depend on besides the text."""
        rounding = f" {self._base.rounding}" if self._base.rounding else ""
        return f"{self._base.fingerprint} {self._base.dtype} {self._base.quantization} {self._max_tokens}{rounding}"

    @property
    def fingerprint(self) -> str:
        """That of its encoder."""
        return self._base.fingerprint

    @property
    def width(self) -> int:
        """D, numbers of a vector."""
        return int(self._base.model.config.hidden_size)

    def anew(self) -> "Embedder":
        """Another one on the same encoder, which has cached nothing yet."""
        return Embedder(self._base, batch_size=self._batch_size, max_tokens=self._max_tokens, remember=self._remember)

    def items_once(self, texts: Sequence[str]) -> Vectors:
        """Embed N texts that are found, one or more, without caching them."""
        found = [self._profile.passage + text for text in texts]
        vectors = self._new(set(found))
        return np.stack([vectors[text] for text in found])

    def _new(self, texts: set[str]) -> dict[str, Vectors]:
        ordered = sorted(texts, key=lambda text: (len(text), text))  # a set has another order in each process
        vectors: dict[str, Vectors] = {}
        for start in range(0, len(ordered), self._batch_size):
            batch = ordered[start : start + self._batch_size]
            vectors.update(zip(batch, self._embed(batch), strict=True))
        return vectors

    def _embed(self, texts: list[str]) -> Vectors:
        import torch

        from shopfit.base.scoring.dual_encoder import read_texts

        plain = PlainTokenizer.of(self._base.tokenizer)
        tokens = [plain.encode(text, limit=self._max_tokens) for text in texts]
        with torch.inference_mode():
            found = read_texts(self._base.model, tokens, self._base.tokenizer.pad_token_id)
            vectors: Vectors = found.cpu().numpy()
        return vectors


@dataclass(slots=True)
class _Family:
    """Embedders of several encoders that one was asked for.

    Args:
        known: by the encoder's name.
        origin: that they are made anew of, if they are.
        lock: held to look one up; never while one loads or embeds.
    """

    known: "dict[str, LateEmbedder]"
    origin: "LateEmbedder | None" = None
    lock: threading.Lock = field(default_factory=threading.Lock)


def late_embedder(home: Path, encoder: str, device: str | None = None) -> "LateEmbedder":
    """What serves: an embedder that caches nothing. `auto` has the encoder that each recipe names."""
    return LateEmbedder(home, None if encoder == AUTO else encoder, device=device, remember=False)


class LateEmbedder:
    """An embedder that loads its encoder with the first call. Thread-safe.

    Args:
        home: shopfit's home folder.
        name: of the encoder; by default minilm-l6, and that of each recipe where a recipe names one.
        device: such as "cpu"; the first GPU if there is one by default.
        remember: as for `Embedder`.
    """

    def __init__(
        self, home: Path, name: str | None = None, *, device: str | None = None, remember: bool = True
    ) -> None:
        self.follows = name is None
        name = name or "minilm-l6"
        self.home, self.name = home, name
        self._options: dict[str, Any] = {"device": device, "remember": remember}
        self._load: Callable[[], Embedder] = partial(Embedder.load, home, name, **self._options)
        self._embedder: Embedder | None = None
        self._lock = threading.Lock()  # while it loads, and while it embeds
        self._family = _Family({name: self})

    def called(self, name: str) -> "LateEmbedder":
        """That of another encoder, which is loaded once however often it is asked for."""
        with self._family.lock:
            known = self._family.known
            if name not in known:
                origin = self._family.origin
                if origin is None:
                    known[name] = LateEmbedder(self.home, name, **self._options)
                else:
                    known[name] = origin.called(name).anew()
                known[name]._family, known[name].follows = self._family, self.follows
            return known[name]

    def anew(self) -> "LateEmbedder":
        """Another one of the same encoder, which is loaded once for both; neither knows what the other has cached. So
        are those of other encoders that it is asked for.
        """
        other = LateEmbedder(self.home, self.name, **self._options)
        other._load, other.follows = self._another, self.follows
        other._family.origin = self._family.origin or self
        return other

    def _another(self) -> Embedder:
        with self._lock:
            return self._loaded.anew()

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Embed N texts that ask, as `Embedder` does."""
        with self._lock:
            return self._loaded(texts)

    def items(self, texts: Sequence[str]) -> Vectors:
        """Embed N texts that are found."""
        with self._lock:
            return self._loaded.items(texts)

    def items_once(self, texts: Sequence[str]) -> Vectors:
        """Embed N texts that are found, one or more, without caching them."""
        with self._lock:
            return self._loaded.items_once(texts)

    def similarity(self, cosines: Any) -> Any:
        """Cosines as similarities; see `Profile`."""
        with self._lock:
            return self._loaded.similarity(cosines)

    @property
    def fingerprint(self) -> str:
        """That of its encoder."""
        with self._lock:
            return self._loaded.fingerprint

    @property
    def kind(self) -> tuple[str, int]:
        """What its vectors depend on besides the text, and D, their width."""
        with self._lock:
            return self._loaded.identity, self._loaded.width

    @property
    def _loaded(self) -> Embedder:
        if self._embedder is None:
            self._embedder = self._load()
        return self._embedder
