"""Adapters on an encoder: heads of their own for labels, and vectors of their own for items."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.engine.conftest import ITEMS, recipe_of
from tests.engine.encoder_bundles import QUERIES, WORDS, MakeBundle, maker_on, recipe_for, rows_of, tuned_on
from tests.solo import wearing

from shopfit.adapter.artifacts import HEAD
from shopfit.adapter.bundle import Bundle, seal
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.engine import ChooseRequest, Engine, GenerateRequest, RankRequest, Tenant
from shopfit.engine.offline_scoring import ask
from shopfit.errors import BundleError, RequestError
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.pretext import pretext_pairs
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import TrainingDataset, TrainingSet


@pytest.fixture
def make(encoder: Base, tmp_path: Path) -> MakeBundle:
    return maker_on(encoder, tmp_path)


@pytest.mark.parametrize("method", ["lora", "adalora", "dora"])
def test_it_learns_and_answers_as_in_training(encoder: Base, make: MakeBundle, method: str) -> None:
    tenant = Tenant.of(make("acme", method=method))
    with Engine(encoder) as engine:
        answers = engine.choose([ChooseRequest(tenant, {"text": text}) for text in WORDS.values()])
    assert [answer.label for answer in answers] == list(WORDS)
    prompter = Prompter(tenant.recipe, encoder.tokenizer, scorer=encoder.scorer)
    assert isinstance(tenant.bundle, Bundle)
    with wearing(encoder, tenant.bundle) as voice:  # PEFT's own layers, this adapter only
        alone = ask(voice, prompter, [{"text": text} for text in WORDS.values()], labels=tenant.labels)
    for answer, wanted in zip(answers, alone, strict=True):
        assert list(answer.probabilities.values()) == pytest.approx(list(wanted), abs=1e-4)


@pytest.mark.parametrize("slots", [1, 3])
def test_a_batch_of_many_adapters_gives_each_its_own_head(encoder: Base, make: MakeBundle, slots: int) -> None:
    """Other labels, other tasks and the bare base in one batch; also more adapters than slots."""
    one = Tenant.of(make("acme", seed=1))
    tenants = [
        one,
        Tenant.of(make("acme-too", method="adalora", seed=2, extra="spam")),
        Tenant.of(make("me", method="dora", seed=3)),
        Tenant("bare", one.recipe, one.labels),
    ]
    ranker = Tenant.of(make("acme", "rank", seed=4))
    with Engine(encoder, slots=slots) as engine:
        asked = [(tenant, text) for text in WORDS.values() for tenant in tenants]
        futures = [engine.submit(ChooseRequest(tenant, {"text": text})) for tenant, text in asked]
        ranked = engine.submit(RankRequest(ranker, {"query": "cook"}, list(QUERIES), 4))
        answers = [future.result(60) for future in futures]
        assert ranked.result(60).items[0].id == "stove"
    for (tenant, text), answer in zip(asked, answers, strict=True):
        prompter = Prompter(tenant.recipe, encoder.tokenizer, scorer=encoder.scorer)
        assert list(answer.probabilities) == list(tenant.labels)
        assert tenant.bundle is None or isinstance(tenant.bundle, Bundle)
        with wearing(encoder, tenant.bundle) as voice:
            alone = ask(voice, prompter, [{"text": text}], labels=tenant.labels)[0]
        assert list(answer.probabilities.values()) == pytest.approx(list(alone), abs=1e-4)


def test_items_are_ranked_by_vectors_that_are_made_once(encoder: Base, make: MakeBundle) -> None:
    tenant = Tenant.of(make("acme", "rank"))
    prompter = Prompter(tenant.recipe, encoder.tokenizer, tenant.catalog, scorer=encoder.scorer)
    assert isinstance(tenant.bundle, Bundle)
    with wearing(encoder, tenant.bundle) as voice:
        alone = ask(
            voice,
            prompter,
            [{"query": query} for query in QUERIES.values()],
            pools=[list(QUERIES)] * len(QUERIES),
        )
    with Engine(encoder) as engine:
        for query, wanted, item in zip(QUERIES.values(), alone, QUERIES, strict=True):
            answer = engine.rank([RankRequest(tenant, {"query": query}, list(QUERIES), 4)])[0]
            scores = {one.id: one.score for one in answer.items}
            assert [scores[name] for name in QUERIES] == pytest.approx(list(wanted), abs=1e-4)
            assert answer.items[0].id == item
        # an item whose text has changed is not remembered as it was
        before = {one.id: one.score for one in engine.rank([RankRequest(tenant, {"query": "cook"}, top=4)])[0].items}
        renamed = Item("tent", "Stove", {"id": "tent", "title": "Stove"})
        engine.set_catalog("acme", Catalog(dict(ITEMS) | {"tent": renamed}))
        after = {one.id: one.score for one in engine.rank([RankRequest(tenant, {"query": "cook"}, top=4)])[0].items}
    assert after["tent"] == pytest.approx(before["stove"], abs=1e-4)
    assert after["bag"] == pytest.approx(before["bag"], abs=1e-4)


def test_a_history_asks_by_each_of_its_items(encoder: Base, make: MakeBundle) -> None:
    bundle = make("acme", "rank")
    tenant, pool = Tenant.of(bundle), ["stove", "boots", "lamp"]
    prompter = Prompter(tenant.recipe, encoder.tokenizer, tenant.catalog, scorer=encoder.scorer)
    both, *each = ({"history": names} for names in (["tent", "bag"], ["tent"], ["bag"]))
    with wearing(encoder, bundle) as voice:
        alone = ask(voice, prompter, (both, *each), pools=[pool] * (1 + len(each)))
    assert list(alone[0]) == pytest.approx(np.maximum(alone[1], alone[2]).tolist(), abs=1e-5)
    words = {"history": ["tent", "bag"], "query": "cook"}
    with Engine(encoder) as engine:
        for fields in (both, both, {"history": ["tent", "bag"], "query": ""}):  # once made, and then known
            answer = engine.rank([RankRequest(tenant, fields, pool, 3)])[0]
            scores = {one.id: one.score for one in answer.items}
            assert [scores[name] for name in pool] == pytest.approx(list(alone[0]), abs=1e-4)
        searched = engine.rank([RankRequest(tenant, words, pool, 3)])[0]
        with pytest.raises(RequestError, match="there is no item 'tant' in the catalog"):
            engine.rank([RankRequest(tenant, {"history": ["tant"]}, pool, 3)])
    one_text = {"query": f"{prompter.show('history', words['history'])} cook"}
    with Engine(encoder) as engine:
        together = engine.rank([RankRequest(tenant, one_text, pool, 3)])[0]
    assert [one.score for one in searched.items] == pytest.approx([one.score for one in together.items], abs=1e-4)


def test_what_it_cannot_do_it_says(encoder: Base, make: MakeBundle, tmp_path: Path) -> None:
    bundle = make("acme")
    generate = Tenant("acme", recipe_of(encoder, "generate"))
    with Engine(encoder) as engine:
        with pytest.raises(RequestError, match="writes no text"):
            engine.generate([GenerateRequest(generate, {"input": "x"})])
        assert engine.choose([ChooseRequest(bundle, {"text": "money back please"})])[0].label == "refund"
    (bundle.folder / HEAD).write_bytes(b"not safetensors")
    with pytest.raises(BundleError, match=r"(?s)acme/r cannot be served.*head\.safetensors: cannot be read"):
        seal(bundle.folder, bundle.manifest)


def test_the_bare_encoder_compares_with_the_words_of_labels(encoder: Base) -> None:
    tenant = Tenant("acme", recipe_of(encoder, "choose"), tuple(WORDS))
    with Engine(encoder) as engine:
        answers = engine.choose([ChooseRequest(tenant, {"text": label.replace("_", " ")}) for label in WORDS])
    assert [answer.label for answer in answers] == list(WORDS)


def test_an_adversarial_pass_pushes_every_text(encoder: Base) -> None:
    recipe = recipe_of(encoder, "rank", tune={"lr": 0.01, "epochs": 40, "batch_size": 4, "adversarial": 0.5})
    rows = [
        replace(row, fields={"query": f"{row.fields['query']} {'really ' * 20 * place}"})
        for place, row in enumerate(rows_of("rank"))
    ]
    tuned = Trainer(encoder, make_accelerator(recipe)).fit(
        TrainingSet(rows, [], [], Prompter(recipe, encoder.tokenizer, ITEMS, scorer=encoder.scorer)), recipe
    )
    tuned.adapter.detach()
    assert tuned.curve[-1].train_loss < 0.5 * tuned.curve[0].train_loss


def test_what_a_catalog_says_of_an_item_asks_for_its_title_alone(encoder: Base) -> None:
    catalog = Catalog({name: Item(name, name, {"title": name, "description": f"goes {name}"}) for name in QUERIES})
    recipe = recipe_of(encoder, "rank")
    prompter = Prompter(recipe, encoder.tokenizer, catalog, scorer=encoder.scorer)
    pairs = pretext_pairs(recipe, catalog, [], [], text=lambda row: prompter.text(row.fields), examples=0)
    dataset = TrainingDataset(pairs, prompter, (), recipe.tune)
    for number, row in enumerate(pairs):
        question, right, _ = dataset[number]
        said = [encoder.tokenizer.decode(answer, skip_special_tokens=True) for answer in question.answers]
        assert said[right.index(True)] == row.relevant[0]  # with its description it would be found by its own words
        assert set(said) <= set(catalog)


def test_right_items_of_a_batch_are_wrong_for_its_other_questions(encoder: Base) -> None:
    recipe = recipe_for(encoder, "rank", "lora", 0)
    recipe = recipe.model_copy(update={"tune": recipe.tune.model_copy(update={"negatives": 1})})
    prompter = Prompter(recipe, encoder.tokenizer, ITEMS, scorer=encoder.scorer)
    dataset = TrainingDataset(rows_of("rank"), prompter, [], recipe.tune)
    batch = dataset.collate([dataset[place] for place in range(4)])
    assert batch.gold.sum() == 4
    for count, gold in zip(batch.questions.counts, torch.split(batch.gold, list(batch.questions.counts)), strict=True):
        assert 4 <= count <= 5  # its own, and those of the three others, one of which may be its negative
        assert list(gold) == [True] + [False] * (count - 1)
    assert len(batch.questions.input_ids) <= 4 + len(ITEMS)  # each text is there once


def test_a_head_starts_near_its_examples(encoder: Base) -> None:
    """Before any step it already tells apart what it was shown."""
    recipe = recipe_for(encoder, "choose", "lora", 0)
    recipe = recipe.model_copy(update={"tune": recipe.tune.model_copy(update={"lr": 1e-9, "epochs": 1})})
    tuned = tuned_on(encoder, recipe, list(WORDS))
    prompter = Prompter(recipe, encoder.tokenizer, scorer=encoder.scorer)
    answers = ask(tuned.adapter, prompter, [{"text": text} for text in WORDS.values()], labels=list(WORDS))
    tuned.adapter.detach()
    assert [int(np.argmax(answer)) for answer in answers] == [0, 1, 2]
