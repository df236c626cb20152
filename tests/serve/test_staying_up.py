"""Clients that go away or never read, engines that are killed, and the end of a gateway, on real sockets."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from tests.serve.operated import Operated, halted, operating, own_copy

from shopfit.settings import Settings

pytestmark = pytest.mark.proof

LONG = {  # an answer of some four hundred tokens, whatever the model would say
    "type": "object",
    "properties": {"x": {"type": "string", "minLength": 350, "maxLength": 350}},
    "required": ["x"],
    "additionalProperties": False,
}
WORDS = "acme/words"


def long_body(**more: Any) -> dict[str, Any]:
    return {"model": WORDS, "prompt": "see at night", "max_tokens": 450, "json_schema": LONG, **more}


@pytest.fixture(scope="module")
def served(filled: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    with operating(own_copy(filled, tmp_path_factory.mktemp("up") / "home")) as operated:
        yield operated


def decoder_of(operated: Operated) -> psutil.Process:
    """The engine that writes: that of the tiny decoder."""
    while "tiny" not in (engines := operated.engines()):  # the log is written a moment later
        time.sleep(0.02)
    return engines["tiny"]


def raw_request(operated: Operated, path: str, body: Any, *, key: str = "acme") -> socket.socket:
    """A connection that has sent a request and read nothing."""
    host, port = operated.gateway.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {operated.gateway.keys[key]}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    return connection


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that must come; the suite's own timeout ends what never does."""
    while not holds():
        time.sleep(0.05)


def under_way(operated: Operated) -> float:
    return operated.counted("shopfit_engine_requests")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_before_the_first_token_frees_its_row(served: Operated, stream: bool) -> None:
    engine = decoder_of(served)
    written = served.counted("shopfit_tokens_total", kind="written")
    with halted(engine):
        connection = raw_request(served, "/v1/completions", long_body(stream=stream))
        gone = served.counted("shopfit_requests_total", status="499")
        connection.close()
        until(lambda: served.counted("shopfit_requests_total", status="499") > gone)
    until(lambda: under_way(served) == 0)
    assert served.counted("shopfit_tokens_total", kind="written") - written < 350


def test_a_client_that_goes_away_in_a_stream_frees_its_row(served: Operated) -> None:
    written = served.counted("shopfit_tokens_total", kind="written")
    key = served.gateway.keys["acme"]
    with httpx2.stream(
        "POST",
        f"{served.gateway.url}/v1/completions",
        json=long_body(stream=True, n=8),
        headers={"authorization": f"Bearer {key}"},
        timeout=None,
    ) as response:
        next(response.iter_lines())
    until(lambda: under_way(served) == 0)
    assert served.counted("shopfit_tokens_total", kind="written") - written < 8 * 350


def test_an_engine_that_is_killed_is_started_again_and_other_bases_notice_nothing(served: Operated) -> None:
    engine = decoder_of(served)
    answers: list[httpx2.Response] = []
    asking = threading.Thread(target=lambda: answers.append(served.gateway.ask("/v1/completions", long_body())))
    with halted(engine):
        asking.start()
        until(lambda: under_way(served) == 1)
        assert served.classify().status_code == 200
        engine.kill()
        asking.join()
        assert served.classify().status_code == 200
    assert answers[0].status_code == 503
    assert int(answers[0].headers["retry-after"]) >= 1
    assert "ended" in answers[0].json()["error"]["message"]
    until(lambda: served.gateway.ask("/v1/completions", long_body()).status_code == 200)
    assert served.counted("shopfit_engine_starts_total") == 3


def test_a_stream_whose_engine_is_killed_ends_with_an_error_event(served: Operated) -> None:
    engine = decoder_of(served)
    connection = raw_request(served, "/v1/completions", long_body(stream=True, n=8))
    with connection, connection.makefile("rb") as answer:
        assert answer.readline().startswith(b"HTTP/1.1 200")
        while not answer.readline().startswith(b"data:"):
            pass
        engine.kill()
        rest = answer.read1(1 << 20)
        while not rest.endswith(b"0\r\n\r\n"):
            rest += answer.read1(1 << 20)
    events = [line for line in rest.split(b"\n") if line.startswith(b"data:")]
    assert "ended" in json.loads(events[-1].removeprefix(b"data:"))["error"]["message"]
    until(lambda: served.gateway.ask("/v1/completions", long_body()).status_code == 200)


def test_an_engine_that_hangs_is_started_again(filled: Settings, tmp_path: Path) -> None:
    with operating(own_copy(filled, tmp_path / "home"), "--timeout", "10") as operated:
        hung = decoder_of(operated)
        hung.suspend()  # and nobody wakes it
        with ThreadPoolExecutor() as threads:
            asked = threads.submit(operated.gateway.ask, "/v1/completions", {"model": WORDS, "prompt": "see at night"})
            while not asked.done():
                assert under_way(operated) <= 1  # the gateway's own question whether it hangs is no request
        answer = asked.result()
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        until(lambda: operated.gateway.ask("/ready").status_code == 200)
        answer = operated.gateway.ask("/v1/completions", {"model": WORDS, "prompt": "see at night"})
        assert answer.status_code == 200
        assert decoder_of(operated).pid != hung.pid


def test_a_client_that_never_reads_holds_nothing_when_its_time_is_up(filled: Settings, tmp_path: Path) -> None:
    with operating(own_copy(filled, tmp_path / "home"), "--timeout", "3") as served:
        lines = [raw_request(served, "/v1/completions", long_body(stream=True, n=8, logprobs=20)) for _ in range(8)]
        until(lambda: under_way(served) > 0)
        until(lambda: under_way(served) == 0)
        assert served.classify().status_code == 200
        for line in lines:
            line.close()


def test_sigterm_takes_no_new_requests_and_lets_streams_end(filled: Settings, tmp_path: Path) -> None:
    with operating(own_copy(filled, tmp_path / "home"), "--drain", "600") as served:
        helpers = [one.pid for one in psutil.Process(served.gateway.process.pid).children(recursive=True)]
        connection = raw_request(served, "/v1/completions", long_body(stream=True))
        with connection, connection.makefile("rb") as answer:
            assert answer.readline().startswith(b"HTTP/1.1 200")
            served.gateway.process.send_signal(signal.SIGTERM)
            until(lambda: refused(served))
            rest = b""
            while not rest.endswith(b"0\r\n\r\n"):
                part = answer.read1(1 << 20)
                assert part, f"the stream was cut: …{rest[-500:]!r}"
                rest += part
        assert b"data: [DONE]" in rest
        assert served.gateway.process.wait() == 0
        until(lambda: not any(map(psutil.pid_exists, helpers)))  # the last of them says what was left behind
        assert "leaked" not in served.gateway.log.read_text()


def test_a_drain_does_not_wait_for_ever(filled: Settings, tmp_path: Path) -> None:
    with operating(own_copy(filled, tmp_path / "home"), "--drain", "1") as served:
        engine = decoder_of(served)
        with halted(engine):
            connection = raw_request(served, "/v1/completions", long_body())
            until(lambda: under_way(served) == 1)
            served.gateway.process.send_signal(signal.SIGTERM)
            with connection, connection.makefile("rb") as answer:
                told = answer.read()
            assert told.startswith(b"HTTP/1.1 503")
            assert b"the gateway is ending" in told
            assert served.gateway.process.wait() == 0
        until(lambda: not psutil.pid_exists(engine.pid))


def test_a_stream_that_a_drain_cuts_off_ends_with_an_error_event(filled: Settings, tmp_path: Path) -> None:
    with operating(own_copy(filled, tmp_path / "home"), "--drain", "0") as served:
        connection = raw_request(served, "/v1/completions", long_body(stream=True, n=8))
        with connection, connection.makefile("rb") as answer:
            assert answer.readline().startswith(b"HTTP/1.1 200")
            served.gateway.process.send_signal(signal.SIGTERM)
            rest = answer.read()
        events = [line for line in rest.split(b"\n") if line.startswith(b"data:")]
        assert "the gateway is ending" in json.loads(events[-1].removeprefix(b"data:"))["error"]["message"]
        assert served.gateway.process.wait() == 0
        assert "Traceback" not in served.gateway.log.read_text()


def test_engines_end_with_a_gateway_that_is_killed(filled: Settings, tmp_path: Path) -> None:
    with operating(own_copy(filled, tmp_path / "home")) as served:
        engines = [engine.pid for engine in served.engines().values()]
        assert len(engines) == 2
        os.kill(served.gateway.process.pid, signal.SIGKILL)
        served.gateway.process.wait()
        until(lambda: not any(map(psutil.pid_exists, engines)))


def refused(served: Operated) -> bool:
    """Whether the gateway takes no connection any more."""
    try:
        return httpx2.get(f"{served.gateway.url}/ready", timeout=None).status_code == 503
    except httpx2.TransportError:
        return True
