"""Models with an encoder beside their decoder, such as T5 and BART: how their halves run, and what is kept of a row.

The encoder reads a prompt once. The decoder writes an answer behind a fixed opening, and reads the encoder's states by
cross-attention, whose keys and values are made once a prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, EncoderDecoderCache

from shopfit.base.encode import PlainTokenizer
from shopfit.errors import BaseError

_PROBE = "The shop sells 2 tents."


def opening_of(name: str, model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokens that a decoder has read before an answer's first one.

    The token it starts with; then the one that generation is forced to begin with, else what the tokenizer writes in
    front of a text, if that is not the first one again.

    Args:
        name: of the base, for messages.
        model: of transformers.
        tokenizer: its tokenizer.

    Raises:
        BaseError: if no file names the first one, or a number is none of a token.
    """
    settings = (model.generation_config, model.config)
    rows = model.get_input_embeddings().weight.shape[0]
    start = _token(name, settings, ("decoder_start_token_id", "bos_token_id"), rows)
    if start is None:
        raise BaseError(
            f"the base {name} does not say which token its decoder starts with (allowed: 0 to {rows - 1})",
            next_step="set decoder_start_token_id in its config.json, as the model was trained with it",
        )
    forced = _token(name, settings, ("forced_bos_token_id",), rows)
    if forced is not None:
        return (start, forced)
    plain = PlainTokenizer.of(tokenizer)
    alone, whole = plain.encode(_PROBE, special=False), plain.encode(_PROBE)
    front = next((whole[:at] for at in range(len(whole)) if whole[at : at + len(alone)] == alone), ())
    return front if front[:1] == (start,) else (start, *front)


def _token(name: str, settings: Sequence[Any], keys: Sequence[str], rows: int) -> int | None:
    """The first number that some settings hold for some keys."""
    found = ((key, getattr(each, key, None)) for key in keys for each in settings)
    key, token = next(((key, token) for key, token in found if token is not None), ("", None))
    if token is not None and (isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < rows):
        raise BaseError(
            f"the base {name} has {key} {token!r:.40} (allowed: a token, 0 to {rows - 1})",
            next_step="correct it in generation_config.json or config.json",
        )
    return token


def read(model: Any, input_ids: Tensor, mask: Tensor) -> Tensor:
    """(B, T, D) states of the encoder.

    Args:
        model: of transformers.
        input_ids: (B, T) tokens.
        mask: (B, T) 1 for a token, 0 for padding on the right.
    """
    states: Tensor = model.get_encoder()(input_ids=input_ids, attention_mask=mask).last_hidden_state
    return states


def write(model: Any, input_ids: Tensor, states: Tensor | None, mask: Tensor, cache: Any = None) -> Tensor:
    """(B, L, D) states of the decoder.

    Args:
        model: of transformers.
        input_ids: (B, L) tokens, behind those in the cache.
        states: (B, T, D) of the encoder; None if the cache holds the keys and values that are made of them.
        mask: (B, T) of the encoder's tokens.
        cache: from `new_cache` or `put_together`, which is added to; None for none.
    """
    if states is None:  # only their shape is read
        nothing = torch.zeros((), dtype=model.dtype, device=mask.device)
        states = nothing.expand(*mask.shape, model.get_input_embeddings().embedding_dim)
    options = {"use_cache": False} if cache is None else {"use_cache": True, "past_key_values": cache}
    hidden: Tensor = model.get_decoder()(
        input_ids=input_ids, encoder_hidden_states=states, encoder_attention_mask=mask, **options
    ).last_hidden_state
    return hidden


def new_cache() -> Any:
    """An empty cache of a decoder and its cross-attention."""
    return EncoderDecoderCache(DynamicCache(), DynamicCache())


@dataclass(frozen=True, slots=True)
class AnswerStates:
    """What the layers of a decoder keep of one row.

    Args:
        length: tokens that the decoder has read.
        own: of each layer keys and values of those tokens, (1, heads, length, dim).
        cross: of each layer keys and values of the prompt, (1, heads, T, dim).
    """

    length: int
    own: Sequence[tuple[Tensor, Tensor]]
    cross: Sequence[tuple[Tensor, Tensor]]

    def to(self, device: torch.device | str) -> "AnswerStates":
        """A copy on a device."""
        own, cross = (
            [(keys.to(device, copy=True), values.to(device, copy=True)) for keys, values in layers]
            for layers in (self.own, self.cross)
        )
        return AnswerStates(self.length, own, cross)


def take_apart(cache: Any, row: int, prompt: int) -> AnswerStates:
    """The states of a row of a cache.

    Args:
        cache: of rows that have read equally many tokens.
        row: of the cache.
        prompt: tokens of its prompt, without padding.
    """
    own = [(layer.keys[row : row + 1], layer.values[row : row + 1]) for layer in cache.self_attention_cache.layers]
    cross = [
        (layer.keys[row : row + 1, :, :prompt], layer.values[row : row + 1, :, :prompt])
        for layer in cache.cross_attention_cache.layers
    ]
    return AnswerStates(own[0][0].shape[2], own, cross)


def put_together(rows: Sequence[AnswerStates]) -> tuple[Any, Tensor]:
    """A cache of B rows, and the mask of their prompts.

    Args:
        rows: at least one, which have read equally many tokens.

    Returns:
        the cache, and (B, T) 1 for a token of a prompt, 0 for padding.
    """
    lengths = [row.cross[0][0].shape[2] for row in rows]
    own, cross = DynamicCache(), DynamicCache()
    for place in range(len(rows[0].own)):
        for cache, layers in ((own, [row.own for row in rows]), (cross, [row.cross for row in rows])):
            pairs = zip(*(layer[place] for layer in layers), strict=True)  # keys of all rows, values of all rows
            cache.update(*map(_side_by_side, pairs), place)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return EncoderDecoderCache(own, cross), mask.long().to(rows[0].own[0][0].device)


def _side_by_side(rows: Sequence[Tensor]) -> Tensor:
    """(B, heads, L, dim) of B rows (1, heads, l, dim), filled up with zeros on the right."""
    longest = max(row.shape[2] for row in rows)
    return torch.cat([pad(row, (0, 0, 0, longest - row.shape[2])) for row in rows])


def repeated(cache: Any, copies: int) -> Any:
    """A cache with several copies of each row of another one, one after another."""
    made = []
    for part in (cache.self_attention_cache, cache.cross_attention_cache):
        copy = DynamicCache()
        for place, layer in enumerate(part.layers):
            copy.update(*(states.repeat_interleave(copies, 0) for states in (layer.keys, layer.values)), place)
        made.append(copy)
    return EncoderDecoderCache(*made)
