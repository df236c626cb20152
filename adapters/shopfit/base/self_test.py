"""Self-test of a loaded base: its scorer must equal the model's plain forward, whatever else is in the batch.

It runs on a few random tokens; each scorer's `trials` defines what is compared.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from shopfit.base.attention import text_config
from shopfit.base.folder import reason
from shopfit.base.prefix import prefix_of
from shopfit.base.scoring.scorer import TRIED, Scorer, Trial
from shopfit.errors import BaseError

_CLOSE = 1e-3  # tolerance of float32, relative for numbers above 1
_ROUGH = 5e-2  # of half precision
_ROUGHER = 0.15  # of quantized layers, whose rounding depends on the rows of a batch


def prove(name: str, model: Any, scorer: Scorer[Any], *, quantized: bool = False) -> None:
    """Check that a base's scores equal those of the model's plain forward; if they do not, also on the plain path.

    Args:
        name: of the base, for messages.
        model: of transformers, frozen, in eval mode.
        scorer: of its architecture.
        quantized: whether its layers are quantized.

    Raises:
        BaseError: if they differ, or are not finite.
    """

    def trials() -> list[Trial]:
        return scorer.trials(model, _tokens(model, beside=scorer.pad))

    try:
        _compare(name, model, trials, quantized=quantized)
    except BaseError:
        if not scorer.take_plain_path(model):
            raise
        _compare(name, model, trials, quantized=quantized)


def proven(name: str, model: Any, scorers: Iterable[Scorer[Any]], *, quantized: bool = False) -> Scorer[Any]:
    """The first of some scorers whose scores equal those of the model's plain forward.

    Args:
        name: of the base, for messages.
        model: of transformers, frozen, in eval mode.
        scorers: at least one.
        quantized: whether its layers are quantized.

    Raises:
        BaseError: of the last one, if all of them differ.
    """
    failed: BaseError | None = None
    for scorer in scorers:
        try:
            prove(name, model, scorer, quantized=quantized)
        except BaseError as error:
            failed = error
        else:
            return scorer
    assert failed is not None, "a base has a scorer"
    raise failed


def prefix_shape(name: str, model: Any, scorer: Scorer[Any], *, quantized: bool = False) -> tuple[int, int, int] | None:
    """The shape of trained keys and values that rows may have before them: layers, heads and dimension of a head.

    Args:
        name: of the base, for messages.
        model: of transformers, frozen, in eval mode.
        scorer: of its architecture, proven.
        quantized: whether its layers are quantized.

    Returns:
        None if not every layer has keys and values of one shape, or rows behind a prefix would not be read as one text.
    """
    if not scorer.takes_prefix:
        return None
    tokens = _tokens(model, beside=scorer.pad)
    prefix = prefix_of(model, tokens[:2])
    if prefix is None:
        return None
    try:
        _compare(name, model, lambda: scorer.prefix_trials(model, tokens, prefix), quantized=quantized)
    except BaseError:
        return None
    layers, _, heads, _, dim = prefix.shape
    return (layers, heads, dim) if _as_in_peft(text_config(model), heads, dim) else None


def _as_in_peft(config: Any, heads: int, dim: int) -> bool:
    """Whether PEFT would train keys and values of this shape: it goes by the settings where they name a number."""
    named = getattr(config, "num_key_value_heads", None)
    usual = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return named is None or (named, usual) == (heads, dim)


def _compare(name: str, model: Any, trials: Callable[[], list[Trial]], *, quantized: bool) -> None:
    near = _ROUGHER if quantized else _CLOSE if model.dtype in {torch.float32, torch.float64} else _ROUGH
    try:
        with torch.inference_mode():
            found = trials()
    except Exception as error:
        raise BaseError(
            f"the base {name} cannot be run as it is here: {type(error).__name__}: {reason(error)}",
            next_step="check the base with transformers alone, or use another one"
            if model.dtype in {torch.float32, torch.float64}
            else "set `dtype` to float32, in which more models run, or use another base",
        ) from error
    for what, got, wanted in found:
        if not bool(wanted.isfinite().all() and got.isfinite().all()):
            raise BaseError(
                f"the base {name} answers with numbers that are not finite",
                next_step="bring its weights again; with `dtype` float16, use float32 or bfloat16",
            )
        off = max(_distance(*pair) for pair in zip(got, wanted, strict=True))
        if off > near:
            raise BaseError(
                f"the base {name} does not answer as its own plain forward does: {what} are off by {off:.3g}",
                next_step="use another base, such as smollm2-135m, and report this one",
            )


def _distance(got: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative for numbers above 1. Row by row it takes little memory beside large logits."""
    return float(((got - wanted).abs() / wanted.abs().clamp_min(1)).max())


def _tokens(model: Any, *, beside: int) -> tuple[int, ...]:
    """Random token ids, the same each time, without special tokens."""
    count, config = TRIED, text_config(model)
    rows = min(model.get_input_embeddings().weight.shape[0], config.vocab_size)
    meant = {beside, getattr(config, "pad_token_id", None)}
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0)).tolist()
    plain = [token for token in order if token not in meant][:count]
    return tuple((plain * count)[:count])
