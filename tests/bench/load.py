"""A load generator for the gateway, in a process of its own: `python -m tests.bench.load` reads its orders as JSON on
standard input, a line each, and answers with a line of JSON.

An order: `url`, `clients` (each waits for its answer before it asks again), `requests` or `seconds`, and `asks`: a list
of [path, key, body] that clients take in turn. Answers: `seconds`, `latencies` in milliseconds, `statuses` (0 where the
connection broke), and `versions`: for each ask its answers as [version, first value] pairs, each once.
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter, defaultdict
from typing import Any

import aiohttp


async def load(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order."""
    asks, most = order["asks"], order.get("requests")
    until = time.perf_counter() + order["seconds"] if "seconds" in order else float("inf")
    numbers = itertools.count() if most is None else iter(range(most))
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    found: dict[int, set[str]] = defaultdict(set)
    errors: Counter[str] = Counter()
    connector = aiohttp.TCPConnector(limit=0)
    bodies = [json.dumps(body).encode() for _, _, body in asks]
    async with aiohttp.ClientSession(order["url"], connector=connector) as session:

        async def client() -> None:
            for number in numbers:
                if time.perf_counter() > until:
                    return
                place = number % len(asks)
                path, key, _ = asks[place]
                headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
                began = time.perf_counter()
                try:
                    async with session.post(path, data=bodies[place], headers=headers) as answer:
                        document = await answer.json(content_type=None)
                        status = answer.status
                        version = answer.headers.get("x-shopfit-version", "")
                except (aiohttp.ClientError, ConnectionError, json.JSONDecodeError) as error:
                    statuses[0] += 1
                    errors[type(error).__name__] += 1
                    await asyncio.sleep(0.05)
                    continue
                latencies.append(1e3 * (time.perf_counter() - began))
                statuses[status] += 1
                if status == 200:
                    found[place].add(json.dumps([version, document["data"][0]["probabilities"]]))
                else:
                    errors[str(document.get("error", {}).get("message", ""))[:80]] += 1
                    await asyncio.sleep(0.05)

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(order["clients"])))
        seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "latencies": latencies,
        "statuses": dict(statuses),
        "errors": dict(errors),
        "versions": {place: [json.loads(one) for one in several] for place, several in found.items()},
    }


def main() -> None:
    """Carry out orders until standard input ends."""
    for line in sys.stdin:
        print(json.dumps(asyncio.run(load(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
