"""The page of Prometheus metrics, from what a gateway registers."""

from prometheus_client import Histogram
from prometheus_client.core import Metric

from docs.generate.markdown import code, document, sentence, table
from shopfit.serve.metrics import LABELS, EngineMetrics, Metrics

_OPENING = """
Here is every metric that `GET /metrics` has, with its type and labels. The endpoint needs a key of the platform, as
metrics name merchants' adapters. No label is a text that a client sent. Engines are asked at most every two seconds.
"""


def page() -> str:
    """The page."""
    parts = ["## Metrics", table(("metric", "type", "labels", "what it counts"), rows())]
    parts += [
        "## Labels",
        table(("label", "what it says"), [(code(name), sentence(what)) for name, what in LABELS.items()]),
    ]
    parts += ["## Buckets", f"Every histogram has the same buckets, in seconds: {_buckets()}."]
    return document("Metrics", "`adapters/shopfit/serve/metrics.py`", _OPENING, *parts)


def rows() -> list[tuple[str, str, str, str]]:
    """A row a metric: its name, type, labels and help, as in the table."""
    gateway = [
        (family, tuple(collector._labelnames))
        for collector in _collectors(Metrics(1))
        for family in collector.collect()
    ]
    engines = [(family, tuple(family._labelnames)) for family in EngineMetrics().collect()]
    return [
        (code(_name(family)), family.type, ", ".join(map(code, labels)), sentence(family.documentation))
        for family, labels in gateway + engines
    ]


def _collectors(metrics: Metrics) -> list[Histogram]:
    known = metrics._registry._collector_to_names
    return [collector for collector in known if not isinstance(collector, EngineMetrics)]


def _name(family: Metric) -> str:
    """As it is scraped."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def _buckets() -> str:
    histogram = next(one for one in _collectors(Metrics(1)) if isinstance(one, Histogram))
    return ", ".join(f"{bound:g}" for bound in histogram._upper_bounds[:-1])
