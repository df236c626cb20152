"""Envoy as the Kubernetes manifests have it, with a picker of ours in llm-d's place: it decides, and nobody else.

The picker speaks `envoy.service.ext_proc.v3` as llm-d's does: it reads the whole body, then names an address in
`x-gateway-destination-endpoint` and passes the body on. Its few messages are written by hand, field by field.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from tests.deploy.envoy_process import ask, envoy, free_port, start_server, stop_server

PATH = "/v1/completions"
DESTINATION = "x-gateway-destination-endpoint"
METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
# fields of ProcessingRequest, and of ProcessingResponse in answer to them
HEADERS, ANSWER_HEADERS, BODY, ANSWER_BODY = 2, 3, 4, 5
ANSWERS = {HEADERS: 1, ANSWER_HEADERS: 2, BODY: 3, ANSWER_BODY: 4}
_BYTES, _NUMBER = 2, 0  # wire types


def _varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | _NUMBER) + _varint(value)
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            part = message[at]
            at += 1
            number |= (part & 0x7F) << shift
            shift += 7
            if not part & 0x80:
                return number

    while at < len(message):
        key = varint()
        if key & 7 == _NUMBER:
            yield key >> 3, varint()
        else:
            size = varint()
            yield key >> 3, message[at : at + size]
            at += size


class Picker(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Sends a request to the server that its body names."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Of one method."""
        return grpc.stream_stream_rpc_method_handler(self._process) if details.method == METHOD else None

    def _process(self, requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        whole = b""
        for request in requests:
            kind, value = next((kind, value) for kind, value in _fields(request) if kind in ANSWERS)
            assert isinstance(value, bytes)
            if kind == ANSWER_HEADERS:
                yield _field(ANSWERS[kind], b"")
            elif kind in {BODY, ANSWER_BODY}:
                parts = dict(_fields(value))
                part, last = parts.get(1, b""), parts.get(2, 0)
                assert isinstance(part, bytes)
                if kind == ANSWER_BODY:
                    yield self._pass_on(kind, part, last)
                    continue
                whole += part
                if last:
                    port = json.loads(whole)["port"]
                    header = _field(1, DESTINATION.encode()) + _field(3, f"127.0.0.1:{port}".encode())
                    option = _field(1, header) + _field(3, 2)  # 2: in the place of what is there
                    yield _field(ANSWERS[HEADERS], _field(1, _field(2, _field(1, option))))
                    yield self._pass_on(kind, whole, 1)

    @staticmethod
    def _pass_on(kind: int, part: bytes, last: bytes | int) -> bytes:
        assert isinstance(last, int)
        streamed = _field(1, part) + _field(2, last)
        return _field(ANSWERS[kind], _field(1, _field(3, _field(3, streamed))))


def check_picking(program: Path, file: Path) -> str:
    """Check that requests go where the picker says, nowhere without it, and that no other route is open.

    Args:
        program: Envoy's.
        file: its configuration.

    Returns:
        what was seen, in a few words.
    """
    servers = [start_server() for _ in range(2)]
    ports = {9901: free_port(), 8081: free_port(), 9902: free_port(), 9002: free_port()}
    picker = grpc.server(ThreadPoolExecutor(8))
    picker.add_generic_rpc_handlers((Picker(),))
    picker.add_insecure_port(f"127.0.0.1:{ports[9002]}")
    picker.start()
    wrong = {DESTINATION.replace("-", "_"): f"127.0.0.1:{servers[0].server_address[1]}"}
    with envoy(program, file, ports):
        for server in servers:
            there = server.server_address[1]
            for size in (10, 500_000):
                body = json.dumps({"port": there, "prompt": "a" * size}).encode()
                assert ask(ports[8081], PATH, body) == (200, there)
                assert ask(ports[8081], PATH, body, **wrong) == (200, there)  # whatever a client says
            for path in ("/v1/chat/completions", "/v1/load_lora_adapter", "/health", "//v1/load_lora_adapter"):
                assert ask(ports[8081], path, body) == (404, 0)
        picker.stop(None).wait()
        status, answered = ask(ports[8081], PATH, body, **wrong)
        assert (status >= 500, answered) == (True, 0), status
    for server in servers:
        stop_server(server)
    return "requests go where the picker says, and nowhere without it"
