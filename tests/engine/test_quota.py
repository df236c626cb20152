"""Whatever one merchant asks for, the others wait for one forward or decode step, and for their own work."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.engine.gate import GUARD, gated
from tests.engine.test_adapter_cache import SIZE, loaded

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.engine import ChooseRequest, Engine, GenerateRequest
from shopfit.engine.adapter_cache import AdapterCache
from shopfit.engine.fair_thread_pool import Workers
from shopfit.engine.quota import Shares
from shopfit.errors import Overloaded, UnknownReference
from shopfit.registry import Registry
from shopfit.settings import Settings

QuickBundle = Callable[..., Bundle]
TEXT = {"text": "lovely crema"}
ENDLESS = {"type": "string", "minLength": 20_000}


def test_who_holds_everything_keeps_nobody_out() -> None:
    shares = Shares(8)
    assert [shares.take("hot") for _ in range(9)] == [True] * 8 + [False]
    assert [shares.take("small") for _ in range(5)] == [True] * 4 + [False]
    assert [shares.take("third") for _ in range(3)] == [True] * 2 + [False]
    for _ in range(8):
        shares.give_back("hot")
    assert shares.take("third")  # less is held than there is: whoever wants it may have it


def test_what_all_merchants_hold_is_bounded() -> None:
    shares = Shares(8)
    held = sum(shares.take(f"m{merchant}") for merchant in range(100) for _ in range(8))
    assert held <= 16


def test_whoever_waits_for_a_share_gets_the_next_one() -> None:
    shares = Shares(1)
    shares.take("hot")
    got = threading.Event()
    thread = threading.Thread(target=lambda: (shares.take("hot", wait=True), got.set()))
    thread.start()
    shares.give_back("hot")
    assert got.wait(GUARD)
    thread.join()


def test_a_full_queue_is_full_for_one_merchant(base: Base, quick_bundle: QuickBundle) -> None:
    hot, small = quick_bundle("hot"), quick_bundle("small", seed=1)
    with gated(base) as gate, Engine(base, queue=8) as engine:
        gate.close()
        held = [engine.submit(ChooseRequest(hot, TEXT)) for _ in range(8)]
        with pytest.raises(Overloaded, match="8 requests"):
            engine.submit(ChooseRequest(hot, TEXT))
        held += [engine.submit(ChooseRequest(small, TEXT)) for _ in range(4)]
        with pytest.raises(Overloaded):
            engine.submit(ChooseRequest(small, TEXT))
        gate.open()
        assert all(future.result(GUARD) for future in held)


def test_a_list_of_thousands_delays_another_by_one_forward(base: Base, quick_bundle: QuickBundle) -> None:
    hot, small = quick_bundle("hot"), quick_bundle("small", seed=1)
    with gated(base) as gate, Engine(base, batch_tokens=256, queue=64) as engine:
        engine.choose([ChooseRequest(hot, TEXT), ChooseRequest(small, TEXT)])
        gate.close()
        flood: list[Any] = []
        ask = [ChooseRequest(hot, {"text": f"wet box {number}"}) for number in range(3000)]
        thread = threading.Thread(target=lambda: flood.extend(engine.choose(ask)))
        thread.start()
        gate.wait_until_held()
        one = engine.submit(ChooseRequest(small, TEXT))
        answered = threading.Event()
        one.add_done_callback(lambda _: answered.set())
        while engine.status().waiting < 30:  # beside those that are in the forward
            threading.Event().wait(0.01)
        before = gate.forwards
        gate.open()
        one.result(GUARD)
        assert gate.forwards - before <= 2  # its own, and maybe the next one has begun
        thread.join(GUARD)
    assert len(flood) == 3000


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_long_answers_are_paused_for_another_and_go_on_unchanged(
    base: Base, quick_bundle: QuickBundle, make_bundle: Callable[..., Bundle], method: str
) -> None:
    hot = make_bundle("hot", task="generate", method=method)
    small = quick_bundle("small", seed=1, task="generate")
    requests = [
        GenerateRequest(hot, {"input": f"night {number}"}, max_new_tokens=60, json_schema=ENDLESS)
        for number in range(8)
    ]
    short = GenerateRequest(small, {"input": "see"}, max_new_tokens=4, json_schema=ENDLESS)
    with Engine(base, rows=4, slots=4) as engine:
        want = [engine.generate([request])[0].text for request in requests]
        want_short = engine.generate([short])[0].text
    with gated(base) as gate, Engine(base, rows=4, slots=4) as engine:
        engine.generate([short])
        gate.close()
        long = [engine.submit(request) for request in requests]
        gate.wait_until_held()
        asked = [engine.submit(short) for _ in range(2)]
        while engine.status().waiting < 4 + 2:  # rows for four, and two more that want one
            threading.Event().wait(0.01)
        before = gate.forwards
        gate.open()
        assert [future.result(GUARD).text for future in asked] == [want_short] * 2
        # what runs, a join, three steps after the first token; a forward of the other's may come between; one may run
        assert gate.forwards - before <= 10
        assert not any(future.done() for future in long)
        assert [future.result(GUARD).text for future in long] == want
        assert engine.status().paused == 0


@pytest.mark.parametrize(("slots", "rows"), [(2, 32), (4, 1), (1, 1)])
def test_where_only_one_merchant_can_write_they_take_turns(
    base: Base, quick_bundle: QuickBundle, slots: int, rows: int
) -> None:
    hot, small = (quick_bundle(name, seed=seed, task="generate") for seed, name in enumerate(("hot", "small")))
    long = [
        GenerateRequest(hot, {"input": f"n{number}"}, max_new_tokens=200, json_schema=ENDLESS) for number in range(2)
    ]
    short = GenerateRequest(small, {"input": "see"}, max_new_tokens=80, json_schema=ENDLESS)
    with Engine(base) as engine:
        want = [engine.generate([request])[0].text for request in (*long, short)]
    with gated(base) as gate, Engine(base, slots=slots, rows=rows) as engine:
        engine.generate([short])
        gate.close()
        futures = [engine.submit(request) for request in long]
        gate.wait_until_held()
        asked = engine.submit(short)
        while engine.status().waiting < 1:
            threading.Event().wait(0.01)
        done: list[object] = []
        for future in (asked, *futures):
            future.add_done_callback(done.append)
        gate.open()
        assert [future.result(GUARD).text for future in (*futures, asked)] == want
        while len(done) < 3:
            threading.Event().wait(0.01)
        assert done[0] is asked  # though the others began first
        assert engine.status().paused == 0


def test_adapters_in_all_slots_are_paused_for_another(base: Base, quick_bundle: QuickBundle) -> None:
    hot = [quick_bundle("hot", seed=seed, task="generate", recipe=f"r{seed}") for seed in range(6)]
    small = quick_bundle("small", seed=9, task="generate")
    long = [GenerateRequest(bundle, {"input": "a"}, max_new_tokens=80, json_schema=ENDLESS) for bundle in hot]
    short = GenerateRequest(small, {"input": "see"}, max_new_tokens=3, json_schema=ENDLESS)
    with Engine(base, slots=16) as engine:
        want = [engine.generate([request])[0].text for request in long]
    with gated(base) as gate, Engine(base, slots=4, rows=16) as engine:
        engine.generate([short])
        futures = [engine.submit(request) for request in long]
        while engine.status().writing < 3:
            threading.Event().wait(0.01)
        gate.close()
        gate.wait_until_held()
        asked = engine.submit(short)
        while not engine.status().waiting:
            threading.Event().wait(0.01)
        before = gate.forwards
        gate.open()
        asked.result(GUARD)
        assert gate.forwards - before <= 10
        assert [future.result(GUARD).text for future in futures] == want


def test_questions_without_end_do_not_stop_answers_being_written(base: Base, quick_bundle: QuickBundle) -> None:
    """An answer of eight tokens does not wait for eight forwards of somebody else's."""
    hot, small = quick_bundle("hot"), quick_bundle("small", seed=1, task="generate")
    short = GenerateRequest(small, {"input": "see"}, max_new_tokens=40, json_schema=ENDLESS)
    with gated(base) as gate, Engine(base, batch_tokens=512) as engine:
        engine.choose([ChooseRequest(hot, TEXT)])
        engine.generate([short])
        gate.close()
        flood = [engine.submit(ChooseRequest(hot, {"text": f"wet box {number} " * 9})) for number in range(900)]
        one = engine.submit(short)
        while engine.status().waiting < 800:
            threading.Event().wait(0.01)
        before = len(gate.rows)
        gate.open()
        one.result(GUARD)
        wide = [rows for rows in gate.rows[before:] if rows.shape[1] > 1]
        steps = [rows for rows in gate.rows[before:] if rows.shape[1] == 1]
        assert len(steps) >= 39
        assert len(wide) < len(steps)
        for future in flood:
            future.cancel()


def test_no_merchant_has_all_threads() -> None:
    workers = Workers("test", each=2, most=4)
    go, running = threading.Event(), threading.Semaphore(0)

    def block() -> None:
        running.release()
        go.wait(GUARD)

    for _ in range(50):
        workers.submit("hot", block)
    assert running.acquire(timeout=GUARD)
    assert running.acquire(timeout=GUARD)
    done = threading.Event()
    workers.submit("small", done.set)
    assert done.wait(GUARD)
    assert workers.waiting("hot") == 48
    go.set()
    workers.close()


def test_a_task_that_fails_ends_no_thread() -> None:
    workers = Workers("test", each=1, most=1)

    def fail() -> None:
        raise SystemExit(1)

    workers.submit("a", fail)
    done = threading.Event()
    workers.submit("a", done.set)
    assert done.wait(GUARD)
    workers.close()


def test_a_flood_of_unknown_references_delays_no_other_merchant(
    base: Base, settings: Settings, quick_bundle: QuickBundle
) -> None:
    looked_up: list[str] = []
    go = threading.Event()

    class Slow(Registry):
        def resolve(self, reference: Any) -> Any:
            if str(reference).startswith("hot/"):
                looked_up.append(str(reference))
                assert go.wait(GUARD)
            return super().resolve(reference)

    with Slow.open(settings) as registry, Engine(base, registry=registry, cache=settings.cache) as engine:
        registry.publish(quick_bundle("small"), promote=True, actor="test")
        engine.prefetch([f"hot/x{number}" for number in range(3000)])
        own = engine.submit(ChooseRequest("hot/x", TEXT))
        assert engine.submit(ChooseRequest("small/r", TEXT)).result(GUARD)
        go.set()
        with pytest.raises(UnknownReference):
            own.result(GUARD)
        assert len(looked_up) <= 256 + 4 + 1  # what may wait, what is being looked up, and the request


def test_an_unknown_reference_is_looked_up_once_a_moment(base: Base, settings: Settings) -> None:
    looked_up: list[str] = []

    class Counted(Registry):
        def resolve(self, reference: Any) -> Any:
            looked_up.append(str(reference))
            return super().resolve(reference)

    with Counted.open(settings) as registry, Engine(base, registry=registry, cache=settings.cache) as engine:
        for _ in range(50):
            with pytest.raises(UnknownReference, match="nobody/r"):
                engine.submit(ChooseRequest("nobody/r", TEXT)).result(GUARD)
    assert len(looked_up) < 25


def test_memory_in_use_by_one_keeps_nobody_waiting() -> None:
    memory = AdapterCache(4 * SIZE)
    held = [memory.put(loaded(f"hot-{number}", merchant="hot")) for number in range(4)]
    memory.put(loaded("small", merchant="small"))  # returns at once
    assert memory.used == 5 * SIZE
    done = threading.Event()
    thread = threading.Thread(target=lambda: (memory.put(loaded("hot-4", merchant="hot")), done.set()))
    thread.start()
    assert not done.is_set()
    for one in held[:2]:
        memory.release(one)
    assert done.wait(GUARD)
    thread.join()
    assert memory.used <= 8 * SIZE


def test_what_one_merchant_loads_does_not_push_out_the_others() -> None:
    memory = AdapterCache(4 * SIZE)
    memory.release(memory.put(loaded("small", merchant="small")))
    for number in range(20):
        memory.release(memory.put(loaded(f"hot-{number}", merchant="hot")))
    assert memory.hold("small") is not None
    assert memory.used == 4 * SIZE


def test_an_adapter_that_no_reference_names_any_more_goes_when_it_is_not_in_use() -> None:
    memory = AdapterCache(4 * SIZE)
    held = memory.put(loaded("a"))
    assert memory.drop("a") is held
    assert memory.adapters == 1
    memory.release(held)
    assert memory.adapters == 0
    assert memory.drop("a") is None
