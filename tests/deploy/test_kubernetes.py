"""The Kubernetes manifests: every pod is bounded, probed, walled in, and ends what is under way."""

from typing import Any

import pytest
import yaml
from tests.deploy.manifests import KUBERNETES, containers, deployment, objects, read, seconds_to_end

DEPLOYMENTS = {one["metadata"]["name"]: one for one in objects("Deployment")}
CONTAINERS = {
    f"{name}/{container['name']}": container for name, one in DEPLOYMENTS.items() for container in containers(one)
}


def pod(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = DEPLOYMENTS[name]["spec"]["template"]["spec"]
    return spec


def labels(name: str) -> dict[str, str]:
    found: dict[str, str] = DEPLOYMENTS[name]["spec"]["template"]["metadata"]["labels"]
    return found


def ports(name: str) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for one in containers(DEPLOYMENTS[name]) for port in one["ports"]}


def test_every_file_is_applied() -> None:
    listed = read("kubernetes/kustomization.yaml")
    files = {file.name for file in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed["resources"]) == files
    made = [file for one in listed["configMapGenerator"] for file in one["files"]]
    assert {f"router/{file.name}" for file in (KUBERNETES / "router").iterdir()} == set(made)
    assert DEPLOYMENTS.keys() == {"gateway", "vllm", "router"}
    assert objects("Secret") == []


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_is_bounded_and_has_no_more_rights_than_it_needs(name: str) -> None:
    container = CONTAINERS[name]
    for bound in ("requests", "limits"):
        assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"][bound].keys()
    careful = container["securityContext"]
    assert careful["readOnlyRootFilesystem"] is True
    assert careful["allowPrivilegeEscalation"] is False
    assert careful["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_is_probed(name: str) -> None:
    container = CONTAINERS[name]
    named = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("readinessProbe", "livenessProbe"):
        asked = container[probe]
        port = asked["httpGet"]["port"] if "httpGet" in asked else asked["grpc"]["port"]
        assert port in named or port in named.values()
    if not name.endswith("/envoy"):  # which is there at once
        assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] >= 120


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_writable_folder_is_bounded(name: str) -> None:
    volumes = {one["name"]: one for one in pod(name.partition("/")[0])["volumes"]}
    for mount in CONTAINERS[name]["volumeMounts"]:
        volume = volumes[mount["name"]]
        assert mount.get("readOnly") or volume["emptyDir"]["sizeLimit"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_pod_is_nobody_and_knows_nothing_of_the_cluster(name: str) -> None:
    spec = pod(name)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec.get("hostNetwork")
    assert (spec.get("automountServiceAccountToken") is False) == (name != "router")  # which watches pods
    rules = next(one for one in objects("Role"))["rules"]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert "secrets" not in {resource for rule in rules for resource in rule["resources"]}


@pytest.mark.parametrize("name", ["gateway", "vllm"])
def test_what_is_under_way_has_time_to_end(name: str) -> None:
    container = containers(DEPLOYMENTS[name])[0]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause >= 5  # until nobody sends anything new
    assert pod(name)["terminationGracePeriodSeconds"] >= pause + seconds_to_end(container["args"]) + 10


def test_the_router_ends_after_what_goes_through_it() -> None:
    envoy, picker = containers(DEPLOYMENTS["router"])
    pauses = [one["lifecycle"]["preStop"]["sleep"]["seconds"] for one in (envoy, picker)]
    assert pauses[0] >= seconds_to_end(containers(deployment("gateway"))[0]["args"])
    assert pauses[1] > pauses[0]  # Envoy asks the picker until its own end
    assert pod("router")["terminationGracePeriodSeconds"] >= pauses[1] + 30


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_disruption_takes_one_pod_at_a_time(name: str) -> None:
    budget = next(one for one in objects("PodDisruptionBudget") if one["metadata"]["name"] == name)
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels(name).items()
    assert DEPLOYMENTS[name]["spec"]["selector"]["matchLabels"].items() <= labels(name).items()


def test_the_autoscaler_has_the_gateways() -> None:
    (scaler,) = objects("HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "gateway"}
    assert scaler["spec"]["minReplicas"] >= 2
    assert "replicas" not in DEPLOYMENTS["gateway"]["spec"]  # or applying it would undo what the autoscaler did


@pytest.mark.parametrize("service", objects("Service"), ids=lambda one: one["metadata"]["name"])
def test_a_service_leads_to_ports_that_are_there(service: dict[str, Any]) -> None:
    name = service["metadata"]["name"]
    assert service["spec"]["selector"].items() <= labels(name).items()
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports(name).keys()


def test_nothing_is_reached_but_what_is_named() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in objects("NetworkPolicy")}
    assert policies.keys() == {"nothing", *DEPLOYMENTS}
    assert policies["nothing"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name in DEPLOYMENTS:
        assert policies[name]["podSelector"]["matchLabels"].items() <= labels(name).items()
        assert policies[name]["policyTypes"] == ["Ingress", "Egress"]
        for rule in policies[name]["ingress"]:
            assert rule["from"]
            assert {port["port"] for port in rule["ports"]} <= set(ports(name).values())
    pods = [one["podSelector"] for one in policies["vllm"]["ingress"][0]["from"] if "podSelector" in one]
    assert pods == [{"matchLabels": {"app.kubernetes.io/name": "router"}}]
    asked = [port["port"] for rule in policies["router"]["ingress"] for port in rule["ports"]]
    assert 9002 not in asked  # the picker speaks without encryption, to Envoy in its pod


def test_images_are_of_one_release() -> None:
    ours = {one["name"]: one["newTag"] for one in read("kubernetes/kustomization.yaml")["images"]}
    for container in CONTAINERS.values():
        tag = container["image"].partition(":")[2] or ours[container["image"]]
        assert any(digit.isdigit() for digit in tag)


def test_keys_and_addresses_come_from_secrets() -> None:
    for name, secret in (("gateway", "shopfit"), ("vllm", "shopfit-vllm")):
        (container,) = containers(DEPLOYMENTS[name])
        assert container["envFrom"] == [{"secretRef": {"name": secret}}]
        assert "env" not in container
    for file in KUBERNETES.rglob("*.yaml"):
        text = file.read_text().lower()
        assert "password" not in text
        assert yaml.safe_load_all(text)
