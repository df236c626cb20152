"""Vectors of texts are those of the merchant's adapter, as PEFT's own layers compute them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.engine.conftest import recipe_of
from tests.engine.encoder_bundles import QUERIES, MakeBundle, maker_on
from tests.solo import wearing
from torch.nn.functional import normalize

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.documents import document
from shopfit.engine import ChooseRequest, EmbedRequest, Engine, RankRequest, Tenant
from shopfit.errors import RequestError


@pytest.fixture
def make(encoder: Base, tmp_path: Path) -> MakeBundle:
    return maker_on(encoder, tmp_path)


def vector_of(base: Base, bundle: Bundle | None, ids: Sequence[int]) -> list[float]:
    """The mean of the last hidden states of PEFT's model, of length 1."""
    with wearing(base, bundle) as worn, torch.inference_mode():
        hidden = worn.model(input_ids=torch.tensor([list(ids)])).last_hidden_state[0]
        return normalize(hidden.mean(0), dim=0).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("method", ["lora", "adalora", "dora"])
def test_vectors_are_those_of_the_adapter_alone(encoder: Base, make: MakeBundle, method: str) -> None:
    """Adapters of several tasks and the bare base in one batch, queries and texts mixed."""
    bundles = [make("acme", method=method), make("beta", "rank", seed=1), make("acme-too", "rank", method, seed=2)]
    tenants = [*map(Tenant.of, bundles), Tenant("bare", recipe_of(encoder, "rank"))]
    requests, wanted = [], []
    for tenant in tenants:
        prompter = Prompter(tenant.recipe, encoder.tokenizer, tenant.catalog, scorer=encoder.scorer)
        for text in ("keep warm", "lovely, thank you " * 40):
            fields = {"text" if tenant.recipe.task == "choose" else "query": text}
            found = encoder.tokenizer(text)["input_ids"]
            requests += [EmbedRequest(tenant, fields), EmbedRequest(tenant, text=text)]
            wanted += [(tenant, prompter.encode(fields)), (tenant, found[:128])]
    with Engine(encoder, slots=2) as engine:
        answers = engine.embed(requests)
        again = engine.embed(requests[::-1])[::-1]
    for answer, once_more, (tenant, ids) in zip(answers, again, wanted, strict=True):
        assert isinstance(tenant.bundle, Bundle | None)
        if len(ids) < 128:  # how a longer one is cut is the prompter's
            assert answer.vector == pytest.approx(vector_of(encoder, tenant.bundle, ids), abs=1e-4)
        assert once_more.vector == pytest.approx(answer.vector, abs=1e-5)
        assert float(np.linalg.norm(answer.vector)) == pytest.approx(1)
        assert answer.read == len(ids)
        assert answer.version == tenant.name
    assert answers[0].vector != pytest.approx(answers[-2].vector, abs=1e-3)


def test_a_query_and_an_item_are_as_near_as_the_ranking_has_it(encoder: Base, make: MakeBundle) -> None:
    tenant = Tenant.of(make("acme", "rank"))
    titles = [item.title for item in (tenant.catalog or {}).values()]
    with Engine(encoder) as engine:
        query = engine.embed([EmbedRequest(tenant, {"query": "cook"})])[0].vector
        items = engine.embed([EmbedRequest(tenant, text=title) for title in titles])
        ranked = engine.rank([RankRequest(tenant, {"query": "cook"}, list(QUERIES), 9)])[0]
    cosines = {title: float(np.dot(query, item.vector)) for title, item in zip(titles, items, strict=True)}
    best = max((cosine, title) for title, cosine in cosines.items() if title != "Lamp")[1]
    assert best == ranked.items[0].title == "Stove"
    scores = {item.title: item.score for item in ranked.items}
    ratios = [scores[title] / cosines[title] for title in scores]
    assert ratios == pytest.approx([ratios[0]] * len(ratios), rel=1e-3)


def test_any_task_is_asked_by_the_same_request(encoder: Base, make: MakeBundle) -> None:
    tenant = Tenant.of(make("acme"))
    with Engine(encoder) as engine:
        future = engine.submit(EmbedRequest(tenant, {"text": "money back please"}))
        chosen = engine.choose([ChooseRequest(tenant, {"text": "money back please"})])[0]
        embedded = future.result(300)
    assert chosen.label == "refund"
    assert chosen.read == embedded.read
    assert len(document(embedded)["vector"]) == encoder.model.config.hidden_size
    assert len(embedded.lines) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "text is missing, and so are fields"),
        ({"fields": {"text": "x"}, "text": "x"}, "text is given beside fields"),
        ({"text": " \u200b"}, "allowed: text that shows something"),
        ({"text": 7}, "text is 7"),
        ({"text": "a\ud800"}, "lone surrogate"),
        ({"text": "a\0"}, "NUL"),
        ({"fields": ["text"]}, "fields is"),
        ({"fields": {"text": " "}}, "shows nothing"),
    ],
)
def test_what_has_no_vector_is_refused(encoder: Base, options: dict[str, Any], message: str) -> None:
    tenant = Tenant("acme", recipe_of(encoder, "choose"), ("a", "b"))
    with Engine(encoder) as engine, pytest.raises(RequestError, match=message):
        engine.embed([EmbedRequest(tenant, **options)])


def test_a_decoder_has_no_vectors(base: Base) -> None:
    tenant = Tenant("acme", recipe_of(base, "choose"), ("a", "b"))
    with Engine(base) as engine:
        for request in (EmbedRequest(tenant, {"text": "x"}), EmbedRequest(tenant, text="x")):
            with pytest.raises(RequestError, match="is a decoder, whose texts have no vectors"):
                engine.embed([request])
