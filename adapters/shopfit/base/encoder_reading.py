"""How a loaded encoder reads texts: as its profile says, and with a floor of its cosines that is measured if need be.

The floor is the cosine of texts that have nothing to do with each other. Encoders differ in it: the cosines of MiniLM
spread around 0, those of multilingual-e5 around 0.8, where a difference of 0.05 says as much as one of 0.25 does there.
No file of sentence-transformers tells it. Those that name prompts are of encoders like the latter, so it is measured
there, on a few texts; elsewhere it is 0 unless `shopfit.json` says otherwise.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from shopfit.base.checkpoint import Checkpoint
from shopfit.base.encode import PlainTokenizer
from shopfit.base.families import PLAIN_ENCODERS
from shopfit.base.scoring.dual_encoder import Reading, fill_up, read_as, reading_of, text_vectors

_STEP = 0.05  # a floor is rounded to: how a machine rounds shows in scores only at the edge of two steps
_LEAST, _MOST = 0.3, 0.9
_UNRELATED = (
    (
        "The kettle boils in two minutes.",
        "Where can I park near the station?",
        "A waterproof jacket for children",
        "The council voted against the new budget.",
        "He plays the cello on Sundays.",
        "Refund of a damaged book",
    ),
    (
        "这款茶叶味道很香。",
        "火车站附近哪里可以停车",
        "儿童防水外套",
        "议会否决了新的预算。",
        "他每个星期天拉大提琴。",
        "破损书籍的退款",
    ),
    (
        "La bicicleta tiene la rueda pinchada.",
        "¿Cuándo abre la farmacia?",
        "Zapatos de cuero para la oficina",
        "El volcán lleva dormido tres siglos.",
        "Mi hermana estudia derecho.",
        "Receta de lentejas con chorizo",
    ),
)
"""Texts in some languages: one that a base does not read has no tokens to tell its texts apart by."""


def read_as_saved(model: Any, checkpoint: Checkpoint) -> None:
    """Read as the base's files say, and pool by the mean if they say nothing of it; never by the model's pooler."""
    without_pooler(model)
    if getattr(model.config, "use_cache", None):
        model.config.use_cache = False  # a decoder that embeds keeps no keys and values
    plain = checkpoint.config["model_type"] in PLAIN_ENCODERS
    read_as(model, Reading(checkpoint.profile, plain))


def without_pooler(model: Any) -> None:
    """Take a model's pooler away: it is trained on another task, or not at all, and its numbers are random then."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = nn.Identity()


def settle_floor(model: Any, tokenizer: Any, longest: int) -> float | None:
    """Measure the floor of an encoder whose files name prompts and no floor: 0, or 0.3 to 0.9 in steps of 0.05.

    Returns:
        what was measured; None where nothing was.
    """
    reading = reading_of(model)
    if reading.profile.floor is not None or not (reading.profile.query or reading.profile.passage):
        return None
    found = min(_mean_cosine(model, tokenizer, texts, longest) for texts in _UNRELATED)
    if not math.isfinite(found):  # the proof that follows says what is wrong
        found = 0.0
    floor = round(min(round(found / _STEP) * _STEP, _MOST), 2)
    floor = floor if floor >= _LEAST else 0.0
    read_as(model, replace(reading, profile=replace(reading.profile, floor=floor)))
    return floor


def _mean_cosine(model: Any, tokenizer: Any, texts: tuple[str, ...], longest: int) -> float:
    plain, prompt = PlainTokenizer.of(tokenizer), reading_of(model).profile.query
    tokens, mask = fill_up([plain.encode(prompt + text, limit=longest) for text in texts], tokenizer.pad_token_id)
    with torch.inference_mode():
        vectors = text_vectors(model, tokens.to(model.device), mask.to(model.device)).float()
    cosines = vectors @ vectors.T
    return float((cosines.sum() - cosines.trace()) / (len(texts) * (len(texts) - 1)))
