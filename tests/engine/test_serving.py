"""Many callers at once: joining, cancelling, deadlines, backpressure, fairness; one's failure is nobody else's."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest
from tests.engine.gate import GUARD, gated

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.engine import ChooseRequest, Engine, GenerateRequest, RankRequest, Tenant
from shopfit.errors import BundleError, DeadlineExceeded, EngineEnded, Overloaded, RequestError, UnknownReference

QuickBundle = Callable[..., Bundle]
LONG = {"max_new_tokens": 400}


def until(check: Callable[[], bool]) -> None:
    """Wait for it; only the limit of the whole test ends the waiting."""
    while not check():
        time.sleep(0.01)


@pytest.fixture
def engine(base: Base) -> Iterator[Engine]:
    with Engine(base, slots=4, rows=4) as engine:
        yield engine


def never_ends(bundle: Bundle, **options: object) -> GenerateRequest:
    """A request whose answer takes hundreds of steps: a pattern that needs more tokens than the answer may have."""
    return GenerateRequest(bundle, {"input": "a"}, json_schema={"type": "string", "minLength": 20_000}, **options)  # type: ignore[arg-type]


def test_choose_rank_and_generate_share_the_engine_and_answer_as_alone(base: Base, quick_bundle: QuickBundle) -> None:
    choose, rank, generate = (
        quick_bundle(f"acme-{task}", seed=seed, task=task) for seed, task in enumerate(("choose", "rank", "generate"))
    )
    requests = [
        ChooseRequest(choose, {"text": "lovely"}),
        GenerateRequest(generate, {"input": "see at night"}),
        RankRequest(rank, {"query": "warm"}),
        GenerateRequest(generate, {"input": "a longer input than the other one has"}),
    ] * 3
    with Engine(base, slots=2, rows=2) as engine:
        together = [engine.submit(request) for request in requests]
        answers = [future.result(60) for future in together]
        alone = [engine.submit(request).result(60) for request in requests[:4]]
    for number, answer in enumerate(answers):
        want = alone[number % 4]
        if number % 4 == 0:
            assert answer.probabilities == pytest.approx(want.probabilities, abs=1e-5)  # type: ignore[union-attr]
        elif number % 4 == 2:
            assert [item.id for item in answer.items] == [item.id for item in want.items]  # type: ignore[union-attr]
        else:
            assert answer == want


def test_a_new_request_joins_while_another_is_being_written(engine: Engine, quick_bundle: QuickBundle) -> None:
    long = engine.submit(never_ends(quick_bundle("acme", task="generate"), **LONG))
    short = engine.submit(GenerateRequest(quick_bundle("beta", seed=1, task="generate"), {"input": "b"}))
    short.result(60)
    assert not long.done()
    assert long.result(120).finish == "length"  # type: ignore[union-attr]


def test_more_adapters_than_slots_write_all_the_same(base: Base, quick_bundle: QuickBundle) -> None:
    requests = [
        GenerateRequest(quick_bundle(f"m{number}", seed=number, task="generate"), {"input": "see"})
        for number in range(5)
    ] * 2
    with Engine(base, slots=8) as roomy:
        want = [roomy.generate([request])[0] for request in requests[:5]] * 2
    assert len({answer.text for answer in want}) > 1
    for slots in (1, 2):
        with Engine(base, slots=slots, rows=4) as engine:
            assert engine.generate(requests) == want


def test_cancelling_frees_the_row_at_once(base: Base, quick_bundle: QuickBundle) -> None:
    bundle = quick_bundle("acme", task="generate")
    with Engine(base, rows=1, slots=1) as engine:
        long = engine.submit(never_ends(bundle, **LONG))
        until(lambda: engine.status().writing == 1)
        waiting = engine.submit(GenerateRequest(bundle, {"input": "b"}))
        assert long.cancel()
        waiting.result(60)
        with pytest.raises(CancelledError):
            long.result()


def test_leaving_a_stream_frees_the_row(base: Base, quick_bundle: QuickBundle) -> None:
    bundle = quick_bundle("acme", task="generate")

    async def peek(engine: Engine) -> str:
        stream = engine.stream(never_ends(bundle, **LONG))
        first = await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        return first

    with Engine(base, rows=1, slots=1) as engine:
        assert asyncio.run(peek(engine))
        assert engine.generate([GenerateRequest(bundle, {"input": "b"})])
        assert engine.status().writing == 0


def test_a_stream_is_the_answer_in_parts(engine: Engine, quick_bundle: QuickBundle) -> None:
    request = GenerateRequest(quick_bundle("acme", task="generate"), {"input": "see"}, max_new_tokens=30)

    async def parts() -> list[str]:
        return [part async for part in engine.stream(request)]

    streamed = asyncio.run(parts())
    assert "".join(streamed) == engine.generate([request])[0].text
    assert len(streamed) > 1


def test_a_stream_that_fails_says_why(engine: Engine, quick_bundle: QuickBundle) -> None:
    async def parts() -> list[str]:
        return [part async for part in engine.stream(GenerateRequest(quick_bundle("acme"), {"text": "x"}))]

    with pytest.raises(RequestError, match="to choose, not to generate"):
        asyncio.run(parts())


def test_what_is_late_fails_and_lets_go(base: Base, quick_bundle: QuickBundle) -> None:
    bundle = quick_bundle("acme", task="generate")
    with Engine(base, rows=1) as engine:
        engine.generate([never_ends(bundle, max_new_tokens=2)])  # adapter and grammar are ready from here on
        running = engine.submit(never_ends(bundle, **LONG), timeout=0.06)
        waiting = engine.submit(GenerateRequest(bundle, {"input": "b"}), timeout=0.03)
        for late in (running, waiting):
            with pytest.raises(DeadlineExceeded, match="in time"):
                late.result(60)
        assert engine.generate([GenerateRequest(bundle, {"input": "b"})])


def test_a_full_engine_refuses_and_lists_wait(base: Base, quick_bundle: QuickBundle) -> None:
    bundle = quick_bundle("acme", task="generate")
    with Engine(base, rows=1, queue=3) as engine:
        held = [engine.submit(never_ends(bundle, **LONG)) for _ in range(3)]
        with pytest.raises(Overloaded, match="3 requests"):
            engine.submit(GenerateRequest(bundle, {"input": "b"}))
        for future in held:
            future.cancel()
        assert len(engine.generate([GenerateRequest(bundle, {"input": "b"})] * 10)) == 10


def test_a_hot_merchant_does_not_keep_another_waiting(base: Base, quick_bundle: QuickBundle) -> None:
    hot, small = quick_bundle("hot"), quick_bundle("small", seed=1)
    with gated(base) as gate, Engine(base, batch_tokens=64) as engine:
        engine.choose([ChooseRequest(hot, {"text": "x"}), ChooseRequest(small, {"text": "x"})])
        gate.close()
        flood = [engine.submit(ChooseRequest(hot, {"text": f"lovely crema {number}"})) for number in range(300)]
        gate.wait_until_held()
        one = engine.submit(ChooseRequest(small, {"text": "lovely"}))
        while engine.status().waiting < 293:
            threading.Event().wait(0.01)
        before = gate.forwards
        gate.open()
        one.result(GUARD)
        assert gate.forwards - before <= 2
        for future in flood:
            future.result(GUARD)


def test_a_broken_adapter_fails_alone(base: Base, quick_bundle: QuickBundle) -> None:
    good, broken = quick_bundle("good"), quick_bundle("broken", seed=1)
    weights = broken.folder / "lora" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with Engine(base) as engine:
        futures = [engine.submit(ChooseRequest(bundle, {"text": "x"})) for bundle in (good, broken, good, broken, good)]
        for number, future in enumerate(futures):
            if number % 2:
                with pytest.raises(BundleError, match="broken"):
                    future.result(60)
            else:
                assert future.result(60)


def test_one_bad_request_fails_alone(engine: Engine, quick_bundle: QuickBundle) -> None:
    bundle, ranker = quick_bundle("acme", task="generate"), quick_bundle("beta", task="rank", seed=1)
    bad = [
        (GenerateRequest(bundle, {"nothing": "x"}), "shows nothing in any of the fields"),
        (GenerateRequest(bundle, {"input": "x"}, temperature=-1), "temperature"),
        (GenerateRequest(bundle, {"input": "x"}, top_p=0), "top_p"),
        (GenerateRequest(bundle, {"input": "x"}, max_new_tokens=0), "max_new_tokens"),
        (GenerateRequest(bundle, {"input": "x"}, json_schema={"type": "nonsense"}), "JSON schema"),
        (RankRequest(ranker, {"query": "x"}, ["nope"]), "'nope'"),
        (ChooseRequest("acme/r", {"text": "x"}), "no registry"),
    ]
    futures = [engine.submit(request) for request, _ in bad]
    for future, (_, message) in zip(futures, bad, strict=True):
        with pytest.raises(RequestError, match=message):
            future.result(60)
    assert engine.submit(GenerateRequest(bundle, {"input": "x"})).result(60)


def test_an_adapter_without_a_registry_or_a_wrong_reference_is_named(engine: Engine) -> None:
    with pytest.raises(UnknownReference, match="not a reference"):
        engine.submit(ChooseRequest("../x", {"text": "x"})).result(60)


def test_what_does_not_fit_the_context_says_so(base: Base, quick_bundle: QuickBundle) -> None:
    words = "lovely crema " * 400
    roomy = {"prompt": {"template": "Say: {input}\nWord:", "max_tokens": 2000}}
    long = quick_bundle("acme", task="generate", **roomy)
    with Engine(base) as engine:
        with pytest.raises(RequestError, match=rf"{base.max_length} at most"):
            engine.generate([GenerateRequest(long, {"input": words})])
        short = quick_bundle("beta", task="generate", seed=1)  # this recipe shortens it to 512 tokens
        assert engine.generate([never_ends(short, max_new_tokens=8), GenerateRequest(short, {"input": words})])
        near = engine.generate([never_ends(short, max_new_tokens=4000)])[0]
        assert near.finish == "length"  # written to the end of the context, and no further
        assert len(base.tokenizer(near.text)["input_ids"]) < base.max_length


def test_seeds_temperature_and_stop(engine: Engine, quick_bundle: QuickBundle) -> None:
    bundle = quick_bundle("acme", task="generate")

    def text(**options: object) -> str:
        return engine.generate([GenerateRequest(bundle, {"input": "see"}, max_new_tokens=20, **options)])[0].text  # type: ignore[arg-type]

    assert text(temperature=2.0, seed=1) == text(temperature=2.0, seed=1)
    assert len({text(temperature=2.0, seed=seed) for seed in range(5)}) > 1
    assert len({text(temperature=2.0) for _ in range(5)}) > 1
    whole = text()
    middle = whole[len(whole) // 2]
    assert text(stop=[middle]) == whole[: whole.index(middle)].strip()
    assert text(temperature=1.0, top_p=1e-9, seed=3) == whole


def test_penalties_are_of_the_row_that_asks(engine: Engine, quick_bundle: QuickBundle) -> None:
    bundle = quick_bundle("acme", task="generate")

    def ask(**options: Any) -> GenerateRequest:
        return GenerateRequest(bundle, {"input": "see"}, max_new_tokens=40, **options)

    requests = [ask(), ask(frequency_penalty=2.0), ask(presence_penalty=-2.0), ask(frequency_penalty=0.0)]
    together = [answer.text for answer in engine.generate(requests)]
    assert together == [engine.generate([request])[0].text for request in requests]
    assert together[0] == together[3]
    assert len(set(together)) == 3


def test_answers_follow_a_schema_or_titles(base: Base, quick_bundle: QuickBundle) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    bundle = quick_bundle("acme", task="generate", serve={"max_new_tokens": 60, "json_schema": schema})
    with Engine(base) as engine:
        plain = quick_bundle("beta", seed=1, task="generate")
        answers = engine.generate([GenerateRequest(bundle, {"input": "x"}), GenerateRequest(plain, {"input": "x"})])
        assert answers[0].output in ({"ok": True}, {"ok": False})
        assert answers[1] == engine.generate([GenerateRequest(plain, {"input": "x"})])[0]
        titled = quick_bundle("shop", seed=2, task="generate", serve={"max_new_tokens": 60, "titles": True})
        known = Tenant.of(titled)
        from tests.engine.conftest import ITEMS

        tenant = Tenant(known.name, known.recipe, catalog=ITEMS, bundle=known.bundle)
        said = {
            engine.generate([GenerateRequest(tenant, {"input": "x"}, temperature=4.0, seed=seed)])[0].text
            for seed in range(12)
        }
        assert said <= {"Tent", "Bag", "Stove", "Boots"}  # the lamp is out of stock
        assert len(said) > 1


def test_a_closed_engine_says_so(base: Base, quick_bundle: QuickBundle) -> None:
    bundle = quick_bundle("acme", task="generate")
    engine = Engine(base, rows=1)
    running = engine.submit(never_ends(bundle, **LONG))
    until(lambda: engine.status().writing == 1)
    engine.close()
    with pytest.raises(EngineEnded, match="closed"):
        running.result(60)
    with pytest.raises(EngineEnded, match="closed"):
        engine.generate([GenerateRequest(bundle, {"input": "x"})])
    engine.close()


def test_an_engine_that_nobody_holds_ends_its_threads(base: Base, quick_bundle: QuickBundle) -> None:
    def use() -> None:
        Engine(base).choose([ChooseRequest(quick_bundle("acme"), {"text": "x"})])

    def threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith("shopfit-engine")}

    before = threads()
    use()
    until(lambda: not threads() - before)


def test_a_listener_that_fails_ends_its_own_answer(engine: Engine, quick_bundle: QuickBundle) -> None:
    bundle = quick_bundle("acme", task="generate")

    def show(_: str) -> None:
        raise RuntimeError("the socket is gone")

    with pytest.raises(RuntimeError, match="socket"):
        engine.submit(GenerateRequest(bundle, {"input": "x"}), show=show).result(60)
    assert engine.generate([GenerateRequest(bundle, {"input": "x"})])
