"""How long pages of the console take with 10,000 merchants, in the gateway itself: `python -m tests.bench.console`.

Every merchant has a version in production and was asked; no engine runs. SHOPFIT_BENCH_MERCHANTS is another number.
"""

import asyncio
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

import httpx2

from shopfit.registry import Registry
from shopfit.serve.app import make_app
from shopfit.serve.gateway import Gateway
from shopfit.serve.options import ServeOptions
from shopfit.serve.request_record import RequestRecord
from shopfit.settings import Settings, sqlite_url
from tests.bench.results import Row, publish
from tests.serve.console.many import add_merchants

MERCHANTS = int(os.environ.get("SHOPFIT_BENCH_MERCHANTS", "10000"))
REQUESTS, WARM = 200, 5
PAGES = (
    "/console",
    "/console?q=shop-05",
    "/console/registry",
    "/console/registry?q=shop-05&order=disk",
    "/console/serving",
    "/console/serving/quotas",
)
REACH = 200.0  # ms
RIVAL = {"name": "logreg", "kind": "baseline", "value": 0.8, "low": 0.7, "high": 0.9}
SUMMARY = {"metric": "macro_f1", "k": 10, "higher": True, "value": 0.9, "low": 0.85, "high": 0.95, "rival": RIVAL}
SUMMARY |= {"lead": 0.1, "promoted": True, "candidate": False, "reason": "it is better", "n_train": 64, "n_test": 200}
ROW = {
    "merchant": "",
    "recipe": "review-sentiment",
    "number": 1,
    "digest": "0" * 64,
    "status": "ready",
    "reason": "",
    "created": datetime(2026, 1, 1, tzinfo=UTC),
    "base_name": "minilm-l6",
    "base_fingerprint": "f",
    "method": "lora",
    "rank": 8,
    "size": 2_000_000,
    "metrics": {"macro_f1": 0.9, "accuracy": 0.9},
    "summary": SUMMARY,
}


async def measure(settings: Settings) -> list[Row]:
    """The rows of this benchmark."""
    with Registry.open(settings) as registry:
        token = registry.create_key(None, ["admin"], actor="bench").token
        gateway = Gateway(registry, settings, ServeOptions(encoder=""))
        await gateway.start()
        for number in range(MERCHANTS):
            name = f"shop-{number:05}/{ROW['recipe']}"
            gateway.traffic.answered(RequestRecord(adapter=name, version=f"{name}@1", read=20), 200, 0.01)
        transport = httpx2.ASGITransport(make_app(gateway))
        cookies = {"shopfit_console": token}
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", cookies=cookies) as client:
            rows = [row for page in PAGES for row in await _page(client, page)]
        await gateway.close()
    return rows


async def _page(client: httpx2.AsyncClient, page: str) -> list[Row]:
    times = []
    for _ in range(WARM + REQUESTS):
        began = time.perf_counter()
        answer = await client.get(page)
        times.append(1000 * (time.perf_counter() - began))
        answer.raise_for_status()
    cuts = quantiles(times[WARM:], n=20)
    half, most = cuts[9], cuts[18]
    reach = f"under {REACH:.0f} ms"
    return [
        Row(f"{page}, the first time", times[0], None, "ms", "", None),
        Row(f"{page}, p50", half, None, "ms", "", None),
        Row(f"{page}, p95", most, None, "ms", reach, most < REACH),
    ]


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        place = Settings(Path(folder), sqlite_url(Path(folder) / "registry.db"), str(Path(folder) / "blobs"))
        Registry.open(place).close()
        add_merchants(place, MERCHANTS, ROW)
        publish("bench-console", asyncio.run(measure(place)))
