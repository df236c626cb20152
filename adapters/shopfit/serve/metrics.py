"""What is counted of a gateway, for Prometheus. No label is a text that a client sent, and adapters are bounded."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shopfit.serve.request_record import RequestRecord

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
OTHER, NONE = "other", "none"

ShadowOutcome = Literal["same", "different", "failed", "dropped"]

LABELS: Mapping[str, str] = {
    "adapter": f'`merchant/recipe` that was found; "{NONE}" if none was; "{OTHER}" beyond `--adapters-in-metrics`',
    "release": f'why that version answered: "production", "canary" or "named"; "{NONE}" if none did',
    "endpoint": "method and pattern of the path",
    "status": "of HTTP; 499 if the client went away before its answer began",
    "kind": '"read" or "written"',
    "limit": '"requests", "concurrent" or "tokens"',
    "outcome": 'of a shadow: "same", "different", "failed" or "dropped"; of a row of the log: "written" or "dropped"',
    "base": "of the engine: its name, and its numeric form if it is quantized",
}
"""What each label says."""

_ENGINE_GAUGES = {
    "waiting": "Rows that wait for a forward.",
    "writing": "Answers being decoded.",
    "paused": "Answers that wait so that other merchants have their share of the rows.",
    "resident": "Adapters in slots.",
    "loaded": "Adapters in host memory.",
    "memory": "Bytes of adapters in host memory.",
}
_GAUGE_NAMES = {"resident": "slots_used", "loaded": "host_adapters", "memory": "host_bytes"}


class Metrics:
    """Counters of one gateway. Any thread may count.

    Args:
        most: adapters that are named; those that come later count as "other".
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._named: set[str] = set()
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the series, and nothing reads them
        self._registry = CollectorRegistry()
        self.engines = EngineMetrics()
        self._registry.register(self.engines)

        # what has which labels is remembered, as there is little of it and finding it takes longer than counting
        def counter(name: str, what: str, *labels: str) -> Callable[..., Counter]:
            return cache(Counter(name, what, labels, registry=self._registry).labels)

        def histogram(name: str, what: str, *labels: str) -> Callable[..., Histogram]:
            return cache(Histogram(name, what, labels, buckets=_SECONDS, registry=self._registry).labels)

        answered = ("adapter", "release", "endpoint", "status")
        self._requests = counter("shopfit_requests_total", "HTTP requests that are over.", *answered)
        self._seconds = histogram("shopfit_request_seconds", "From a request to the end of its answer.", "endpoint")
        self._tokens = counter(
            "shopfit_tokens_total", "Tokens that forwards read, or that were written.", "adapter", "kind"
        )
        self._queue = histogram("shopfit_queue_seconds", "From a question to its first forward.", "adapter")
        self._first = histogram(
            "shopfit_first_token_seconds", "From a request to the first part of a stream.", "adapter"
        )
        self._between = histogram("shopfit_between_tokens_seconds", "Mean of a stream, from token to token.", "adapter")
        self._limited = counter("shopfit_limited_requests_total", "Requests refused by a limit.", "limit")
        self._shadows = counter("shopfit_shadow_answers_total", "Requests repeated on a shadow.", "adapter", "outcome")
        self._shown = counter("shopfit_shown_rows_total", "Rows of the log of what was shown.", "outcome")

    def name(self, adapter: str) -> str:
        """An adapter's label: itself, if there is room for it."""
        if not adapter:
            return NONE
        if adapter not in self._named:
            if len(self._named) >= self._most:
                return OTHER
            self._named.add(adapter)
        return adapter

    def answered(self, record: RequestRecord, endpoint: str, status: int, seconds: float) -> None:
        """A request is over.

        Args:
            record: of it.
            endpoint: method and the path's pattern.
            status: of HTTP; 499 if the client went away before its answer began.
            seconds: that it took.
        """
        adapter = self.name(record.adapter)
        self._requests(adapter, record.release or NONE, endpoint, str(status)).inc()
        self._seconds(endpoint).observe(seconds)
        if not record.adapter:
            return
        for waited in record.waited:
            self._queue(adapter).observe(waited)
        if record.first:
            self._first(adapter).observe(record.first - record.began)
            if record.written > 1:
                self._between(adapter).observe((record.last - record.first) / (record.written - 1))

    def spent(self, adapter: str, read: int, written: int) -> None:
        """Tokens were read and written, of whatever becomes an answer or does not."""
        name = self.name(adapter)
        self._tokens(name, "read").inc(read)
        self._tokens(name, "written").inc(written)

    def limited(self, limit: str) -> None:
        """A request was refused by a limit: "requests", "concurrent" or "tokens"."""
        self._limited(limit).inc()

    def shadowed(self, adapter: str, outcome: ShadowOutcome) -> None:
        """A request was repeated on a shadow, or was not as there was no room for it."""
        self._shadows(self.name(adapter), outcome).inc()

    def shown(self, outcome: Literal["written", "dropped"], rows: int) -> None:
        """Rows of the log of what was shown were written, or dropped."""
        self._shown(outcome).inc(rows)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)


class EngineMetrics(Collector):
    """What engines said of themselves when they were asked last.

    Attributes:
        starts: of engine processes, by base.
        statuses: of those that run, by base; see `shopfit.engine.Status`.
        running: whether a process is ready, by base.
        under_way: requests that were not answered, by base.
        until: time of the loop until which `statuses` is fresh.
    """

    def __init__(self) -> None:
        self.starts: Mapping[str, int] = {}
        self.statuses: Mapping[str, Mapping[str, Any]] = {}
        self.running: Mapping[str, bool] = {}
        self.under_way: Mapping[str, int] = {}
        self.until = float("-inf")

    def collect(self) -> Iterator[Metric]:
        """Every metric of engines."""
        starts = CounterMetricFamily("shopfit_engine_starts", "Starts of engine processes.", labels=["base"])
        running = GaugeMetricFamily("shopfit_engine_running", "Whether an engine is ready.", labels=["base"])
        under_way = GaugeMetricFamily("shopfit_engine_requests", "Requests under way.", labels=["base"])
        for base, count in self.starts.items():
            starts.add_metric([base], count)
            running.add_metric([base], self.running.get(base, False))
            under_way.add_metric([base], self.under_way.get(base, 0))
        swaps = CounterMetricFamily(
            "shopfit_engine_swaps", "Adapters brought into slots since the engine's start.", labels=["base"]
        )
        for base, status in self.statuses.items():
            swaps.add_metric([base], status.get("swaps", 0))
        yield from (starts, running, under_way, swaps)
        for field, what in _ENGINE_GAUGES.items():
            gauge = GaugeMetricFamily(f"shopfit_engine_{_GAUGE_NAMES.get(field, field)}", what, labels=["base"])
            for base, status in self.statuses.items():
                gauge.add_metric([base], status.get(field, 0))
            yield gauge
