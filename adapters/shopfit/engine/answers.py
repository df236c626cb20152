"""Makes answers from the model's scores and tokens: probabilities, rankings with reasons, texts."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shopfit.adapter.score_fusion import ADAPTER, log_shares
from shopfit.base.scoring.scorer import Floats
from shopfit.engine.decoding import GeneratedSequence, not_finite
from shopfit.engine.questions import softmax
from shopfit.engine.requests import (
    ChooseAnswer,
    GenerateAnswer,
    RankAnswer,
    RankedItem,
    RankRequest,
    RecommendAnswer,
    RecommendedItem,
    RecommendRequest,
)
from shopfit.engine.tenant import Tenant
from shopfit.merchant.catalog import Catalog

Parts = Mapping[str, Floats]
"""Scores of the answers besides the adapter's, by part of the blend."""


def choice(tenant: Tenant, scores: Floats, others: Parts) -> ChooseAnswer:
    """The label, by the scores (L,) of the adapter and the other parts of a blend."""
    if tenant.blend is None:
        logits = (scores - np.array(tenant.offsets or 0.0)) / tenant.temperature
    else:  # the blend's weights were fitted to adapter scores at the training temperature
        temperature = tenant.recipe.tune.temperature
        parts = dict(others)
        if len(scores):
            parts[ADAPTER] = log_shares(softmax(scores / temperature))
        logits = tenant.blend.together(parts)
    shares = softmax(logits)
    if not np.isfinite(shares).all():
        raise not_finite()
    probabilities = dict(zip(tenant.labels, shares.tolist(), strict=True))
    label = max(probabilities, key=probabilities.__getitem__)
    return ChooseAnswer(label, probabilities, sure=probabilities[label] >= tenant.threshold)


def _item_scores(tenant: Tenant, scores: Floats, others: Parts) -> Floats:
    if tenant.blend is not None and others:
        scores = tenant.blend.together({ADAPTER: scores / tenant.recipe.tune.temperature, **others})
    if not np.isfinite(scores).all():
        raise not_finite()
    return scores


def ranking(request: RankRequest, tenant: Tenant, pool: Sequence[str], scores: Floats, others: Parts) -> RankAnswer:
    """The C items of a pool, best score first."""
    whole = _item_scores(tenant, scores, others)
    order = sorted(range(len(pool)), key=lambda place: -whole[place])
    items = (
        RankedItem(pool[place], _title(tenant.catalog, pool[place]), float(whole[place]))
        for place in order[: request.top or tenant.recipe.serve.top]
    )
    return RankAnswer(tuple(items))


def recommendations(
    request: RecommendRequest,
    tenant: Tenant,
    found: Mapping[str, Mapping[str, float]],
    scores: Floats,
    others: Parts,
) -> RecommendAnswer:
    """The items that search found, best score first, with the score of each stage."""
    said = dict(zip(found, scores.tolist(), strict=False))  # empty where the blend leaves the adapter out
    ranked = sorted(zip(found, _item_scores(tenant, scores, others).tolist(), strict=True), key=lambda pair: -pair[1])
    items = []
    for item, score in ranked[: request.k or tenant.recipe.serve.top]:
        reasons = {**found[item], **({"adapter": said[item]} if item in said else {})}
        items.append(RecommendedItem(item, _title(tenant.catalog, item), score, reasons))
    return RecommendAnswer(tuple(items))


def written(sequence: GeneratedSequence) -> GenerateAnswer:
    """The answer of a finished sequence."""
    text = sequence.detokenizer.text
    assert sequence.finish is not None
    return GenerateAnswer(text, _json_object(text), sequence.finish)


def _title(catalog: Catalog | None, item: str) -> str:
    return item if catalog is None else catalog[item].title


def _json_object(text: str) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
