"""Any mix of adapters, methods and tasks, through any number of slots: each answer is the one that PEFT gives alone."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.solo import wearing

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.engine import ChooseRequest, Engine, GenerateRequest, RankRequest, Tenant
from shopfit.engine.offline_scoring import ask, ask_generate

MakeBundle = Callable[..., Bundle]
METHODS = ["lora", "adalora", "prefix", "dora", "rslora", "bare"]
SWITCHES = {"dora", "rslora"}  # of LoRA
TASKS = ["choose", "rank", "generate"]
TEXTS = ["lovely crema", "arrived cracked, and the box was wet", "x"]
ITEMS = ["tent", "bag", "stove", "boots"]


@pytest.fixture
def tenants(make_bundle: MakeBundle) -> dict[tuple[str, str], Tenant]:
    known = {}
    for task in TASKS:
        for seed, method in enumerate(METHODS[:-1]):
            said = {"switch": method} if method in SWITCHES else {"method": method}
            known[task, method] = Tenant.of(make_bundle(f"acme-{method}", task=task, seed=seed, **said))
        one = known[task, "lora"]
        known[task, "bare"] = Tenant("acme", one.recipe, one.labels, one.catalog)
    return known


@pytest.fixture
def alone(base: Base, tenants: dict[tuple[str, str], Tenant]) -> dict[tuple[str, str, str], Any]:
    answers: dict[tuple[str, str, str], Any] = {}
    for (task, method), tenant in tenants.items():
        prompter = Prompter(tenant.recipe, base.tokenizer, tenant.catalog, tenant.history)
        bundle = tenant.bundle
        assert bundle is None or isinstance(bundle, Bundle)
        with wearing(base, bundle) as voice:
            for text in TEXTS:
                match task:
                    case "choose":
                        got: Any = list(ask(voice, prompter, [{"text": text}], labels=tenant.labels)[0])
                    case "rank":
                        got = list(ask(voice, prompter, [{"query": text}], pools=[ITEMS])[0])
                    case _:
                        got = ask_generate(voice, base, prompter, [{"input": text}])[0]
                answers[task, method, text] = got
    return answers


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(TASKS), st.sampled_from(METHODS), st.sampled_from(TEXTS)), min_size=1, max_size=24
    ),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([40, 200, 2048]),
)
def test_any_mix_answers_as_alone(
    base: Base,
    tenants: dict[tuple[str, str], Tenant],
    alone: dict[tuple[str, str, str], Any],
    mix: list[tuple[str, str, str]],
    slots: int,
    rows: int,
    batch_tokens: int,
) -> None:
    with Engine(base, slots=slots, rows=rows, batch_tokens=batch_tokens) as engine:
        futures = []
        for task, method, text in mix:
            tenant = tenants[task, method]
            match task:
                case "choose":
                    request: Any = ChooseRequest(tenant, {"text": text})
                case "rank":
                    request = RankRequest(tenant, {"query": text}, ITEMS, len(ITEMS))
                case _:
                    request = GenerateRequest(tenant, {"input": text})
            futures.append(engine.submit(request))
        for (task, method, text), future in zip(mix, futures, strict=True):
            answer: Any = future.result(60)
            want = alone[task, method, text]
            match task:
                case "choose":
                    assert list(answer.probabilities.values()) == pytest.approx(want, abs=1e-4)
                case "rank":
                    scores = {item.id: item.score for item in answer.items}
                    assert [scores[item] for item in ITEMS] == pytest.approx(want, abs=1e-4)
                case _:
                    assert answer.text == want
