"""A load generator for the gateway, in a process of its own: `python -m tests.bench.load` reads its orders as JSON on
standard input, a line each, and answers with a line of JSON.

An order: `url`, `clients` (each waits for its answer before it asks again), `requests` or `seconds`, and `asks`: a list
of [path, key, body] that clients take in turn. Answers: `seconds`, `latencies` in milliseconds, `statuses` (0 where the
connection broke), and `versions`: for each ask its answers as [version, first value] pairs, each once.

It shares its machine with what it measures, so it does no more than it must: requests are written in advance, and an
HTTP client for every purpose would take as much of the processor as the gateway.
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter, defaultdict
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httptools
import uvloop


class Answer(NamedTuple):
    """An answer of HTTP."""

    status: int
    version: str
    body: bytes


class Connection(asyncio.Protocol):
    """A kept connection, for one request at a time."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._answer: asyncio.Future[Answer] | None = None
        self._parser: Any = None
        self._version = ""
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, _: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-shopfit-version":
            self._version = value.decode()

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_message_complete(self) -> None:
        assert self._answer is not None
        self._answer.set_result(Answer(self._parser.get_status_code(), self._version, b"".join(self._body)))
        if not self._parser.should_keep_alive():
            self._transport.close()

    @property
    def usable(self) -> bool:
        return not self._transport.is_closing()

    async def ask(self, request: bytes) -> Answer:
        self._version, self._body = "", []
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer


async def load(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order."""
    asks, most = order["asks"], order.get("requests")
    until = time.perf_counter() + order["seconds"] if "seconds" in order else float("inf")
    numbers = itertools.count() if most is None else iter(range(most))
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    found: dict[int, set[str]] = defaultdict(set)
    errors: Counter[str] = Counter()
    place = urlsplit(order["url"])
    requests = [_request(place.netloc, *ask) for ask in asks]

    async def client() -> None:
        connection: Connection | None = None
        for number in numbers:
            if time.perf_counter() > until:
                break
            ask = number % len(asks)
            began = time.perf_counter()
            try:
                if connection is None or not connection.usable:
                    loop, make = asyncio.get_running_loop(), Connection
                    _, connection = await loop.create_connection(make, place.hostname, place.port)
                answer = await connection.ask(requests[ask])
            except OSError as error:
                statuses[0] += 1
                errors[type(error).__name__] += 1
                connection = None
                await asyncio.sleep(0.05)
                continue
            latencies.append(1e3 * (time.perf_counter() - began))
            statuses[answer.status] += 1
            document = json.loads(answer.body)
            if answer.status == 200:
                found[ask].add(json.dumps([answer.version, document["data"][0]["probabilities"]]))
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


def _request(host: str, path: str, key: str, body: Any) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def main() -> None:
    """Carry out orders until standard input ends."""
    for line in sys.stdin:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(load(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
