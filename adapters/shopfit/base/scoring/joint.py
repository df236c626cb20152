"""One differentiable forward over several batches, such as those of several merchants, each with its own scores."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor

from shopfit.base.scoring.causal import CausalScorer, TreeBatch
from shopfit.base.scoring.dual_encoder import DualEncoderScorer, PairBatch, reading_of, runs, text_vectors
from shopfit.base.scoring.scorer import QuestionBatch, Scorer, keys_of

Keys = Callable[[], list[tuple[bytes, int]]]
Owners = Callable[[Sequence[int], Keys], AbstractContextManager[None]]
"""A context for a forward, of the batch that each of its rows is of, and of what gives the rows' `row_keys`."""


def joins(scorer: Scorer[Any], model: Any) -> bool:
    """Whether batches can share a forward: on the fast path of decoders, and of encoders that read padded texts."""
    if isinstance(scorer, DualEncoderScorer):
        return not reading_of(model).plain
    return isinstance(scorer, CausalScorer)


def joint_scores(
    model: Any, batches: Sequence[QuestionBatch], classes: Sequence[Tensor | None], owners: Owners
) -> list[Tensor]:
    """Scores of the answers of each batch, as its own `forward` gives them, in one forward or a few.

    Args:
        model: of transformers, whose scorer `joins`.
        batches: N of them, all of one kind, on the model's device.
        classes: of each batch, as for `forward`.
        owners: entered for each forward.

    Returns:
        N tensors, one number an answer.
    """
    if isinstance(batches[0], TreeBatch):
        return _trees(model, cast("Sequence[TreeBatch]", batches), owners)
    return _pairs(model, cast("Sequence[PairBatch]", batches), classes, owners)


def _trees(model: Any, batches: Sequence[TreeBatch], owners: Owners) -> list[Tensor]:
    rows = [len(batch.input_ids) for batch in batches]
    joined = _joined(batches)
    with owners([owner for owner, count in enumerate(rows) for _ in range(count)], lambda: joined.row_keys(model)):
        sums = joined.forward(model)
    return list(torch.split(sums, [len(batch.lengths) for batch in batches]))


def _joined(batches: Sequence[TreeBatch]) -> TreeBatch:
    """One batch with the rows of all, in their order."""
    width = max(batch.input_ids.shape[1] for batch in batches)

    def before(counts: Sequence[int]) -> list[int]:
        return list(accumulate(counts[:-1], initial=0))

    rows = before([len(batch.input_ids) for batch in batches])
    sources = before([len(batch.sources) for batch in batches])
    answers = before([len(batch.lengths) for batch in batches])

    def filled(name: str, value: int) -> Tensor:
        parts: list[Tensor] = [getattr(batch, name) for batch in batches]
        pad = torch.nn.functional.pad
        return torch.cat([pad(part, (0, width - part.shape[1]), value=value) for part in parts])

    def place(batch: TreeBatch, first: int) -> Tensor:
        row, at = batch.sources // batch.input_ids.shape[1], batch.sources % batch.input_ids.shape[1]
        return (row + first) * width + at

    def shifted(name: str, by: Sequence[int]) -> Tensor:
        return torch.cat([getattr(batch, name) + first for batch, first in zip(batches, by, strict=True)])

    return TreeBatch(
        input_ids=filled("input_ids", 0),
        branch=filled("branch", -1),
        position_ids=filled("position_ids", 0),
        branched=any(batch.branched for batch in batches),
        sources=torch.cat([place(batch, first) for batch, first in zip(batches, rows, strict=True)]),
        source=shifted("source", sources),
        targets=torch.cat([batch.targets for batch in batches]),
        answer=shifted("answer", answers),
        lengths=torch.cat([batch.lengths for batch in batches]),
        counts=tuple(count for batch in batches for count in batch.counts),
        firsts=tuple(place + first for batch, first in zip(batches, rows, strict=True) for place in batch.firsts),
        attention=batches[0].attention,
    )


def _pairs(model: Any, batches: Sequence[PairBatch], classes: Sequence[Tensor | None], owners: Owners) -> list[Tensor]:
    """The texts of all batches, those of similar length together: on a CPU padding costs as much as text."""
    texts = [
        (length, owner, row)
        for owner, batch in enumerate(batches)
        for row, length in enumerate(batch.mask.sum(1).tolist())
    ]
    texts.sort(key=lambda text: -text[0])
    vectors: list[list[Tensor]] = [[] for _ in batches]
    order: list[list[Tensor]] = [[] for _ in batches]
    first = 0
    for count, width in runs([length for length, _, _ in texts]):
        run, first = texts[first : first + count], first + count
        rows = [
            torch.tensor([row for _, mine, row in run if mine == owner], dtype=torch.long, device=batch.mask.device)
            for owner, batch in enumerate(batches)
        ]
        ids, mask = (
            torch.cat([_upto(getattr(batch, name)[mine], width) for batch, mine in zip(batches, rows, strict=True)])
            for name in ("input_ids", "mask")
        )
        keys = partial(keys_of, mask != 0, ids)
        with owners([owner for owner, mine in enumerate(rows) for _ in range(len(mine))], keys):
            found = text_vectors(model, ids, mask).float()
        for owner, (mine, part) in enumerate(zip(rows, torch.split(found, [len(mine) for mine in rows]), strict=True)):
            vectors[owner].append(part)
            order[owner].append(mine)
    return [
        batch.scores(torch.cat(vectors[owner])[torch.cat(order[owner]).argsort()], classes[owner])
        for owner, batch in enumerate(batches)
    ]


def _upto(rows: Tensor, width: int) -> Tensor:
    """(R, width) of rows, cut or filled up with zeros."""
    return torch.nn.functional.pad(rows, (0, width - rows.shape[1]))
