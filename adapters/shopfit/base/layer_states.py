"""What the layers of any decoder keep of a text: keys and values, or the states of recurrent and convolution layers.

Rows of different lengths are put together for one step of one token each, and taken apart afterwards. Keys and values
are padded on the left, as transformers' `generate` does it; states of recurrent layers have no length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import (
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionCacheLayerMixin,
)

_STATES = ("conv_states", "recurrent_states")


class _WholeWindowLayer(DynamicLayer):  # type: ignore[misc]
    """A layer with a sliding window that keeps every position: which ones are read is the mask's business."""

    is_sliding = True


class _WholeHybridLayer(LinearAttentionAndFullAttentionLayer):  # type: ignore[misc]
    is_sliding = True


@dataclass(frozen=True, slots=True)
class RowStates:
    """What all layers keep of one row.

    Args:
        length: positions.
        layers: of each layer the tensors by name, with one row: keys and values (1, heads, length, dim), states of
            any shape under names with a number.
    """

    length: int
    layers: Sequence[dict[str, Tensor]]

    def to(self, device: torch.device | str) -> "RowStates":
        """A copy on a device."""
        return RowStates(
            self.length, [{name: one.to(device, copy=True) for name, one in layer.items()} for layer in self.layers]
        )


def new_cache(model: Any) -> Any:
    """An empty cache of transformers for a model, whose layers keep every position."""
    cache = DynamicCache(config=model.config)
    for place, layer in enumerate(cache.layers):
        if isinstance(layer, LinearAttentionAndSlidingWindowAttentionLayer):
            cache.layers[place] = _WholeHybridLayer(number_of_states=layer.number_of_states)
        elif isinstance(layer, DynamicSlidingWindowLayer):
            cache.layers[place] = _WholeWindowLayer()
    return cache


def cache_options(model: Any, cache: Any, places: Tensor | None = None) -> dict[str, Any]:
    """What a model's forward takes to read tokens after those in a cache, and to add to it.

    Args:
        model: a causal language model.
        cache: from `new_cache`.
        places: (B, T) positions of the tokens, for models that can be told them; None if the cache is empty.
    """
    takes = signature(type(model).forward).parameters
    options = {"use_cache": True, "cache_params" if "cache_params" in takes else "past_key_values": cache}
    return options if places is None or "position_ids" not in takes else options | {"position_ids": places}


def with_prefix(model: Any, prefix: Tensor) -> Any:
    """A cache of one row that holds trained keys and values, (layers, 2, heads, n, dim), and nothing else."""
    cache = new_cache(model)
    for place, (keys, values) in enumerate(prefix):
        cache.update(keys[None], values[None], place)
    return cache


def take_apart(cache: Any, lengths: Sequence[int]) -> list[RowStates]:
    """The states of each row of a cache.

    Args:
        cache: with B rows, padded on the left.
        lengths: positions of each of B rows.
    """
    return [
        RowStates(length, [_row_of(layer, row, length) for layer in cache.layers]) for row, length in enumerate(lengths)
    ]


def _row_of(layer: Any, row: int, length: int) -> dict[str, Tensor]:
    found = {}
    if getattr(layer, "keys", None) is not None and layer.keys.numel():
        for name in ("keys", "values"):
            whole = getattr(layer, name)[row : row + 1]
            found[name] = whole[:, :, whole.shape[2] - length :]
    if isinstance(layer, LinearAttentionCacheLayerMixin):
        for name in _STATES:
            for number, state in getattr(layer, name).items():
                if state is not None:
                    found[f"{name}{number}"] = state[row : row + 1]
    return found


def put_together(model: Any, rows: Sequence[RowStates]) -> tuple[Any, Tensor | None]:
    """A cache of B rows for one forward, and its mask.

    Args:
        model: whose cache it is.
        rows: at least one.

    Returns:
        the cache, and (B, L + 1) with 1 for what the next token of each row reads, itself among them; None if there is
        no padding.
    """
    cache, longest = new_cache(model), max(row.length for row in rows)
    for place in range(len(rows[0].layers)):
        _fill(cache, place, [row.layers[place] for row in rows], longest)
    if all(row.length == longest for row in rows) or not any("keys" in layer for layer in rows[0].layers):
        return cache, None
    mask = torch.ones(len(rows), longest + 1, dtype=torch.long, device=model.device)
    for number, row in enumerate(rows):
        mask[number, : longest - row.length] = 0
    return cache, mask


def _fill(cache: Any, place: int, rows: Sequence[dict[str, Tensor]], longest: int) -> None:
    if "keys" in rows[0]:
        cache.update(*(_padded([row[name] for row in rows], longest) for name in ("keys", "values")), place)
    for name in rows[0].keys() - {"keys", "values"}:
        kind, number = next((kind, int(name.removeprefix(kind))) for kind in _STATES if name.startswith(kind))
        layer, states = cache.layers[place], torch.cat([row[name] for row in rows])
        if kind == "conv_states":
            layer.update_conv_state(states, state_idx=number)
        else:
            layer.update_recurrent_state(states, state_idx=number)
        layer.has_previous_state[number] = True


def _padded(rows: Sequence[Tensor], longest: int) -> Tensor:
    if all(row.shape[2] == longest for row in rows):
        return torch.cat(list(rows))
    first = rows[0]
    whole = first.new_zeros(len(rows), first.shape[1], longest, first.shape[3])
    for number, row in enumerate(rows):
        whole[number, :, longest - row.shape[2] :] = row[0]
    return whole
