"""Clients that end what they send and still read, on real sockets: they get their answer, and who is gone holds no row.

To the server both look the same until it sends something: see `shopfit.serve.connections`.
"""

import socket
from collections.abc import Iterator

import pytest
from tests.serve.operated import Operated, halted, operating, own_copy
from tests.serve.test_staying_up import decoder_of, long_body, raw_request, under_way, until

from shopfit.settings import Settings

SHORT = {"model": "acme/sentiment", "input": "lovely crema"}


@pytest.fixture(scope="module")
def served(filled: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    with operating(own_copy(filled, tmp_path_factory.mktemp("half") / "home")) as operated:
        yield operated


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    with connection, connection.makefile("rb") as answer:
        return answer.read()


def final(answer: bytes) -> bytes:
    """An answer without the interim responses before it."""
    while answer.startswith(b"HTTP/1.1 100 "):
        answer = answer.partition(b"\r\n\r\n")[2]
    return answer


def test_who_sends_no_more_gets_an_answer(served: Operated) -> None:
    for _ in range(5):
        connection = raw_request(served, "/v1/classify", SHORT)
        connection.shutdown(socket.SHUT_WR)
        answer = final(rest_of(connection))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"label":"positive"' in answer


def test_who_sends_no_more_gets_an_answer_that_takes_long(served: Operated) -> None:
    with halted(decoder_of(served)):
        connection = raw_request(served, "/v1/completions", long_body())
        until(lambda: under_way(served) == 1)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    answer = final(rest_of(connection))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer
    assert b'"finish_reason"' in answer


@pytest.mark.parametrize("when", ["before", "within"])
def test_who_sends_no_more_gets_a_whole_stream(served: Operated, when: str) -> None:
    connection = raw_request(served, "/v1/completions", long_body(stream=True))
    begun = connection.recv(1) if when == "within" else b""
    connection.shutdown(socket.SHUT_WR)
    answer = final(begun + rest_of(connection))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("stream", [False, True])
def test_who_goes_away_after_that_frees_its_row(served: Operated, stream: bool) -> None:
    with halted(decoder_of(served)):
        gone = served.counted("shopfit_requests_total", status="499")
        connection = raw_request(served, "/v1/completions", long_body(stream=stream))
        until(lambda: under_way(served) == 1)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65536)  # it is still served
        connection.close()
        until(lambda: served.counted("shopfit_requests_total", status="499") > gone)
    until(lambda: under_way(served) == 0)


@pytest.mark.parametrize("cut", [10, -10])
def test_who_sends_no_more_in_the_middle_of_a_request_is_gone(served: Operated, cut: int) -> None:
    host, port = served.gateway.url.removeprefix("http://").split(":")
    body = b'{"model": "acme/sentiment", "input": "lovely crema"}'
    head = f"POST /v1/classify HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {served.gateway.keys['acme']}\r\n"
    request = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    connection = socket.create_connection((host, int(port)))
    connection.sendall(request[:cut])
    connection.shutdown(socket.SHUT_WR)
    assert rest_of(connection) == b""


def test_http_1_0_has_no_interim_responses_and_its_clients_must_not_end_what_they_send(served: Operated) -> None:
    host, port = served.gateway.url.removeprefix("http://").split(":")
    body = b'{"model": "acme/words", "prompt": "see at night"}'
    head = f"POST /v1/completions HTTP/1.0\r\nauthorization: Bearer {served.gateway.keys['acme']}\r\n"
    request = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    with halted(decoder_of(served)):
        connection = socket.create_connection((host, int(port)))
        connection.sendall(request)
        until(lambda: under_way(served) == 1)
        connection.shutdown(socket.SHUT_WR)
        assert rest_of(connection) == b""
    until(lambda: under_way(served) == 0)
