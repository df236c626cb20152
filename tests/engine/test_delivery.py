"""What callers want to be told is told elsewhere: nothing of theirs runs on the serving thread, or ends it."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.engine.gate import GUARD, gated

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.engine import ChooseRequest, Engine, GenerateRequest
from shopfit.errors import EngineEnded, RequestError

QuickBundle = Callable[..., Bundle]
BAD = [ValueError("no"), asyncio.CancelledError(), SystemExit(1), KeyboardInterrupt(), GeneratorExit()]


@pytest.fixture
def engine(base: Base) -> Iterator[Engine]:
    with Engine(base, slots=4) as engine:
        yield engine


def night(bundle: Bundle, tokens: int = 20) -> GenerateRequest:
    return GenerateRequest(bundle, {"input": "night"}, max_new_tokens=tokens)


@pytest.mark.parametrize("error", BAD, ids=lambda error: type(error).__name__)
def test_a_listener_that_raises_ends_its_own_answer_and_no_more(
    engine: Engine, quick_bundle: QuickBundle, error: BaseException
) -> None:
    bundle = quick_bundle("acme", task="generate")

    def show(_: str) -> None:
        raise error

    other = engine.submit(night(bundle, 40))
    with pytest.raises(ValueError if isinstance(error, ValueError) else RequestError):
        engine.submit(night(bundle), show=show).result(GUARD)
    assert other.result(GUARD)
    assert engine.submit(night(bundle)).result(GUARD)
    assert engine.status().ended == ""


@pytest.mark.parametrize("error", BAD, ids=lambda error: type(error).__name__)
def test_a_callback_that_raises_ends_nothing(engine: Engine, quick_bundle: QuickBundle, error: BaseException) -> None:
    bundle = quick_bundle("acme", task="generate")

    def called(_: Any) -> None:
        raise error

    future = engine.submit(night(bundle))
    future.add_done_callback(called)
    second = threading.Event()
    future.add_done_callback(lambda _: second.set())
    assert future.result(GUARD)
    assert second.wait(GUARD)
    assert engine.submit(night(bundle)).result(GUARD)


def test_a_listener_may_ask_the_engine(engine: Engine, quick_bundle: QuickBundle) -> None:
    writer, chooser = quick_bundle("acme", task="generate"), quick_bundle("acme", seed=1, recipe="c")
    labels: list[str] = []

    def show(_: str) -> None:
        labels.append(engine.choose([ChooseRequest(chooser, {"text": "x"})])[0].label)

    assert engine.submit(night(writer), show=show).result(GUARD)
    assert labels


def test_a_listener_may_close_the_engine(base: Base, quick_bundle: QuickBundle) -> None:
    engine = Engine(base)
    with pytest.raises(EngineEnded, match="closed"):
        engine.submit(night(quick_bundle("acme", task="generate"), 400), show=lambda _: engine.close()).result(GUARD)


def test_a_listener_that_sleeps_keeps_nobody_waiting(engine: Engine, quick_bundle: QuickBundle) -> None:
    """It sleeps until the others have their answers: were it on a thread of theirs, that would be for ever."""
    writer = quick_bundle("acme", task="generate")
    mine, other = quick_bundle("acme", seed=1, recipe="c"), quick_bundle("beta", seed=2)
    answered = threading.Event()
    slow = engine.submit(night(writer), show=lambda _: None if answered.wait(GUARD) else pytest.fail("never woken"))
    answers = [engine.submit(ChooseRequest(bundle, {"text": "x"})) for bundle in (mine, other)]
    told = threading.Event()
    answers[1].add_done_callback(lambda _: told.set())
    assert all(answer.result(GUARD) for answer in answers)
    assert told.wait(GUARD)
    answered.set()
    assert slow.result(GUARD)


def test_the_text_comes_before_its_end_and_in_order(engine: Engine, quick_bundle: QuickBundle) -> None:
    bundle = quick_bundle("acme", task="generate")
    for _ in range(20):
        parts: list[str] = []
        future = engine.submit(night(bundle, 30), show=parts.append)
        assert future.result(GUARD).text == "".join(parts)


def test_a_serving_thread_that_ends_is_noticed(base: Base, quick_bundle: QuickBundle) -> None:
    bundle = quick_bundle("acme", task="generate")
    with gated(base) as gate, Engine(base) as engine:
        engine.generate([night(bundle)])
        gate.close()
        futures = [engine.submit(night(bundle, 400)) for _ in range(3)]
        gate.wait_until_held()
        gate.fail(lambda _: True, SystemExit)
        gate.open()
        for future in futures:
            with pytest.raises(EngineEnded, match="serving thread of this engine has ended: SystemExit"):
                future.result(GUARD)
        with pytest.raises(EngineEnded, match="has ended"):
            engine.submit(night(bundle)).result(GUARD)
        with pytest.raises(EngineEnded, match="has ended"):
            engine.generate([night(bundle)])
        assert "SystemExit" in engine.status().ended


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_is_told_that_the_engine_is_not_its_own(base: Base, quick_bundle: QuickBundle) -> None:
    bundle = quick_bundle("acme")
    with Engine(base) as engine:
        engine.choose([ChooseRequest(bundle, {"text": "x"})])
        reads, writes = os.pipe()
        child = os.fork()
        if not child:
            try:
                said = []
                for ask in (
                    lambda: engine.submit(ChooseRequest(bundle, {"text": "x"})).result(GUARD),
                    lambda: engine.choose([ChooseRequest(bundle, {"text": "x"})]),
                    engine.status,
                ):
                    try:
                        ask()
                    except RequestError as error:
                        said.append(error.message)
                os.write(writes, str([len(said), *said]).encode())
            finally:
                os._exit(0)
        os.close(writes)
        os.waitpid(child, 0)
        heard = os.read(reads, 10_000).decode()
        os.close(reads)
        assert heard.startswith("[3, 'this engine was made by process")
        assert engine.choose([ChooseRequest(bundle, {"text": "x"})])


def test_abandoned_streams_leave_nothing_behind(engine: Engine, quick_bundle: QuickBundle) -> None:
    bundle = quick_bundle("acme", task="generate")

    async def peek(parts: int) -> None:
        async for _ in engine.stream(night(bundle, 200)):
            parts -= 1
            if parts <= 0:
                break

    async def all_of_them() -> None:
        await asyncio.gather(*(peek(1 + number % 4) for number in range(40)))
        tasks = [asyncio.create_task(peek(10**9)) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(all_of_them())
    while (status := engine.status()).writing or status.waiting:
        threading.Event().wait(0.01)
    assert len(engine.generate([night(bundle)] * 3)) == 3
