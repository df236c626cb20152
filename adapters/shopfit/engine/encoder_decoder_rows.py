"""The rows of a batch that is being decoded by a model with an encoder beside its decoder.

Decoders of this kind count positions from the first one of a batch, so that only rows that have read equally many
tokens can take a step together. Rows that begin together stay together: their keys and values lie in one cache from
step to step, until one of them ends.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shopfit.base.encoder_decoder import AnswerStates, new_cache, put_together, read, take_apart, write
from shopfit.base.output_head import logits_of
from shopfit.base.scoring.dual_encoder import fill_up
from shopfit.base.scoring.encoder_decoder import EncoderDecoderScorer, step_logits
from shopfit.engine.decoding_rows import Adapted, DecodingRows


@dataclass(slots=True, eq=False)
class _Batch:
    """Rows that have read equally many tokens.

    Args:
        cache: of transformers, with a row for each.
        mask: (B, T) of their prompts.
        length: tokens that they have read.
    """

    cache: Any
    mask: Tensor
    length: int

    def cut(self) -> None:
        """Forget what a step that failed has added in some layers."""
        for layer in self.cache.self_attention_cache.layers:
            layer.keys, layer.values = layer.keys[:, :, : self.length], layer.values[:, :, : self.length]


@dataclass(slots=True, eq=False)
class _Row:
    """A row, and its place in a batch."""

    batch: _Batch
    place: int
    prompt: int

    def states(self) -> AnswerStates:
        return take_apart(self.batch.cache, self.place, self.prompt)


class EncoderDecoderRows(DecodingRows):
    """Rows of a model with an encoder beside its decoder: prompts in one forward, steps of those of one length.

    Args:
        model: of transformers.
        scorer: of its base.
        most: rows at a time.
    """

    def __init__(self, model: Any, scorer: EncoderDecoderScorer, most: int) -> None:
        super().__init__(most)
        self._model = model
        self._pad, self._opening = scorer.pad, scorer.opening
        self._rows: list[_Row] = []

    @contextmanager
    def joining(
        self,
        prompts: Sequence[Sequence[int]],
        prefixes: Sequence[Tensor | None],  # noqa: ARG002 - it takes none
        adapted: Adapted,
    ) -> Iterator[Tensor]:
        """In one forward over all of them, padded on the right."""
        model, cache = self._model, new_cache()
        ids, mask = (part.to(model.device) for part in fill_up(prompts, self._pad))
        opening = torch.tensor(self._opening, device=model.device).expand(len(prompts), -1)
        with adapted(range(len(prompts))):
            hidden = write(model, opening, read(model, ids, mask), mask, cache)  # (B, O, D)
        yield logits_of(model, hidden[:, -1])
        batch = _Batch(cache, mask, len(self._opening))
        self._rows += [_Row(batch, place, len(prompt)) for place, prompt in enumerate(prompts)]

    @contextmanager
    def stepping(self, first: int, last: int, tokens: Sequence[int], adapted: Adapted) -> Iterator[Tensor]:
        """In a forward for each length."""
        rows = self._rows[first:last]
        groups: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            groups.setdefault(row.batch.length, []).append(place)
        found: dict[int, Tensor] = {}
        stepped: list[tuple[_Batch, list[int]]] = []
        try:
            for places in groups.values():
                batch = self._batch_of([rows[place] for place in places])
                stepped.append((batch, places))
                with adapted(places):
                    logits = step_logits(self._model, [tokens[place] for place in places], batch.cache, batch.mask)
                found |= zip(places, logits, strict=True)
            yield torch.stack([found[place] for place in range(len(rows))])
        except BaseException:
            for batch, _ in stepped:
                batch.cut()
            raise
        for batch, places in stepped:
            batch.length += 1
            for at, place in enumerate(places):
                rows[place].batch, rows[place].place = batch, at

    def _batch_of(self, rows: Sequence[_Row]) -> _Batch:
        """The batch of just these rows, in their order."""
        batch = rows[0].batch
        if len(batch.mask) == len(rows) and all(row.batch is batch and row.place == at for at, row in enumerate(rows)):
            return batch
        return _Batch(*put_together([row.states() for row in rows]), batch.length)

    def leave(self, row: int) -> None:
        """The last row takes its place."""
        self._rows[row] = self._rows[-1]
        self._rows.pop()

    def lift(self, row: int) -> AnswerStates:
        """What its layers keep."""
        return self._rows[row].states().to("cpu")

    def put_back(self, lifted: AnswerStates) -> None:
        """Append it."""
        cache, mask = put_together([lifted.to(self._model.device)])
        self._rows.append(_Row(_Batch(cache, mask, lifted.length), 0, mask.shape[1]))
