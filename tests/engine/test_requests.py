"""One boundary for requests: each is answered, or refused with one clear message, whatever it holds."""

import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.conftest import ITEMS
from tests.engine.gate import GUARD

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.engine import ChooseRequest, Engine, GenerateRequest, RankRequest, RecommendRequest, Tenant
from shopfit.errors import DeadlineExceeded, RequestError, ShopfitError
from shopfit.recipe.item_rules import Rules

QuickBundle = Callable[..., Bundle]
CASES = int(os.environ.get("SHOPFIT_FUZZ_CASES", "150"))


@pytest.fixture
def tenants(quick_bundle: QuickBundle) -> dict[str, Tenant]:
    return {task: Tenant.of(quick_bundle("acme", task=task, recipe=task)) for task in ("choose", "rank", "generate")}


@pytest.fixture
def engine(base: Base) -> Iterator[Engine]:
    with Engine(base) as engine:
        yield engine


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"top": -1}, "top is -1"),
        ({"top": 0}, "top is 0"),
        ({"top": True}, "top is true"),
        ({"top": 2.0}, r"top is 2\.0"),
        ({"candidates": "tent"}, "candidates is 'tent'"),
        ({"candidates": ["tent", "bag", "tent"]}, "'tent' named twice"),
        ({"candidates": ["tent", 3]}, "an item of candidates is 3"),
        ({"candidates": [""]}, "an item of candidates is ''"),
        ({"candidates": [f"x{number}" for number in range(10_001)]}, "a list of 10001"),
        ({"fields": {"history": 5}}, "history is 5"),
        ({"fields": {"history": ["tent", None]}}, "an item of history"),
        ({"fields": ["query"]}, "fields is"),
        ({"fields": {3: "x"}}, "a name in fields is 3"),
        ({"fields": {f"f{number}": "x" for number in range(300)}}, "300 names"),
    ],
)
def test_rankings_are_not_guessed_at(
    engine: Engine, tenants: dict[str, Tenant], options: dict[str, Any], named: str
) -> None:
    request = RankRequest(tenants["rank"], **({"fields": {"query": "warm"}} | options))
    with pytest.raises(RequestError, match=named):
        engine.submit(request).result(GUARD)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": "1"}, "temperature is '1'"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": math.inf}, "top_p is inf"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"max_new_tokens": "5"}, "max_new_tokens is '5'"),
        ({"max_new_tokens": 10**9}, "max_new_tokens is 1000000000"),
        ({"stop": "abc"}, "stop is 'abc'"),
        ({"stop": [""]}, "a text of stop is ''"),
        ({"stop": ["x"] * 100}, "stop is"),
        ({"frequency_penalty": 2.5}, r"frequency_penalty is 2\.5"),
        ({"presence_penalty": math.nan}, "presence_penalty is nan"),
        ({"seed": 1.5}, r"seed is 1\.5"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"json_schema": True}, "json_schema is true"),
        ({"json_schema": {"enum": [math.nan]}}, "JSON schema cannot be used"),
        ({"json_schema": {"enum": [object()]}}, "JSON schema cannot be used"),
    ],
)
def test_texts_are_not_guessed_at(
    engine: Engine, tenants: dict[str, Tenant], options: dict[str, Any], named: str
) -> None:
    with pytest.raises(RequestError, match=named):
        engine.submit(GenerateRequest(tenants["generate"], {"input": "x"}, **options)).result(GUARD)


def test_a_tiny_temperature_is_greedy(engine: Engine, tenants: dict[str, Tenant]) -> None:
    def text(temperature: float) -> str:
        request = GenerateRequest(tenants["generate"], {"input": "see"}, temperature=temperature, seed=1)
        return engine.generate([request])[0].text

    assert {text(temperature) for temperature in (0.0, 1e-39, 1e-300, 1e-12)} == {text(0)}


def test_other_things_that_are_no_requests(engine: Engine, tenants: dict[str, Tenant]) -> None:
    tenant = tenants["rank"]
    for request, named in (
        ("a question", "request is 'a question'"),
        (ChooseRequest(None, {"text": "x"}), "adapter is null"),  # type: ignore[arg-type]
        (ChooseRequest(b"acme/r", {"text": "x"}), "adapter is b'acme/r'"),  # type: ignore[arg-type]
        (RecommendRequest(tenant, {"query": "x"}, rules={"max_price": 3}), "rules is"),  # type: ignore[arg-type]
        (RecommendRequest(tenant, {"query": "x"}, k=-1), "k is -1"),
    ):
        with pytest.raises(RequestError, match=named):
            engine.submit(request).result(GUARD)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="history is 'tent'"):
        engine.recommend(tenant, history="tent")
    with pytest.raises(RequestError, match="timeout is nan"):
        engine.submit(RankRequest(tenant, {"query": "x"}), timeout=math.nan).result(GUARD)
    with pytest.raises(DeadlineExceeded):
        engine.submit(RankRequest(tenant, {"query": "x"}), timeout=-1).result(GUARD)
    assert engine.submit(RankRequest(tenant, {"query": "x"}), timeout=math.inf).result(GUARD)


class Stubborn(Mapping[str, Any]):
    """Fields that may not be looked at by whoever asks."""

    def __init__(self) -> None:
        self.caller = threading.current_thread()
        self.go = threading.Event()

    def _look(self) -> None:
        assert threading.current_thread() is not self.caller
        assert self.go.wait(GUARD)

    def __getitem__(self, name: str) -> Any:
        self._look()
        return {"text": "lovely"}[name]

    def __iter__(self) -> Iterator[str]:
        self._look()
        return iter(["text"])

    def __len__(self) -> int:
        self._look()
        return 1


def test_submit_reads_nothing_of_what_is_asked(engine: Engine, tenants: dict[str, Tenant]) -> None:
    fields = Stubborn()
    future = engine.submit(ChooseRequest(tenants["choose"], fields))
    assert not future.done()
    late = engine.submit(ChooseRequest(tenants["choose"], fields), timeout=0.001)
    with pytest.raises(DeadlineExceeded):  # also before anybody has looked at it
        late.result(GUARD)
    fields.go.set()
    assert future.result(GUARD)


def test_answers_say_which_version_made_them(engine: Engine, quick_bundle: QuickBundle) -> None:
    bundle = quick_bundle("acme")
    answer = engine.choose([ChooseRequest(bundle, {"text": "x"})])[0]
    assert (answer.version, answer.digest) == ("acme/r", bundle.digest)


simple = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.text(st.characters(categories=["Cs", "Cc", "Co", "Lo"]), max_size=6),
    st.binary(max_size=6),
)
anything = st.recursive(
    simple, lambda part: st.one_of(st.lists(part, max_size=4), st.dictionaries(simple, part, max_size=3)), max_leaves=8
)
fields = st.one_of(anything, st.dictionaries(st.sampled_from(["text", "query", "history", "input", ""]), anything))
ids = st.one_of(anything, st.lists(st.sampled_from([*ITEMS, "x"]), max_size=6))
NAMES = (
    "fields",
    "candidates",
    "top",
    "k",
    "rules",
    "max_new_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "json_schema",
    "frequency_penalty",
    "presence_penalty",
)


@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_whatever_is_asked_is_answered_or_refused(engine: Engine, tenants: dict[str, Tenant], data: Any) -> None:
    kind = data.draw(st.sampled_from([ChooseRequest, RankRequest, RecommendRequest, GenerateRequest]))
    task = {ChooseRequest: "choose", GenerateRequest: "generate"}.get(kind, "rank")
    adapter = data.draw(st.one_of(st.just(tenants[task]), st.just(tenants[task]), anything))
    good = {"text": "lovely", "query": "warm", "input": "see"}
    known = [name for name in NAMES if name in kind.__dataclass_fields__]
    options = {
        name: data.draw(ids if name == "candidates" else anything) for name in known[1:] if data.draw(st.booleans())
    }
    request = kind(adapter, data.draw(st.one_of(st.just(good), fields)), **options)
    error = engine.submit(request, timeout=data.draw(st.sampled_from([None, None, 60.0]))).exception(GUARD)
    assert error is None or isinstance(error, ShopfitError)
    assert "could not be answered" not in str(error)  # nothing that nobody foresaw


def test_rules_of_a_request_are_rules(engine: Engine, tenants: dict[str, Tenant]) -> None:
    answer = engine.recommend(tenants["rank"], query="x", k=3, rules=Rules(in_stock=False))
    assert len(answer.items) == 3


@pytest.mark.parametrize("several", ["abc", b"abc", None, 7, {"adapter": "acme/r"}])
def test_what_holds_no_requests_is_refused(engine: Engine, several: Any) -> None:
    for ask in (engine.choose, engine.rank, engine.generate):
        with pytest.raises(RequestError, match=r"requests is .* \(allowed: a list of requests\)"):
            ask(several)


def test_one_request_that_is_no_list_is_refused(engine: Engine, tenants: dict[str, Tenant]) -> None:
    request = ChooseRequest(tenants["choose"], {"text": "lovely"})
    with pytest.raises(RequestError, match="allowed: a list of requests"):
        engine.choose(request)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="request is 'abc'"):
        engine.choose([request, "abc"])  # type: ignore[list-item]
    assert len(engine.choose(request for _ in range(2))) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, -1, "8", True, 2.0, None, float("nan")])
@pytest.mark.parametrize("name", ["slots", "max_rank", "memory", "disk", "rows", "queue", "batch_tokens"])
def test_sizes_that_no_engine_can_have_are_refused_before_anything_is_loaded(base: Base, name: str, size: Any) -> None:
    for make in (lambda: Engine(base, **{name: size}), lambda: Engine.load("no-such-base", **{name: size})):
        with pytest.raises(RequestError, match=rf"{name} is .* \(allowed: a whole number, 1 or more\)"):
            make()


def test_options_that_no_engine_has_are_refused_before_anything_is_loaded() -> None:
    with pytest.raises(RequestError, match=r"no option 'slot'; did you mean 'slots'\?"):
        Engine.load("no-such-base", slot=8)
