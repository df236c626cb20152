"""The rows of a batch that is being decoded, on either path: what is read of a base, and what is kept between steps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from shopfit.base.attention import text_config
from shopfit.base.layer_states import RowStates, cache_options, new_cache, put_together, take_apart, with_prefix
from shopfit.base.output_head import backbone_of, logits_of
from shopfit.base.placement import block_devices
from shopfit.base.scoring.causal import CausalScorer
from shopfit.base.scoring.plain_causal import step_logits
from shopfit.engine.kv_cache import Lifted, RowCache

Adapted = Callable[[Sequence[int]], AbstractContextManager[None]]
"""A context in which the rows of a forward, some of those that were named, have their adapters."""


class DecodingRows(ABC):
    """Rows that are decoded together. Row r of a step is row r here; the last one takes the place of one that ends.

    Args:
        most: rows at a time.
    """

    def __init__(self, most: int) -> None:
        self.most = most

    @abstractmethod
    def joining(
        self, prompts: Sequence[Sequence[int]], prefixes: Sequence[Tensor | None], adapted: Adapted
    ) -> AbstractContextManager[Tensor]:
        """A context in which the prompts of new rows have been read; they join at its end. If it fails, none has.

        Args:
            prompts: of B rows, at least one token each.
            prefixes: trained keys and values before each, (layers, 2, heads, n, dim), or None.
            adapted: of the B rows.

        Yields:
            (B, V) float32 scores of the first token of each.
        """

    @abstractmethod
    def stepping(
        self, first: int, last: int, tokens: Sequence[int], adapted: Adapted
    ) -> AbstractContextManager[Tensor]:
        """A context in which each row from `first` to `last` has read one more token. If it fails, none has.

        Args:
            first: of the rows.
            last: the row after the last of them.
            tokens: of these B rows.
            adapted: of these B rows.

        Yields:
            (B, V) float32 scores of the token after it.
        """

    @abstractmethod
    def leave(self, row: int) -> None:
        """Remove a row."""

    @abstractmethod
    def lift(self, row: int) -> Any:
        """A copy of what is kept of a row, on the CPU; the row itself stays until `leave`."""

    @abstractmethod
    def put_back(self, lifted: Any) -> None:
        """Append a row that was lifted out."""


class FastRows(DecodingRows):
    """Rows whose layers take masks and positions: prompts in one forward, keys and values in memory that is reused.

    Args:
        model: a causal language model.
        scorer: of its base.
        most: rows at a time.
    """

    def __init__(self, model: Any, scorer: CausalScorer, most: int) -> None:
        super().__init__(most)
        self._model = model
        self._pad = scorer.pad
        layers = text_config(model).num_hidden_layers
        self._cache = RowCache(scorer.attention, layers, most, model.device, block_devices(model))

    @contextmanager
    def joining(
        self, prompts: Sequence[Sequence[int]], prefixes: Sequence[Tensor | None], adapted: Adapted
    ) -> Iterator[Tensor]:
        """In one forward over all of them, padded on the right."""
        lengths = [len(prompt) for prompt in prompts]
        ids = torch.full((len(prompts), max(lengths)), self._pad)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)
        ids = ids.to(self._model.device)
        with self._cache.joining(lengths, prefixes) as options:
            with adapted(range(len(prompts))):
                hidden = backbone_of(self._model)(input_ids=ids, **options).last_hidden_state  # (B, T, D)
            last = torch.tensor(lengths, device=hidden.device) - 1
            yield logits_of(self._model, hidden[torch.arange(len(prompts), device=hidden.device), last])

    @contextmanager
    def stepping(self, first: int, last: int, tokens: Sequence[int], adapted: Adapted) -> Iterator[Tensor]:
        """In one forward."""
        ids = torch.tensor(tokens, device=self._model.device)[:, None]
        with self._cache.stepping(first, last) as options:
            with adapted(range(last - first)):
                hidden = backbone_of(self._model)(input_ids=ids, **options).last_hidden_state  # (B, 1, D)
            yield logits_of(self._model, hidden[:, 0])

    def leave(self, row: int) -> None:
        """The last row takes its place."""
        self._cache.leave(row)

    def lift(self, row: int) -> Lifted:
        """Its keys and values."""
        return self._cache.lift(row)

    def put_back(self, lifted: Lifted) -> None:
        """Append it."""
        self._cache.put_back(lifted)


class PlainRows(DecodingRows):
    """Rows of any causal language model: each prompt alone, and steps in one batch padded on the left.

    Args:
        model: a causal language model.
        most: rows at a time.
    """

    def __init__(self, model: Any, most: int) -> None:
        super().__init__(most)
        self._model = model
        self._rows: list[RowStates] = []

    @contextmanager
    def joining(
        self, prompts: Sequence[Sequence[int]], prefixes: Sequence[Tensor | None], adapted: Adapted
    ) -> Iterator[Tensor]:
        """Each in a forward of its own, without padding."""
        found = []
        for row, (prompt, prefix) in enumerate(zip(prompts, prefixes, strict=True)):
            with adapted([row]):
                found.append(self._read(prompt, prefix))
        yield torch.cat([logits for logits, _ in found])
        self._rows += [states for _, states in found]

    def _read(self, prompt: Sequence[int], prefix: Tensor | None) -> tuple[Tensor, RowStates]:
        before = 0 if prefix is None else prefix.shape[3]
        cache = new_cache(self._model) if prefix is None else with_prefix(self._model, prefix)
        places = torch.arange(before, before + len(prompt), device=self._model.device)[None]
        hidden = backbone_of(self._model)(
            input_ids=torch.tensor([list(prompt)], device=self._model.device),
            **cache_options(self._model, cache, places),
        ).last_hidden_state  # (1, T, D)
        (states,) = take_apart(cache, [before + len(prompt)])
        return logits_of(self._model, hidden[:, -1]), states

    @contextmanager
    def stepping(self, first: int, last: int, tokens: Sequence[int], adapted: Adapted) -> Iterator[Tensor]:
        """In one forward, for which the rows are put together."""
        rows = self._rows[first:last]
        lengths = [row.length for row in rows]
        cache, mask = put_together(self._model, rows)
        with adapted(range(last - first)):
            logits = step_logits(self._model, tokens, lengths, cache, mask)
        yield logits
        self._rows[first:last] = take_apart(cache, [length + 1 for length in lengths])

    def leave(self, row: int) -> None:
        """The last row takes its place."""
        self._rows[row] = self._rows[-1]
        self._rows.pop()

    def lift(self, row: int) -> RowStates:
        """What its layers keep."""
        return self._rows[row].to("cpu")

    def put_back(self, lifted: RowStates) -> None:
        """Append it."""
        self._rows.append(lifted.to(self._model.device))
