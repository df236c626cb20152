"""What is counted for people: by adapter, and what failed."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from shopfit.serve.console.asking import is_cold
from shopfit.serve.request_record import RequestRecord
from shopfit.serve.traffic import Traffic


def answer(traffic: Traffic, merchant: str, status: int = 200, *, adapter: str = "sentiment") -> None:
    name = f"{merchant}/{adapter}" if adapter else ""
    record = RequestRecord(key="k", merchant=merchant, adapter=name, version=f"{name}@1", kind="EngineEnded")
    traffic.answered(record, status, 0.1)


def test_failures_are_kept_by_merchant_and_a_flood_of_one_takes_no_others_away() -> None:
    traffic = Traffic()
    answer(traffic, "acme", 503)
    for _ in range(1000):
        answer(traffic, "rival", 429, adapter="")
    answer(traffic, "rival", 404)
    traffic.answered(RequestRecord(), 503, 0.1)  # of nobody, as a look whether it is ready
    assert [(one.adapter, one.status, one.kind) for one in traffic.failures("acme")] == [
        ("acme/sentiment", 503, "EngineEnded")
    ]
    assert len(traffic.failures("rival")) == 20
    assert len(traffic.failures(None)) == 21
    assert [one.at for one in traffic.failures(None)] == sorted(
        (one.at for one in traffic.failures(None)), reverse=True
    )


def test_a_wait_for_an_engines_start_is_no_time_of_an_answer() -> None:
    traffic = Traffic()
    for cold, seconds in ((True, 36.0), (False, 0.2)):
        traffic.answered(
            RequestRecord(key="k", adapter="acme/sentiment", version="acme/sentiment@1", cold=cold), 200, seconds
        )
    assert (traffic.of("acme/sentiment").requests, traffic.of("acme/sentiment").p95) == (2, 0.2)


@pytest.mark.parametrize(
    ("engines", "cold"), [([], True), ([("a", None)], True), ([("a", 1)], False), ([("b", 1)], True)]
)
def test_an_engine_that_has_yet_to_start_is_known(engines: list[tuple[str, Any]], cold: bool) -> None:
    async def facts(version: object) -> SimpleNamespace:
        return SimpleNamespace(base="a")

    known = [SimpleNamespace(base=base, running=running) for base, running in engines]
    gateway = SimpleNamespace(adapters=SimpleNamespace(facts=facts), engines=SimpleNamespace(engines=known))
    visit: Any = SimpleNamespace(gateway=gateway)
    asked: Any = None
    assert asyncio.run(is_cold(visit, asked)) is cold


def test_shadows_are_counted_by_version_and_an_erased_merchant_is_forgotten() -> None:
    traffic = Traffic()
    answer(traffic, "acme", 500)
    answer(traffic, "acme-not")
    for outcome in ("same", "different", "same"):
        traffic.shadowed("acme/sentiment", "acme/sentiment@2", outcome)
    assert traffic.of("acme/sentiment").shadows == {"acme/sentiment@2": {"same": 2, "different": 1}}
    traffic.forget("acme")
    assert list(traffic.all()) == ["acme-not/sentiment"]
    assert traffic.failures(None) == []
    assert traffic.of("acme/sentiment").requests == 0
