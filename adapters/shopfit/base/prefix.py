"""Trained keys and values before the rows of a batch (prefix tuning, arXiv:2101.00190)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Prefix:
    """The prefixes of B rows. Shorter prefixes are padded on the right with masked positions.

    Args:
        cache: of transformers, with P positions for each of the B rows. A forward adds to it: use it once.
        lengths: (B,) how many of the P positions a row attends to, 0 to P.
    """

    cache: Any
    lengths: Tensor

    @property
    def width(self) -> int:
        """P, the positions of the cache."""
        return int(self.cache.get_seq_length())

    def visible(self) -> Tensor:
        """(B, P) whether a row attends to a position."""
        return torch.arange(self.width, device=self.lengths.device) < self.lengths[:, None]

    def on_the_right(self) -> tuple[Tensor, Any]:
        """The same with padding on the left, so that a prefix ends where its row's text begins.

        Returns:
            (B, P) whether a row attends to a position, and the cache.
        """
        from transformers import DynamicCache

        width = self.width
        places = torch.arange(width, device=self.lengths.device) - (width - self.lengths[:, None])  # (B, P)
        cache = DynamicCache()
        for number, layer in enumerate(self.cache.layers):
            index = (places % width)[:, None, :, None].expand_as(layer.keys[..., :1])
            moved = [
                states.gather(2, index.expand(-1, -1, -1, states.shape[3])) for states in (layer.keys, layer.values)
            ]
            cache.update(*moved, number)
        return places >= 0, cache

    def before(self, mask: Tensor) -> Tensor:
        """(B, T, P + T) the mask of rows with prefix, from the (B, T, T) `mask` of the rows alone."""
        return torch.cat((self.visible()[:, None].expand(-1, mask.shape[1], -1), mask), dim=2)


def unchanged_by_reading(cache: Any) -> Any:
    """A cache of transformers that a forward does not add to, so that its layers may be run again.

    Args:
        cache: a `DynamicCache` with keys and values in every layer; changed, and returned.
    """

    def update(keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        held = cache.layers[layer]
        return torch.cat((held.keys, keys), dim=2), torch.cat((held.values, values), dim=2)

    cache.update = update
    return cache


def lay_before(
    rows: Sequence[Tensor | None], device: torch.device | str = "cpu", layers_on: Sequence[torch.device] = ()
) -> Prefix | None:
    """The `Prefix` of a batch whose rows may each have a different one.

    Args:
        rows: for each of B rows (layers, 2, heads, n, dim) keys and values of any n, or None.
        device: of the batch.
        layers_on: device of each layer, where those differ.

    Returns:
        None if no row has one.
    """
    from transformers import DynamicCache

    first = next((row for row in rows if row is not None), None)
    if first is None:
        return None
    lengths = [0 if row is None else row.shape[3] for row in rows]
    layers, _, heads, _, size = first.shape
    room = torch.zeros(layers, 2, len(rows), heads, max(lengths), size, dtype=first.dtype, device=device)
    for place, row in enumerate(rows):
        if row is not None:
            room[:, :, place, :, : row.shape[3]] = row
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(room):
        where = layers_on[layer] if layers_on else device
        cache.update(keys.to(where), values.to(where), layer)
    return Prefix(cache, torch.tensor(lengths, device=device))


def lift_out(prefix: Prefix) -> Tensor:
    """(layers, 2, heads, P, dim) keys and values of the first row, as `lay_before` takes them."""
    return torch.stack([torch.stack((layer.keys[0], layer.values[0])) for layer in prefix.cache.layers])


def prefix_of(model: Any, tokens: Sequence[int]) -> Tensor | None:
    """The keys and values that a decoder has for some tokens, (layers, 2, heads, n, dim).

    Args:
        model: a causal language model.
        tokens: n of them, at least one.

    Returns:
        None if not every layer has keys and values, all of one shape: then the model takes no prefix.
    """
    from shopfit.base.layer_states import cache_options, new_cache, take_apart

    cache = new_cache(model)
    with torch.inference_mode():
        model(input_ids=torch.tensor([tokens], device=model.device), **cache_options(model, cache))
    (row,) = take_apart(cache, [len(tokens)])
    pairs = [(layer.get("keys"), layer.get("values")) for layer in row.layers if set(layer) == {"keys", "values"}]
    if len(pairs) != len(row.layers) or len({part.shape for pair in pairs for part in pair if part is not None}) != 1:
        return None
    kept = [torch.cat([part for part in pair if part is not None]) for pair in pairs]
    return torch.stack([each.to(model.device) for each in kept])
