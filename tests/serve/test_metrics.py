"""`/metrics`: what it counts, who may read it, what it never says; and the dashboard that is made of it."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.serve.operated import SENTIMENT, Operated, operating, own_copy

from shopfit.serve.metrics import NONE, OTHER, EngineMetrics, Metrics
from shopfit.serve.request_record import RequestRecord
from shopfit.settings import Settings

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "shopfit.json"
NAME = re.compile(r"\bshopfit_(?!vllm\b)[a-z_]+\b")  # but for the folder of the light distribution
LABELS = re.compile(r"(?:by|topk\(\d+, sum by) \(([a-z, ]+)\)|([a-z]+)=~?\"")


@pytest.fixture(scope="module")
def operated(filled: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    with operating(own_copy(filled, tmp_path_factory.mktemp("metrics") / "home")) as operated:
        yield operated


def test_requests_and_tokens_are_counted(operated: Operated) -> None:
    named = {"adapter": SENTIMENT, "endpoint": "POST /v1/classify", "release": "production"}
    before = operated.counted("shopfit_requests_total", **named, status="200")
    read = operated.counted("shopfit_tokens_total", adapter=SENTIMENT, kind="read")
    usage = operated.classify().json()["usage"]["prompt_tokens"]
    assert operated.counted("shopfit_requests_total", **named, status="200") == before + 1
    assert usage > 0
    assert operated.counted("shopfit_tokens_total", adapter=SENTIMENT, kind="read") == read + usage
    assert operated.counted("shopfit_queue_seconds_count", adapter=SENTIMENT) >= 1
    assert operated.counted("shopfit_request_seconds_count", endpoint="POST /v1/classify") >= 1


def test_engines_say_what_they_hold(operated: Operated) -> None:
    operated.classify()
    assert operated.counted("shopfit_engine_running") == 2
    assert operated.counted("shopfit_engine_starts_total") == 2
    assert operated.counted("shopfit_engine_requests") == 0
    held = {"shopfit_engine_slots_used", "shopfit_engine_swaps_total", "shopfit_engine_host_bytes"}
    while not held <= {name for name, _ in operated.metrics()}:  # an engine that is busy says nothing for now
        time.sleep(0.02)


def test_no_label_is_what_a_client_sent(operated: Operated) -> None:
    sent = "wonderful"
    operated.classify(model=f"acme/{sent}")
    operated.classify(model=f"{sent}/sentiment")
    operated.classify(user=sent, model=SENTIMENT)
    operated.gateway.ask(f"/v1/{sent}")
    operated.gateway.ask(f"/v1/models/{sent}/x")
    operated.gateway.ask("/v1/classify", {"model": SENTIMENT, "input": "a", sent: 1})
    operated.gateway.ask("/v1/classify", method=sent.upper())
    text = operated.gateway.ask("/metrics", key="platform").text
    assert sent not in text.lower()
    assert operated.counted("shopfit_requests_total", adapter=NONE, status="404", endpoint="POST /v1/classify") >= 2
    assert operated.counted("shopfit_requests_total", endpoint="other") >= 1


def test_adapters_beyond_the_first_count_together() -> None:
    metrics = Metrics(most=2)
    for number in range(1000):
        record = RequestRecord(adapter=f"m{number}/r", release="production", read=2)
        metrics.answered(record, "POST /v1/classify", 200, 0.1)
    families = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}
    counts = {
        sample.labels["adapter"]: sample.value
        for sample in families["shopfit_requests"].samples
        if "_total" in sample.name
    }
    assert counts == {"m0/r": 1, "m1/r": 1, OTHER: 998}


def test_who_may_read_them(operated: Operated) -> None:
    url = f"{operated.gateway.url}/metrics"
    # from this machine, as by a proxy here that says nothing of whom it asks for
    for host in (None, "localhost", "127.0.0.1:8000", "made-up.example"):
        assert httpx2.get(url, headers={} if host is None else {"host": host}).status_code == 401
    assert operated.gateway.ask("/metrics", key="platform").status_code == 200
    assert operated.gateway.ask("/metrics", key="acme").status_code == 403
    assert httpx2.get(url, headers={"authorization": "Bearer sf_no"}).status_code == 401


def test_the_dashboard_shows_what_there_is() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    there: dict[str, set[str]] = {}
    metrics = Metrics(most=1)
    metrics.engines = fill(metrics.engines)
    record = RequestRecord(adapter="a/b", release="production", read=1, written=2, waited=[0.1], first=1.0, last=2.0)
    metrics.answered(record, "POST /v1/classify", 200, 0.1)
    metrics.spent("a/b", 1, 2)
    metrics.limited("requests")
    metrics.shadowed("a/b", "same")
    metrics.shown("written", 1)
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            there.setdefault(sample.name, set()).update(sample.labels)
    used: set[str] = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            names = set(NAME.findall(target["expr"]))
            assert names, panel["title"]
            assert names <= there.keys(), panel["title"]
            labels = {
                label.strip() for pair in LABELS.findall(target["expr"]) for part in pair for label in part.split(",")
            }
            legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            for name in names:
                assert (labels | legend) - {""} <= there[name], panel["title"]
            used |= names
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in there}
    assert families == {re.sub(r"_bucket$", "", name) for name in used}, "something is counted and not shown"
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(places) == len(set(places))


def fill(engines: EngineMetrics) -> EngineMetrics:
    engines.starts, engines.under_way, engines.statuses = {"b:none": 1}, {"b:none": 0}, {"b:none": {"swaps": 1}}
    return engines


def test_docs_and_alerts_name_what_there_is() -> None:
    metrics = Metrics(most=1)
    metrics.engines = fill(metrics.engines)
    there = set(re.findall(r"^# TYPE (shopfit_\w+)", metrics.text().decode(), re.MULTILINE))
    root = DASHBOARD.parents[2]
    for file in [*root.glob("docs/how-to/*.md"), *root.glob("deploy/prometheus/*.yaml")]:
        named = {re.sub(r"_(bucket|count|sum)$", "", name) for name in NAME.findall(file.read_text())}
        assert named <= there, file.name
