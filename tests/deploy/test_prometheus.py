"""What Prometheus asks is there, and every alert says what to do."""

import re

import pytest
from tests.deploy.manifests import DEPLOY, ROOT, compose, option, read

from shopfit.serve.metrics import Metrics

RULES = [rule for group in read("prometheus/alerts.yaml")["groups"] for rule in group["rules"]]


def test_every_target_is_a_service_and_its_port() -> None:
    services = compose()
    known = {"envoy:9902", "localhost:9090"}
    known |= {
        f"{name}:{option(one['command'], 'port')}"
        for name, one in services.items()
        if "build" in one and name != "setup"
    }
    jobs = read("prometheus/prometheus.yaml")["scrape_configs"]
    assert {target for job in jobs for one in job["static_configs"] for target in one["targets"]} == known


def test_rule_files_are_there() -> None:
    for file in read("prometheus/prometheus.yaml")["rule_files"]:
        assert (DEPLOY / "prometheus" / file).is_file()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs/how-to/handle-incidents.md").read_text(), re.MULTILINE)
    assert rule["annotations"]["runbook"] in headings
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in {"page", "ticket"}


def test_alerts_ask_for_metrics_that_there_are() -> None:
    known: set[str] = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", Metrics(most=1).text().decode(), re.MULTILINE):
        known |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    used = {name for rule in RULES for name in re.findall(r"\bshopfit_\w+", rule["expr"])}
    assert len(used) >= 5
    assert used <= known
