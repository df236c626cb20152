"""What others' tools say of deploy/: `make lint-deploy`, in an environment of its own.

It needs neither Docker, nor a cluster, nor a network. What no tool on the package index checks, the tests beside it do.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import promql_parser
import yaml
from tests.deploy.envoy_routing import check_routing
from tests.deploy.manifests import DEPLOY, KUBERNETES, objects, read
from tests.deploy.picker_routing import check_picking

BINARIES = Path(sys.executable).parent
RELEASE = "1.34"  # of Kubernetes
UNKNOWN = {"InferencePool"}  # tests/deploy/test_inference_pool.py


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A tool that found nothing, and what it printed.

    Raises:
        SystemExit: if it finds something.
    """
    done = subprocess.run(command, cwd=DEPLOY.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done


def dockerfiles() -> str:
    run(BINARIES / "hadolint", "deploy/Dockerfile", "deploy/Dockerfile.vllm")
    return "hadolint: both Dockerfiles"


def compose() -> str:
    run(BINARIES / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml")
    return "check-jsonschema: compose.yaml"


def built() -> tuple[str, list[dict[str, Any]]]:
    """Every Kubernetes object, as kustomize makes it; without it, as it is written."""
    for name, arguments in (("kustomize", ["build"]), ("kubectl", ["kustomize"])):
        if program := shutil.which(name):
            return "as kustomize makes them", list(yaml.safe_load_all(run(program, *arguments, KUBERNETES).stdout))
    return "as they are written (neither kustomize nor kubectl is here)", objects()


def kubernetes() -> str:
    how, found = built()
    checked = [one for one in found if one["kind"] not in UNKNOWN]
    for one in checked:
        try:
            kubernetes_validate.validate(one, RELEASE, strict=True)
        except kubernetes_validate.ValidationError as error:
            sys.exit(f"{one['kind']} {one['metadata']['name']}: {error.message} at {list(error.path)}")
    assert len(checked) == len(found) - 1
    return f"kubernetes-validate {RELEASE}: {len(checked)} objects, {how}"


def envoy() -> str:
    files = [DEPLOY / "envoy" / "envoy.yaml", KUBERNETES / "router" / "envoy.yaml"]
    for file in files:
        said = run(BINARIES / "envoy", "--mode", "validate", "--config-path", file, "--log-level", "warning").stderr
        if "eprecated" in said:
            sys.exit(f"{file}: {said}")
    told = check_routing(BINARIES / "envoy", files[0])
    picked = check_picking(BINARIES / "envoy", files[1])
    return f"envoy: both configurations; {told}; {picked}"


def prometheus() -> str:
    rules = [rule for group in read("prometheus/alerts.yaml")["groups"] for rule in group["rules"]]
    for rule in rules:
        try:
            promql_parser.parse(rule["expr"])
        except ValueError as error:
            sys.exit(f"{rule['alert']}: {error}")
    told = f"promql-parser: {len(rules)} alerts"
    if promtool := shutil.which("promtool"):
        run(promtool, "check", "config", "--syntax-only", "deploy/prometheus/prometheus.yaml")
        run(promtool, "check", "rules", "deploy/prometheus/alerts.yaml")
        return f"{told}; promtool: configuration and alerts"
    return f"{told} (promtool is not here)"


def dashboards() -> str:
    found = sorted((DEPLOY / "grafana").glob("*.json"))
    for file in found:
        json.loads(file.read_text())
    return f"json: {len(found)} dashboards"


CHECKS: tuple[Callable[[], str], ...] = (dockerfiles, compose, kubernetes, envoy, prometheus, dashboards)

if __name__ == "__main__":
    for check in CHECKS:
        print(f"✓ {check()}", flush=True)
