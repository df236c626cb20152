"""The proof, each time a base is loaded, that it answers as its own plain forward does, whoever is beside it.

A few random tokens tell: a decoder's backbone and head against the whole model, trees of answers with and without a
prefix against each answer alone; an encoder's texts filled up in a batch against each alone.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from shopfit.base.checkpoint import reason
from shopfit.base.prefix import lay_before
from shopfit.base.scoring.causal import answer_log_probs, collate
from shopfit.base.scoring.dual_encoder import fill_up, text_vectors
from shopfit.base.scoring.questions import Question
from shopfit.errors import BaseError

_CLOSE = 1e-3  # of float32, relative to numbers above 1
_ROUGH = 5e-2  # of half precision
_ROUGHER = 0.15  # of quantized layers, whose rounding goes by the rows of a batch


def prove(name: str, model: Any, pad: int, *, encoder: bool, quantized: bool = False) -> None:
    """Prove that a base's answers are the model's own.

    Args:
        name: of the base, for messages.
        model: of transformers, frozen, in eval mode.
        pad: token id that fills rows up.
        encoder: whether it is one.
        quantized: whether its layers are.

    Raises:
        BaseError: if they are not, or are no numbers.
    """
    near = _ROUGHER if quantized else _CLOSE if model.dtype in {torch.float32, torch.float64} else _ROUGH
    try:
        with torch.inference_mode():
            found = _encoder(model, pad) if encoder else _decoder(model, pad)
    except Exception as error:
        raise BaseError(
            f"the base {name} cannot be run as it is here: {type(error).__name__}: {reason(error)}",
            next_step="check the base with transformers alone, or use another one",
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


def _decoder(model: Any, pad: int) -> list[tuple[str, Tensor, Tensor]]:
    from transformers import DynamicCache

    head, tokens = model.get_output_embeddings(), _tokens(model, 12)
    before, stem, one, two = tokens[:2], tokens[2:5], tokens[5:7], tokens[7:9]
    asked, last = tokens[9:11], tokens[11:12]
    # each answer alone behind its prompt, and behind the prefix too
    lines = [(stem, one), (stem, two), (asked, last), (before + stem, one), (before + stem, two)]
    plain, _ = fill_up([prompt + answer for prompt, answer in lines], pad)  # (5, 7), and what fills up comes behind
    plain = plain.to(model.device)
    logits = model(input_ids=plain, use_cache=False).logits.float()  # (5, 7, V)
    over = head(model.base_model(input_ids=plain, use_cache=False).last_hidden_state).float()
    logs = logits.log_softmax(-1)
    sums = [
        sum((logs[row, len(prompt) - 1 + at, token] for at, token in enumerate(answer)), logs.new_zeros(()))
        for row, (prompt, answer) in enumerate(lines)
    ]
    cache = DynamicCache()
    model.base_model(input_ids=plain[3:4, : len(before)], past_key_values=cache, use_cache=True)
    prefix = torch.stack([torch.stack((layer.keys[0], layer.values[0])) for layer in cache.layers])
    tree = collate([Question(stem, (one, two)), Question(asked, (last,))], pad).to(model.device)
    behind = answer_log_probs(model, tree, lay_before([prefix, None], model.device))
    return [
        ("the logits of head over backbone", over, logits),
        ("log-probabilities of answers side by side", answer_log_probs(model, tree), torch.stack(sums[:3])),
        ("log-probabilities behind a prefix", behind, torch.stack([*sums[3:], sums[2]])),
    ]


def _encoder(model: Any, pad: int) -> list[tuple[str, Tensor, Tensor]]:
    tokens = _tokens(model, 18, beside=pad)
    texts = [tokens[:14], tokens[14:17], tokens[17:18]]
    rows, mask = (part.to(model.device) for part in fill_up(texts, pad))
    alone = [model(input_ids=torch.tensor([text], device=model.device)).last_hidden_state[0].mean(0) for text in texts]
    wanted = normalize(torch.stack(alone).float(), dim=-1)
    return [("vectors of texts side by side", text_vectors(model, rows, mask).float(), wanted)]


def _tokens(model: Any, count: int, *, beside: int | None = None) -> tuple[int, ...]:
    """Random token ids, the same each time, without those that mean something to the model."""
    rows = min(model.get_input_embeddings().weight.shape[0], model.config.vocab_size)
    meant = {beside, model.config.pad_token_id}
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0)).tolist()
    plain = [token for token in order if token not in meant][:count]
    return tuple((plain * count)[:count])
