"""The KV cache of the sequences that are being decoded, in memory that is reused between requests.

Row r of every layer is row r of the next step's batch. The last row moves into the place of a row that ends, so that
the rows in use are always the first n, and attention reads them without a copy. (Memory for whole rows, where vLLM has
blocks, arXiv:2309.06180: a shop's answers are short and of similar length.)

Attention reads masked positions too, and 0 x NaN is NaN: so unused positions of a row always hold zeros, never what an
earlier merchant's row left there.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from shopfit.base.attention import Attention
from shopfit.base.prefix import Prefix, lay_before

_GRAIN = 64  # the cache grows by a multiple of so many positions


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """The cache of one layer, as transformers' attention calls it."""

    keys: Any
    values: Any

    def __init__(self, rows: "RowCache", device: torch.device) -> None:
        super().__init__()
        self._rows, self.device = rows, device

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        room = self._rows.room
        self.keys, self.values = (
            states.new_zeros(room[0], states.shape[1], room[1], states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self._rows.take(self, key_states, value_states)

    def drop(self) -> None:
        self.keys, self.values = None, None
        self.is_initialized = False

    def resize(self, room: tuple[int, int]) -> None:
        if not self.is_initialized:
            return
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_zeros(room[0], old.shape[1], room[1], old.shape[3])
            new[: len(old), :, : old.shape[2]] = old
            setattr(self, name, new)

    def get_seq_length(self) -> int:
        return 0  # positions are always given to the model

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_max_length(self) -> int:
        return -1


class RowCache:
    """Keys and values of at most `most` rows.

    Args:
        attention: of the model.
        layers: of the model.
        most: rows at a time.
        device: where the model is.
        layers_on: device of each layer, where those differ.
    """

    def __init__(
        self,
        attention: Attention,
        layers: int,
        most: int,
        device: torch.device | str = "cpu",
        layers_on: Sequence[torch.device] = (),
    ) -> None:
        self.most = most
        self._attention = attention
        self.room = (0, 0)
        self.lengths: list[int] = []
        self._filled: list[int] = []  # for each row of the memory: the position from which on it holds zeros
        self._device = device
        self._layers_on = layers_on
        self._layers = [_Layer(self, place) for place in layers_on or [torch.device(device)] * layers]
        self._cache = Cache(layers=self._layers)
        self._prefix: Prefix | None = None
        self._at: tuple[Tensor, Tensor] = (torch.empty(0), torch.empty(0))
        self._rows = slice(0)  # of a step
        self._width = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def _reserve(self, rows: int, positions: int) -> None:
        wanted = (
            self.room[0] if rows <= self.room[0] else min(self.most, max(rows, 2 * self.room[0])),
            self.room[1] if positions <= self.room[1] else -(-positions // _GRAIN) * _GRAIN,
        )
        if wanted != self.room:
            for layer in self._layers:
                layer.resize(wanted)
            self.room = wanted
            self._filled += [0] * (wanted[0] - len(self._filled))

    @contextmanager
    def joining(self, lengths: Sequence[int], prefixes: Sequence[Tensor | None]) -> Iterator[dict[str, Any]]:
        """A forward over the prompts of new rows, which follow the rows in use.

        Args:
            lengths: tokens of each of B prompts. The forward's rows are padded on the right.
            prefixes: trained keys and values before each, (layers, 2, heads, n, dim), or None.

        Yields:
            what to call the model with, besides the tokens. If the call fails, no row has joined.
        """
        behind = [0 if prefix is None else prefix.shape[3] for prefix in prefixes]
        first, width = len(self), max(lengths)
        self._reserve(first + len(lengths), max(behind) + width)
        rows = torch.arange(first, first + len(lengths), device=self._device)[:, None]  # (B, 1)
        steps = torch.arange(width, device=self._device)
        positions = torch.tensor(behind, device=self._device)[:, None] + steps  # (B, T)
        self._at, self._width = (rows, positions), 0
        self._prefix = lay_before(prefixes, self._device, self._layers_on)
        options: dict[str, Any] = {"past_key_values": self._cache, "use_cache": True, "position_ids": positions}
        if self._prefix is not None:
            causal = torch.ones(width, width, dtype=torch.bool, device=self._device).tril().expand(len(lengths), -1, -1)
            virtual = torch.arange(self._prefix.width, device=self._device).expand(len(lengths), -1)
            read = torch.cat((virtual, positions), dim=1)
            options["attention_mask"] = self._attention.mask(self._prefix.before(causal), positions, read)
        try:
            yield options
            if self._prefix is not None:
                self._keep_prefixes(first, prefixes)
        finally:
            self._prefix = None
            for row, before in enumerate(behind, start=first):  # padding is written too, also by a failing forward
                self._filled[row] = max(self._filled[row], before + width)
        self.lengths += [before + length for before, length in zip(behind, lengths, strict=True)]
        self._clean(range(first, len(self)))

    def _clean(self, rows: Iterable[int]) -> None:
        """Write zeros after the last position of each row."""
        spans = [(row, self.lengths[row], self._filled[row]) for row in rows if self.lengths[row] < self._filled[row]]
        if not spans:
            return
        row, first, last = torch.tensor(spans).T  # (S,)
        steps = torch.arange(int(last.max()))
        span, positions = ((steps >= first[:, None]) & (steps < last[:, None])).nonzero().T.to(self._device)
        at = row.to(self._device)[span]
        for layer in self._layers:
            where, steps = at.to(layer.device), positions.to(layer.device)
            layer.keys[where, :, steps] = 0
            layer.values[where, :, steps] = 0
        for place, length, _ in spans:
            self._filled[place] = length

    def _keep_prefixes(self, first: int, prefixes: Sequence[Tensor | None]) -> None:
        for row, prefix in enumerate(prefixes, start=first):
            if prefix is not None:
                for layer, (keys, values) in zip(self._layers, prefix, strict=True):
                    layer.keys[row, :, : prefix.shape[3]] = keys
                    layer.values[row, :, : prefix.shape[3]] = values

    @contextmanager
    def stepping(self, first: int, last: int) -> Iterator[dict[str, Any]]:
        """A forward over one more token of each row from `first` to `last`.

        Args:
            first: of the rows.
            last: the row after the last of them.

        Yields:
            what to call the model with, besides the tokens. If the call fails, the rows are as they were.
        """
        lengths = self.lengths[first:last]
        self._reserve(len(self), max(lengths) + 1)
        positions = torch.tensor(lengths, device=self._device)
        self._rows = slice(first, last)
        self._at, self._width = (torch.arange(first, last, device=self._device), positions), max(lengths) + 1
        read = torch.arange(self._width, device=self._device).expand(len(lengths), -1)  # (B, L)
        allowed = (read <= positions[:, None])[:, None]  # (B, 1, L)
        for row, length in enumerate(lengths, start=first):
            self._filled[row] = max(self._filled[row], length + 1)  # whether the forward fails or not
        yield {
            "past_key_values": self._cache,
            "use_cache": True,
            "position_ids": positions[:, None],
            "attention_mask": self._attention.mask(allowed, positions[:, None], read),
        }
        for row in range(first, last):
            self.lengths[row] += 1

    def take(self, layer: _Layer, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store a layer's keys and values of this forward's tokens, and return all that the tokens attend to."""
        rows, positions = (part.to(layer.device) for part in self._at)
        if self._width:  # one token a row
            layer.keys[rows, :, positions] = keys[:, :, 0]
            layer.values[rows, :, positions] = values[:, :, 0]
            return layer.keys[self._rows, :, : self._width], layer.values[self._rows, :, : self._width]
        layer.keys[rows, :, positions] = keys.transpose(1, 2)
        layer.values[rows, :, positions] = values.transpose(1, 2)
        if self._prefix is None:
            return keys, values
        before = self._prefix.cache.layers[self._layers.index(layer)]
        return torch.cat((before.keys, keys), dim=2), torch.cat((before.values, values), dim=2)

    def leave(self, row: int) -> None:
        """Remove a row: the last one takes its place."""
        last = len(self) - 1
        if row != last:
            self._write(row, [(layer.keys[last], layer.values[last]) for layer in self._layers], self.lengths[last])
        self.lengths.pop()
        if not self.lengths:  # memory that long answers needed is freed when the cache is empty
            self.room = (0, 0)
            self._filled = []
            for layer in self._layers:
                layer.drop()

    def lift(self, row: int) -> "Lifted":
        """A copy of a row's keys and values on the CPU; the row itself stays until `leave`."""
        length = self.lengths[row]
        return Lifted(
            length,
            [
                (layer.keys[row, :, :length].to("cpu", copy=True), layer.values[row, :, :length].to("cpu", copy=True))
                for layer in self._layers
            ],
        )

    def put_back(self, lifted: "Lifted") -> None:
        """Append a row that was lifted out."""
        row = len(self)
        self._reserve(row + 1, lifted.length)
        for layer, (keys, _) in zip(self._layers, lifted.states, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(keys.to(layer.device)[None], keys.to(layer.device)[None])
        self.lengths.append(lifted.length)
        self._write(row, lifted.states, lifted.length)

    def _write(self, row: int, states: Sequence[tuple[Tensor, Tensor]], length: int) -> None:
        """Overwrite a row with these states, and zeros after them."""
        for layer, (keys, values) in zip(self._layers, states, strict=True):
            layer.keys[row, :, :length] = keys[:, :length]
            layer.values[row, :, :length] = values[:, :length]
        self.lengths[row] = length
        self._filled[row] = max(self._filled[row], length)
        self._clean([row])


@dataclass(frozen=True, slots=True)
class Lifted:
    """A row that was copied out of the cache.

    Args:
        length: positions.
        states: of each layer, keys and values (heads, length, dim), on the CPU.
    """

    length: int
    states: Sequence[tuple[Tensor, Tensor]]
