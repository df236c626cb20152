"""Self-test of a loaded base: its scorer must equal the model's plain forward, whatever else is in the batch.

It runs on a few random tokens; each scorer's `trials` defines what is compared.
"""

from typing import Any

import torch

from shopfit.base.checkpoint import reason
from shopfit.base.scoring.scorer import TRIED, Scorer
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
    near = _ROUGHER if quantized else _CLOSE if model.dtype in {torch.float32, torch.float64} else _ROUGH
    try:
        _prove(name, model, scorer, near)
    except BaseError:
        if not scorer.take_plain_path(model):
            raise
        _prove(name, model, scorer, near)


def _prove(name: str, model: Any, scorer: Scorer[Any], near: float) -> None:
    try:
        with torch.inference_mode():
            found = scorer.trials(model, _tokens(model, TRIED, beside=scorer.pad))
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
        off = float(((got - wanted).abs() / wanted.abs().clamp_min(1)).max())
        if off > near:
            raise BaseError(
                f"the base {name} does not answer as its own plain forward does: {what} are off by {off:.3g}",
                next_step="use a base whose scores are its head's over its backbone, such as smollm2-135m",
            )


def _tokens(model: Any, count: int, *, beside: int) -> tuple[int, ...]:
    """Random token ids, the same each time, without special tokens."""
    rows = min(model.get_input_embeddings().weight.shape[0], model.config.vocab_size)
    meant = {beside, model.config.pad_token_id}
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0)).tolist()
    plain = [token for token in order if token not in meant][:count]
    return tuple((plain * count)[:count])
