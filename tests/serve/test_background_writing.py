"""What gateways write in the background: nothing is counted twice or lost unsaid, and nobody waits for it."""

import asyncio
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.dataset
from prometheus_client.parser import text_string_to_metric_families

from shopfit.registry import Registry
from shopfit.serve.budgets import TokenBudgets
from shopfit.serve.metrics import Metrics
from shopfit.serve.registry_threads import RegistryThreads
from shopfit.serve.shown_answer import MOST_PLACES, ShownAnswer
from shopfit.serve.shown_log import ShownLog
from shopfit.serve.shown_store import ShownStore
from shopfit.settings import Settings


def answered(merchant: str = "acme", items: int = 3, **more: Any) -> ShownAnswer:
    ranked = {"items": [{"id": str(place), "score": -place, "share": 0.1} for place in range(items)]}
    answers = [("rank", {"query": "secret"}, ranked)]
    return ShownAnswer(merchant, "r", f"{merchant}/r@1", "d", "production", 1.0, "ans_1", None, answers, **more)


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pyarrow.dataset.dataset(folder, partitioning="hive").to_table().to_pylist()
    return found


def counted(metrics: Metrics) -> dict[str, float]:
    families = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}
    return {sample.labels["outcome"]: sample.value for sample in families["shopfit_shown_rows"].samples}


def test_rows_wait_for_a_place_that_comes_back(tmp_path: Path) -> None:
    place, metrics = tmp_path / "shown", Metrics(most=1)

    async def log() -> None:
        shown = ShownLog(ShownStore(str(place)), metrics, texts=False)
        place.touch()  # a file, in which no folder can be made
        for _ in range(2000):
            shown.add(answered())
        while metrics.text().count(b"shopfit_shown_rows_total{") == 0:  # it was tried
            await asyncio.sleep(0.01)
        assert counted(metrics) == {"written": 0}
        place.unlink()
        await shown.close()

    asyncio.run(log())
    assert len(rows(place)) == 6000
    assert counted(metrics) == {"written": 6000}
    assert not list(place.rglob(".*"))


def test_what_cannot_be_written_in_the_end_is_counted(tmp_path: Path) -> None:
    place, metrics = tmp_path / "shown", Metrics(most=1)

    async def log() -> None:
        shown = ShownLog(ShownStore(str(place)), metrics, texts=False)
        place.touch()
        shown.add(answered())
        await shown.close()

    asyncio.run(log())
    assert counted(metrics) == {"written": 0, "dropped": 3}


def test_the_memory_for_rows_is_bounded(tmp_path: Path) -> None:
    metrics = Metrics(most=1)

    async def log() -> None:
        shown = ShownLog(ShownStore(str(tmp_path / "shown")), metrics, texts=False)
        for _ in range(600):  # nothing is written between them, as nothing is waited for
            shown.add(answered(items=1000))
        await shown.close()

    asyncio.run(log())
    outcomes = counted(metrics)
    assert outcomes["written"] == 50_000
    assert outcomes["dropped"] == 600 * MOST_PLACES - 50_000
    assert len(rows(tmp_path / "shown")) == 50_000


def test_a_file_a_merchant_and_day_and_one_merchant_is_erased(tmp_path: Path) -> None:
    store = ShownStore(f"file://{tmp_path}/shown")
    days = [datetime(2026, 1, day, 23, 59, tzinfo=UTC) for day in (30, 31)]
    shown = [answered(merchant, at=day) for day in days for merchant in ("acme", "rival") for _ in range(2)]
    assert store.write(shown, texts=False) == []
    files = sorted(str(file.parent.relative_to(tmp_path)) for file in tmp_path.rglob("*.parquet"))
    assert files == [
        f"shown/merchant={merchant}/day=2026-01-{day}" for merchant in ("acme", "rival") for day in (30, 31)
    ]
    assert {row["place"] for row in rows(tmp_path / "shown")} == {0, 1, 2}
    assert store.erase("acme") == 2
    assert {row["merchant"] for row in rows(tmp_path / "shown")} == {"rival"}


def test_tokens_are_counted_once(settings: Settings) -> None:
    with Registry.open(settings) as registry:
        registry.create_key("acme", ["infer"], new=True, actor="tests")
        total = asyncio.run(spend(registry))
        assert registry.usage(datetime.now(UTC).date()) == {"acme": total}


async def spend(registry: Registry) -> int:
    """Spend tokens at two gateways, whose requests are sometimes cancelled while they ask what was used."""
    threads, total = RegistryThreads(), 0
    gateways = [TokenBudgets(registry, threads), TokenBudgets(registry, threads)]
    for _ in range(300):
        gateway, tokens = random.choice(gateways), random.randrange(100)
        gateway.add("acme", tokens)
        total += tokens
        asking = asyncio.create_task(gateway.used("acme"))
        await asyncio.sleep(random.choice([0, 0, 0.02]))
        asking.cancel()
    assert await gateways[0].used("acme") <= total
    for gateway in gateways:
        await gateway.close()
    late = TokenBudgets(registry, threads)
    assert await late.used("acme") == total
    threads.close()
    return total
