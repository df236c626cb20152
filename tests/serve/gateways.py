"""`shopfit serve` as a process, and what tests need to ask it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from shopfit.settings import Settings

_SERVING = re.compile(r"serving (http://[^\s\"]+)")


@dataclass(frozen=True)
class ServedGateway:
    """A gateway that runs.

    Args:
        url: where it listens.
        settings: of its registry.
        log: what it wrote to standard error.
        process: of the gateway; its engines are its children.
        keys: tokens by name: that of a merchant, "platform", or another that a test made.
    """

    url: str
    settings: Settings
    log: Path
    process: "subprocess.Popen[bytes]"
    keys: Mapping[str, str] = field(repr=False)

    def ask(
        self, path: str, body: Any = None, *, key: str = "acme", method: str = "", content: bytes | None = None
    ) -> httpx2.Response:
        """Send a request, and wait for its answer.

        Args:
            path: such as `/v1/models`.
            body: sent as JSON.
            key: name of the key that is sent.
            method: POST with a body and GET without by default.
            content: sent as it is, in place of a body.
        """
        sent = content if body is None else json.dumps(body).encode()
        return httpx2.request(
            method or ("GET" if sent is None else "POST"),
            f"{self.url}{path}",
            content=sent,
            headers={"authorization": f"Bearer {self.keys[key]}", "content-type": "application/json"},
            timeout=None,
        )


@contextmanager
def serving(
    settings: Settings, log: Path, keys: Mapping[str, str], *options: str, ready: bool = True
) -> Iterator[ServedGateway]:
    """Run `shopfit serve` on a free port until its engines are ready, and end it in the end.

    Args:
        settings: of its registry.
        log: where its standard error goes; it stays.
        keys: of its clients.
        options: further ones of the command.
        ready: whether to wait for its engines.
    """
    places = {
        "SHOPFIT_HOME": str(settings.home),
        "SHOPFIT_REGISTRY": settings.registry,
        "SHOPFIT_BLOBS": settings.blobs,
    }
    command = [sys.executable, "-m", "shopfit", "serve", "--port", "0", "--encoder", "", "--threads", "1", *options]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, env=os.environ | places, stdin=subprocess.DEVNULL, stderr=errors)
    try:
        served = ServedGateway(_address(process, log), settings, log, process, keys)
        while ready and httpx2.get(f"{served.url}/ready", timeout=None).status_code != 200:
            _check(process, log)
            time.sleep(0.05)
        yield served
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    while (found := _SERVING.search(log.read_text())) is None:
        _check(process, log)
        time.sleep(0.05)
    return found[1]


def _check(process: "subprocess.Popen[bytes]", log: Path) -> None:
    assert process.poll() is None, f"the gateway ended with status {process.returncode}:\n{log.read_text()}"
