"""Spans, as a collector gets them: below the client's own, with names and numbers, and without texts."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from tests.serve.operated import SENTIMENT, operating, own_copy

from shopfit.settings import Settings, traces_exporter

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "nobody else may read this"


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """A server that keeps what is exported to it: its URL, and the bodies."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", bodies
        server.shutdown()


def spans(bodies: list[bytes]) -> list[Span]:
    return [
        span
        for body in bodies
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def test_a_request_is_a_span_below_the_clients(
    filled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as (url, bodies):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        with operating(own_copy(filled, tmp_path / "home")) as operated:
            answer = httpx2.post(
                f"{operated.gateway.url}/v1/classify",
                json={"model": SENTIMENT, "input": SECRET},
                headers={
                    "authorization": f"Bearer {operated.gateway.keys['acme']}",
                    "traceparent": f"00-{TRACE}-{PARENT}-01",
                },
                timeout=None,
            )
            assert answer.status_code == 200
        found = {span.name: span for span in spans(bodies) if span.trace_id.hex() == TRACE}  # sent when it ended
    request, engine = found["POST /v1/classify"], found["engine choose"]
    assert request.parent_span_id.hex() == PARENT
    assert engine.parent_span_id == request.span_id
    told = {one.key: one.value for one in request.attributes}
    assert told["http.response.status_code"].int_value == 200
    assert told["shopfit.version"].string_value == f"{SENTIMENT}@1"
    assert told["shopfit.answer"].string_value == answer.json()["id"]
    assert told["gen_ai.usage.input_tokens"].int_value > 0
    assert b"shopfit" in b"".join(bodies)
    assert SECRET.encode() not in b"".join(bodies)


@pytest.mark.parametrize(
    ("variables", "exporter"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h:4318/v1/traces"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318"}, ""),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, ""),
    ],
)
def test_its_own_variables_say_where_spans_go(
    variables: dict[str, str], exporter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert traces_exporter() == exporter
