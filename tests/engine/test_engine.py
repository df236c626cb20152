"""The engine answers each request with the adapter it names, whatever else is in the batch."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.engine.conftest import ITEMS
from tests.solo import wearing

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter
from shopfit.engine import ChooseRequest, Engine, GenerateRequest, RankRequest, Tenant
from shopfit.engine.offline_scoring import ask
from shopfit.errors import BaseError, RequestError, UnknownReference
from shopfit.merchant.catalog import Catalog, Item
from shopfit.registry import Registry
from shopfit.settings import Settings

MakeBundle = Callable[..., Bundle]


@pytest.fixture
def engine(base: Base) -> Engine:
    return Engine(base)


@pytest.mark.parametrize("method", ["lora", "adalora", "prefix"])
def test_mixed_batches_answer_as_each_request_alone(engine: Engine, make_bundle: MakeBundle, method: str) -> None:
    one, two = make_bundle("acme", seed=1), make_bundle("acme-too", seed=2, method=method)
    requests = [
        ChooseRequest(bundle, {"text": text}) for text in ("lovely crema", "arrived cracked") for bundle in (one, two)
    ]
    mixed = engine.choose(requests)
    alone = [engine.choose([request])[0] for request in requests]
    for got, wanted in zip(mixed, alone, strict=True):
        assert got.label == wanted.label
        assert got.probabilities == pytest.approx(wanted.probabilities, abs=1e-5)
    assert mixed[0].probabilities["negative"] != pytest.approx(mixed[1].probabilities["negative"], rel=1e-2)


@pytest.mark.parametrize("registered", [True, False])
def test_ask_answers_whatever_the_task_is(
    base: Base, quick_bundle: MakeBundle, settings: Settings, registered: bool
) -> None:
    bundles = {task: quick_bundle("acme", task=task, recipe=task) for task in ("choose", "rank", "generate")}
    adapters: dict[str, str | Bundle] = dict(bundles)
    with Registry.open(settings) as registry, Engine(base, registry=registry, cache=settings.cache) as engine:
        if registered:
            adapters |= {task: registry.publish(one, promote=True, actor="test").name for task, one in bundles.items()}
        chosen = engine.ask(adapters["choose"], {"text": "lovely crema"})
        assert chosen == engine.choose([ChooseRequest(adapters["choose"], {"text": "lovely crema"})])[0]
        ranked = engine.ask(adapters["rank"], {"query": "tent"}, top=2)
        assert ranked == engine.rank([RankRequest(adapters["rank"], {"query": "tent"}, top=2)])[0]
        written = engine.ask(adapters["generate"], {"input": "tent"}, max_new_tokens=3, seed=1)
        wanted = GenerateRequest(adapters["generate"], {"input": "tent"}, max_new_tokens=3, seed=1)
        assert written == engine.generate([wanted])[0]
        with pytest.raises(RequestError, match=r"(?s)a request to choose has no option 'top'.*leave it out"):
            engine.ask(adapters["choose"], {"text": "x"}, top=2)
        with pytest.raises(RequestError, match=r"(?s)no option 'tip'.*it takes candidates, top"):
            engine.ask(adapters["rank"], {"query": "x"}, tip=2)
        with pytest.raises(UnknownReference):
            engine.ask("acme/nothing", {"text": "x"})


@pytest.mark.parametrize("slots", [1, 2, 32])
def test_more_adapters_than_slots_in_a_batch_answer_all_the_same(
    base: Base, make_bundle: MakeBundle, slots: int
) -> None:
    """Methods mix, one merchant's name contains another's, and the bare base is in the batch as well."""
    bundles = [
        make_bundle("acme", seed=1),
        make_bundle("acme-too", seed=2, method="adalora"),
        make_bundle("acme-too-2", seed=3, method="prefix"),
        make_bundle("me", seed=4),
        make_bundle("acm", seed=5),
    ]
    tenants = [Tenant.of(bundle) for bundle in bundles]
    tenants.append(Tenant("bare", tenants[0].recipe, tenants[0].labels))
    requests = [
        ChooseRequest(tenant, {"text": text})
        for text in ("lovely crema", "arrived cracked", "box was wet")
        for tenant in tenants
    ]
    engine = Engine(base, slots=slots)
    mixed = engine.choose(requests)
    for request, got in zip(requests, mixed, strict=True):
        assert isinstance(request.adapter, Tenant)
        prompter = Prompter(request.adapter.recipe, base.tokenizer)
        with wearing(base, request.adapter.bundle) as voice:  # PEFT's own layers, this adapter only
            alone = ask(voice, prompter, [request.fields], labels=request.adapter.labels)[0]
        assert list(got.probabilities.values()) == pytest.approx(alone, abs=1e-5)
    assert len({round(answer.probabilities["positive"], 6) for answer in mixed[:6]}) == 6
    again = engine.choose(requests[::-1])[::-1]
    assert [answer.label for answer in again] == [answer.label for answer in mixed]


def test_a_broken_adapter_takes_no_slot_from_the_others(
    base: Base, make_bundle: MakeBundle, other_base: Path, home: Path
) -> None:
    good = ChooseRequest(make_bundle("acme"), {"text": "lovely"})
    stranger = Engine(load_base(str(other_base), home))
    with pytest.raises(BaseError):
        stranger.choose([good])
    engine = Engine(base, slots=1)
    before = engine.choose([good])[0].probabilities
    foreign = Tenant.of(make_bundle("beta", seed=9))
    assert foreign.bundle is not None
    identity = foreign.bundle.manifest.base.model_copy(update={"fingerprint": "0" * 64})
    manifest = foreign.bundle.manifest.model_copy(update={"base": identity})
    with pytest.raises(BaseError, match="0" * 64):
        engine.choose([ChooseRequest(Bundle(foreign.bundle.folder, manifest), {"text": "lovely"})])
    assert engine.choose([good])[0].probabilities == before


def test_probabilities_sum_to_one_and_the_label_leads(engine: Engine, make_bundle: MakeBundle) -> None:
    answer = engine.choose([ChooseRequest(make_bundle("acme"), {"text": "lovely"})])[0]
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.probabilities[answer.label] == max(answer.probabilities.values())


def test_a_ranking_holds_items_in_stock_not_in_the_history(engine: Engine, make_bundle: MakeBundle) -> None:
    bundle = make_bundle("acme", task="rank")
    answer = engine.rank([RankRequest(bundle, {"query": "warm", "history": ["tent"]}, top=9)])[0]
    assert {item.id for item in answer.items} == {"bag", "stove", "boots"}  # the lamp is out of stock
    assert [item.score for item in answer.items] == sorted((item.score for item in answer.items), reverse=True)
    assert len(engine.rank([RankRequest(bundle, {"query": "warm"}, top=2)])[0].items) == 2


def test_candidates_are_ranked_as_given_whatever_their_number(engine: Engine, make_bundle: MakeBundle) -> None:
    bundle = make_bundle("acme", task="rank")
    more = {f"stove-{number}": f"Stove {number}" for number in range(300)}
    catalog = Catalog(dict(ITEMS) | {name: Item(name, title, {"title": title}) for name, title in more.items()})
    tenant = replace(Tenant.of(bundle), catalog=catalog)
    few = engine.rank([RankRequest(tenant, {"query": "warm"}, ["bag", "lamp"])])[0].items
    many = engine.rank([RankRequest(tenant, {"query": "warm"}, ["bag", "lamp", *more], top=302)])[0].items
    scores = {item.id: item.score for item in many}
    assert len(scores) == 302
    assert all(item.score == pytest.approx(scores[item.id], abs=1e-4) for item in few)


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_generated_answers_do_not_depend_on_the_batch(engine: Engine, make_bundle: MakeBundle, method: str) -> None:
    bundle = make_bundle("acme", task="generate", method=method)
    requests = [
        GenerateRequest(bundle, {"input": text})
        for text in ("a", "sleep outside in a tent for two people", "see at night")
    ]
    together = [answer.text for answer in engine.generate(requests)]
    assert together == [engine.generate([request])[0].text for request in requests]
    assert together == [greedy(engine.base, bundle, request) for request in requests]


def greedy(base: Base, bundle: Bundle, request: GenerateRequest) -> str:
    """The most probable token after the other, each from a forward of its own, without any cache of the answer."""
    tenant = Tenant.of(bundle)
    tokens = list(Prompter(tenant.recipe, base.tokenizer).encode(request.fields))
    start = len(tokens)
    with wearing(base, bundle) as voice, torch.inference_mode():
        while len(tokens) - start < tenant.recipe.serve.max_new_tokens:
            prefix = voice.prefix(1)
            logits = voice.model(torch.tensor([tokens]), past_key_values=prefix and prefix.cache).logits
            tokens.append(int(logits[0, -1].argmax()))
            if tokens[-1] == base.tokenizer.eos_token_id:
                break
    text: str = base.tokenizer.decode(tokens[start:], skip_special_tokens=True)
    return text.strip().strip("\ufffd").strip()


def test_the_bare_base_answers_only_when_it_is_asked_for(engine: Engine, make_bundle: MakeBundle) -> None:
    tenant = Tenant.of(make_bundle("acme"))
    bare = Tenant("bare", tenant.recipe, tenant.labels)
    one, two = engine.choose([ChooseRequest(tenant, {"text": "lovely"}), ChooseRequest(bare, {"text": "lovely"})])
    assert one.probabilities != pytest.approx(two.probabilities, abs=1e-3)


def test_references_are_looked_up_and_unknown_ones_are_errors(
    base: Base, settings: Settings, make_bundle: MakeBundle
) -> None:
    with Registry.open(settings) as registry:
        registry.publish(make_bundle("acme"), promote=True, actor="test")
        engine = Engine(base, registry=registry, cache=settings.cache)
        named = engine.choose(
            [ChooseRequest("acme/r", {"text": "lovely"}), ChooseRequest("acme/r@1", {"text": "lovely"})]
        )
        assert named[0] == named[1]
        for reference in ("acme/other", "acm/r", "acme/r@2", "acme/r@candidate", "../acme/r"):
            with pytest.raises(UnknownReference):
                engine.choose([ChooseRequest(reference, {"text": "lovely"})])


def test_bad_requests_say_what_would_fit(engine: Engine, make_bundle: MakeBundle) -> None:
    choose, rank = make_bundle("acme"), make_bundle("acme", task="rank")
    with pytest.raises(RequestError, match="to choose, not to rank"):
        engine.rank([RankRequest(choose, {"text": "x"})])
    with pytest.raises(RequestError, match="shows nothing in any of the fields"):
        engine.choose([ChooseRequest(choose, {"txt": "x"})])
    with pytest.raises(RequestError, match="'nope'"):
        engine.rank([RankRequest(rank, {"query": "x"}, ["bag", "nope"])])
    with pytest.raises(RequestError, match="no registry"):
        engine.choose([ChooseRequest("acme/r", {"text": "x"})])


def test_an_adapter_for_another_base_is_refused(make_bundle: MakeBundle, other_base: Path, home: Path) -> None:
    engine = Engine(load_base(str(other_base), home))
    with pytest.raises(BaseError, match="fingerprint"):
        engine.choose([ChooseRequest(make_bundle("acme"), {"text": "x"})])


def test_from_the_environment(tiny_base: Path, settings: Settings, make_bundle: MakeBundle) -> None:
    bundle = make_bundle("acme")
    with Registry.open(settings) as registry:
        registry.publish(bundle, promote=True, actor="test")
    with Engine.load(str(tiny_base)) as engine:
        named, own = engine.choose(
            [ChooseRequest("acme/r", {"text": "lovely"}), ChooseRequest(bundle, {"text": "lovely"})]
        )
    assert named.probabilities == own.probabilities
