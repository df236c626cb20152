"""The trunk: a base's blocks below the first one that an adapter changes, whose states of a text stay the same.

Training with `adapter.layers: last:N` reads each text with them once. The states behind the trunk are kept, and later
forwards over the same text begin there. The trunk is read without dropout, as it is at inference.

On a CPU the trunk reads each text by itself. In a batch, the last bits of its states would depend on the other texts:
so a training that goes on, whose batches meet other texts for the first time, would not come to the same adapter.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from shopfit.base.blocks import block_names
from shopfit.base.output_head import backbone_of
from shopfit.base.scoring.scorer import QuestionBatch

_MOST = 1 << 29  # bytes of states that are kept, of one trunk
_TRIED = (5, 3)  # tokens of the rows of a trial
_NEAR = 1e-4  # of the largest state: kept and computed ones are the same


class TrunkStates:
    """States of texts behind a trunk; those not asked for lately are let go beyond so many bytes.

    Args:
        most: bytes.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._bytes = 0
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()

    def of(self, rows: Sequence[bytes]) -> list[Tensor] | None:
        """(T, D) states of each row's tokens; None if those of any are not there."""
        if not all(row in self._known for row in rows):
            return None
        for row in rows:
            self._known.move_to_end(row)
        return [self._known[row] for row in rows]

    def keep(self, row: bytes, states: Tensor) -> None:
        """Keep a row's (T, D) states."""
        if row in self._known or states.nbytes > self._most:
            return
        self._known[row] = states
        self._bytes += states.nbytes
        while self._bytes > self._most:
            self._bytes -= self._known.popitem(last=False)[1].nbytes


class Trunk:
    """The blocks of a model below the first adapted one.

    Args:
        model: frozen, of transformers, on one device.
        count: of blocks that are adapted, the last ones; at least 1, and fewer than there are.
        alone: whether the trunk reads each text by itself; else together with the others of the batch.

    `count` says so; of two trunks of a model, that with the larger count is part of the other.
    """

    def __init__(self, model: Any, count: int, *, alone: bool) -> None:
        blocks = [model.get_submodule(name) for name in block_names(model)]
        self.count = count
        self._alone = alone
        self._model, self._backbone = model, backbone_of(model)
        self._trunk, self._adapted = blocks[:-count], blocks[-count:]
        self._forms: dict[nn.Module, type | None] = {}
        self._behind: Tensor | None = None  # (R, T, D) states that the running forward begins with
        self._last: list[Tensor] = []  # states that the trunk made last
        self._reading: Sequence[tuple[bytes, int]] = ()
        self._left: list[tuple[bytes, int]] = []
        self.keeps = self._try()
        """Whether states can be kept: not where the upper blocks read more of the lower ones than their states."""

    @contextmanager
    def reading(self, batch: QuestionBatch) -> Iterator[None]:
        """A context for the forwards over a batch's rows, which begin behind the trunk where its states are known."""
        self._backbone.eval()
        for block in self._adapted:
            block.train()
        with self.behind(partial(batch.row_keys, self._model)):
            yield

    @contextmanager
    def behind(self, keys: Callable[[], list[tuple[bytes, int]]]) -> Iterator[None]:
        """A context for forwards over rows, in the modes that the blocks are in.

        Args:
            keys: gives the `row_keys` of all rows, in their order; none to read each with all blocks.
        """
        rows = keys() if self.keeps else []
        if not rows:
            yield
            return
        kind = self._model.device.type  # what is computed in half precision is not what is not
        numbers = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self._model.dtype
        with self._over(rows, _KEPT.setdefault(self._model, {}).setdefault((self.count, numbers), TrunkStates())):
            yield

    @contextmanager
    def _over(self, rows: Sequence[tuple[bytes, int]], states: TrunkStates) -> Iterator[None]:
        self._left = list(rows)
        hook = self._backbone.register_forward_pre_hook(partial(self._begin, states), with_kwargs=True)
        for block in self._trunk:
            block.forward = partial(self._forward, block, states)
        try:
            yield
        finally:
            hook.remove()
            self._behind, self._last, self._reading = None, [], ()
            for block in self._trunk:
                block.__dict__.pop("forward", None)

    def _begin(self, states: TrunkStates, _: nn.Module, args: Any, kwargs: Any) -> None:
        """Look up the rows of a forward: the next ones of the batch."""
        count, width = (kwargs["input_ids"] if "input_ids" in kwargs else args[0]).shape
        rows, self._left = self._left[:count], self._left[count:]
        known = self._read(states, rows, args, kwargs) if self._alone else states.of([row for row, _ in rows])
        self._reading, self._behind = rows, None if known is None else _padded(known, width)

    def _read(
        self, states: TrunkStates, rows: Sequence[tuple[bytes, int]], args: Any, kwargs: Any
    ) -> list[Tensor] | None:
        """States of the rows of a forward, each that is not known read by itself; None if the trunk gives none."""
        found = []
        with torch.no_grad(), self._bare():
            for place, (row, tokens) in enumerate(rows):
                known = states.of([row])
                if known is None:
                    self._reading, self._behind, self._last = [(row, tokens)], None, []
                    mine = partial(_cut, place=place, tokens=tokens)
                    self._backbone.forward(*map(mine, args), **_plain({key: mine(kwargs[key]) for key in kwargs}))
                    if not self._last:
                        return None
                    known = self._last
                found += known
        return found

    @contextmanager
    def _bare(self) -> Iterator[None]:
        """A context for forwards that end behind the trunk, whose layers are the base's own: no stack is in them."""
        inside = [module for block in self._trunk for module in block.modules() if module is not block]
        put_on = [(module, module.__dict__.pop("forward")) for module in inside if "forward" in module.__dict__]
        for block in self._adapted:
            block.forward = self._through
        try:
            yield
        finally:
            for block in self._adapted:
                block.__dict__.pop("forward", None)
            for module, forward in put_on:
                module.forward = forward

    def _through(self, hidden: Tensor, *_: Any, **__: Any) -> Any:
        return (hidden,) if self._forms[self._trunk[-1]] is tuple else hidden

    def _forward(self, block: nn.Module, states: TrunkStates, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        last = block is self._trunk[-1]
        if self._behind is not None:
            out = self._behind if last else hidden
            return (out,) if self._forms[block] is tuple else out
        with torch.no_grad():  # nothing is trained down here, whatever else is on the layers
            found = type(block).forward(block, hidden, *args, **kwargs)
        self._forms[block] = _form(found)
        if last and self._forms[block] is not None:
            behind = found[0] if isinstance(found, tuple) else found
            self._last = [behind[place, :tokens].detach().clone() for place, (_, tokens) in enumerate(self._reading)]
            for (row, _), mine in zip(self._reading, self._last, strict=True):
                states.keep(row, mine)
        return found

    def _try(self) -> bool:
        """Whether a forward that begins behind the trunk gives the states of a whole one."""
        device = next(self._model.parameters()).device
        width = max(_TRIED)
        ids = torch.arange(len(_TRIED) * width, device=device).view(len(_TRIED), width) % 7 + 1
        rows = [(bytes([place]), tokens) for place, tokens in enumerate(_TRIED)]
        mask = torch.tensor([[int(at < tokens) for at in range(width)] for tokens in _TRIED], device=device)
        was, states = self._backbone.training, TrunkStates()
        self._backbone.eval()
        with torch.no_grad():
            whole, behind = self._backbone(input_ids=ids, attention_mask=mask).last_hidden_state, None
            for _ in range(2):  # the first one may read the rows, the second begins behind the trunk
                with self._over(rows, states):
                    behind = self._backbone(input_ids=ids, attention_mask=mask).last_hidden_state
                if None in self._forms.values():
                    behind = None
                    break
        self._backbone.train(was)
        if behind is None:
            return False
        return bool(((whole - behind) * mask[..., None]).abs().max() <= _NEAR * whole.abs().max())


def trunk_below(model: Any, *, alone: bool) -> Trunk | None:
    """The trunk of a model with an adapter on it; None if the adapter changes its first block, or none.

    Args:
        model: of transformers; only the adapter's weights require gradients.
        alone: as of the trunk.
    """
    blocks = [model.get_submodule(name) for name in block_names(model)]
    adapted = [place for place, block in enumerate(blocks) if any(one.requires_grad for one in block.parameters())]
    return Trunk(model, len(blocks) - adapted[0], alone=alone) if adapted and adapted[0] else None


_KEPT: WeakKeyDictionary[nn.Module, dict[tuple[int, torch.dtype], TrunkStates]] = WeakKeyDictionary()


def _form(found: Any) -> type | None:
    """What a block returns: its states, or a tuple of them alone; None if there is more."""
    if isinstance(found, Tensor):
        return Tensor
    alone = isinstance(found, tuple) and all(part is None for part in found[1:])
    return tuple if alone and isinstance(found[0], Tensor) else None


def _padded(rows: Sequence[Tensor], width: int) -> Tensor:
    """(R, T, D) of R rows of (t, D), zeros behind each."""
    padded = rows[0].new_zeros(len(rows), width, rows[0].shape[-1])
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


def _cut(value: Any, *, place: int, tokens: int) -> Any:
    """Of what a backbone is given for R rows of T tokens, that for one row: of (R, T), and of masks (R, 1, T, T).

    Args:
        value: any; what is no tensor, nor a table of them, stays as it is.
        place: of the row.
        tokens: of the row.
    """
    if isinstance(value, Mapping):
        return {key: _cut(part, place=place, tokens=tokens) for key, part in value.items()}
    if not isinstance(value, Tensor):
        return value
    row = value[place : place + 1]
    return row[:, :tokens] if row.dim() == 2 else row[..., :tokens, :tokens]


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """What a backbone is given for a row, which has no mask if it needs none, whatever others of its batch need."""
    places = options.get("position_ids")
    if places is None or not torch.equal(places[0], torch.arange(places.shape[1], device=places.device)):
        return options
    return {key: value for key, value in options.items() if key not in {"position_ids", "attention_mask"}}
