"""OpenTelemetry spans: one a request, one a question to an engine. Without its variables or its packages, nothing."""

import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from shopfit.serve.middleware import Scope
from shopfit.serve.request_record import RequestRecord

logger = logging.getLogger(__name__)

_PARENT = (b"traceparent", b"tracestate")


class RequestSpan:
    """The span of one request.

    Args:
        span: OpenTelemetry's; None without.
    """

    def __init__(self, span: Any) -> None:
        self._span = span

    def end(self, record: RequestRecord, endpoint: str, status: int) -> None:
        """Say what became of the request; names as in OpenTelemetry's semantic conventions where they have one."""
        if self._span is None:
            return
        from opentelemetry.trace import StatusCode

        method, _, pattern = endpoint.partition(" ")
        told = {
            "http.request.method": method,
            "http.route": pattern,
            "http.response.status_code": status,
            "shopfit.answer": record.answer,
            "shopfit.version": record.version,
            "shopfit.release": record.release,
            "gen_ai.usage.input_tokens": record.read,
            "gen_ai.usage.output_tokens": record.written,
        }
        self._span.update_name(endpoint)
        self._span.set_attributes({name: value for name, value in told.items() if value != ""})
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)


_NO_REQUEST, _NO_ASK = nullcontext(RequestSpan(None)), nullcontext()


class Tracing:
    """Makes spans.

    Args:
        exporter: "otlp" or "console"; empty for no spans. `settings.traces_exporter` reads it.
    """

    def __init__(self, exporter: str) -> None:
        self._provider = _provider(exporter) if exporter else None
        self._tracer = None if self._provider is None else self._provider.get_tracer("shopfit")

    def request(self, scope: Scope) -> AbstractContextManager[RequestSpan]:
        """A request's span, below the one that the client names in `traceparent`."""
        return _NO_REQUEST if self._tracer is None else self._request(scope)

    def ask(self, kind: str, version: str) -> AbstractContextManager[Any]:
        """The span of one question to an engine."""
        if self._tracer is None:
            return _NO_ASK
        span: AbstractContextManager[Any] = self._tracer.start_as_current_span(
            f"engine {kind}", attributes={"shopfit.version": version}
        )
        return span

    @contextmanager
    def _request(self, scope: Scope) -> Iterator[RequestSpan]:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        assert self._tracer is not None
        carrier = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _PARENT}
        parent = TraceContextTextMapPropagator().extract(carrier)
        with self._tracer.start_as_current_span("request", parent, SpanKind.SERVER) as span:
            yield RequestSpan(span)

    def close(self) -> None:
        """Send what was not sent yet. It blocks."""
        if self._provider is not None:
            self._provider.shutdown()


def _provider(exporter: str) -> Any:
    try:
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

        if exporter == "console":
            sends: Any = ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: span.to_json(indent=None) + "\n")
        else:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            sends = OTLPSpanExporter()
    except ImportError as error:
        logger.warning("no spans: %s is not installed; pip install 'shopfit[otel]'", error.name)
        return None
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "shopfit"}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(sends))
    return provider
