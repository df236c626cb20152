"""Names of adapters that nobody has, sent without end: they are refused, and nothing of them stays.

`make soak` sends 100,000 of them; the test suite fewer.
"""

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psutil
import pytest
from tests.serve.gateways import ServedGateway

pytestmark = pytest.mark.proof

BATCH = 500  # requests that are sent before their answers are read
WARM, MANY = 6_000, int(os.environ.get("SHOPFIT_FLOOD_NAMES", "20000"))
MOST = 5 * 1024 * 1024  # bytes: a name that stays takes more than 260


class Pipeline:
    """One connection, on which requests follow each other without waiting for answers (RFC 9112, 9.3.2)."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._answers = connection.makefile("rb")

    def send(self, requests: list[bytes]) -> list[int]:
        """The status of each answer."""
        self._connection.sendall(b"".join(requests))
        return [self._status() for _ in requests]

    def _status(self) -> int:
        status, length = int(self._answers.readline().split()[1]), 0
        while (line := self._answers.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        self._answers.read(length)
        return status


@contextmanager
def pipeline(gateway: ServedGateway) -> Iterator[Pipeline]:
    place = urlsplit(gateway.url)
    with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
        yield Pipeline(connection)


def request(token: str, model: str) -> bytes:
    body = json.dumps({"model": model, "input": "a"}).encode()
    head = f"POST /v1/classify HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\ncontent-type: application/json\r\n\r\n" + body


def memory(gateway: ServedGateway) -> int:
    """Bytes that the gateway and its engines hold."""
    process = psutil.Process(gateway.process.pid)
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))


def labels(gateway: ServedGateway) -> list[str]:
    """The time series that there are."""
    text = gateway.ask("/metrics", key="platform").text
    return sorted(line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#"))


def flood(gateway: ServedGateway, merchant: str, count: int) -> None:
    """Ask for adapters that no merchant has, each once."""
    with pipeline(gateway) as connection:
        for _ in range(count // BATCH):
            names = [f"{merchant}/{secrets.token_hex(30)}" for _ in range(BATCH)]
            assert set(connection.send([request(gateway.keys["acme"], name) for name in names])) == {404}


def test_nothing_stays_of_what_nobody_has(gateway: ServedGateway) -> None:
    labels(gateway)  # being asked for them is counted, too
    flood(gateway, "acme", WARM)  # these are looked up, each on one of a few threads
    before, known = memory(gateway), labels(gateway)
    flood(gateway, "acme", MANY)
    flood(gateway, "rival", WARM)  # and these are not, as the key is not theirs
    assert memory(gateway) - before < MOST
    assert labels(gateway) == known
    assert gateway.ask("/v1/classify", {"model": "acme/sentiment", "input": "lovely crema"}).status_code == 200
