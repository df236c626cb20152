"""The pool and the router's configuration, as their published references have them.

No schema of either is on the package index. The fields here are those of the API reference of Gateway API Inference
Extension v1.5.0 (`inference.networking.k8s.io/v1`) and of llm-d's router v0.10.0 (`EndpointPickerConfig`).
"""

from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field
from tests.deploy.manifests import KUBERNETES, containers, deployment, objects

Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Port(Strict):
    number: int = Field(ge=1, le=65535)


class Selector(Strict):
    matchLabels: dict[str, str] = Field(min_length=1)  # noqa: N815 - Kubernetes' name


class EndpointPickerRef(Strict):
    group: str = ""
    kind: Literal["Service"] = "Service"
    name: Name
    port: Port
    failureMode: Literal["FailOpen", "FailClose"] = "FailClose"  # noqa: N815


class PoolSpec(Strict):
    selector: Selector
    targetPorts: list[Port] = Field(min_length=1, max_length=8)  # noqa: N815
    appProtocol: Literal["http", "kubernetes.io/h2c"] = "http"  # noqa: N815
    endpointPickerRef: EndpointPickerRef  # noqa: N815


class Pool(Strict):
    apiVersion: Literal["inference.networking.k8s.io/v1"]  # noqa: N815
    kind: Literal["InferencePool"]
    metadata: dict[str, Any]
    spec: PoolSpec


class Plugin(Strict):
    type: str
    name: str | None = None
    parameters: dict[str, Any] | None = None


class Chosen(Strict):
    pluginRef: str  # noqa: N815
    weight: float | int | None = Field(default=None, gt=0)


class Profile(Strict):
    name: str
    plugins: list[Chosen]


class PickerConfig(Strict):
    apiVersion: Literal["llm-d.ai/v1alpha1"]  # noqa: N815
    kind: Literal["EndpointPickerConfig"]
    plugins: list[Plugin]
    schedulingProfiles: list[Profile]  # noqa: N815


def pool() -> Pool:
    (found,) = objects("InferencePool")
    return Pool.model_validate(found)


def picker_config() -> PickerConfig:
    return PickerConfig.model_validate(yaml.safe_load((KUBERNETES / "router" / "endpoint-picker.yaml").read_text()))


def test_the_pool_is_the_vllm_servers() -> None:
    spec = pool().spec
    servers = deployment("vllm")["spec"]["template"]
    assert spec.selector.matchLabels.items() <= servers["metadata"]["labels"].items()
    offered = [port["containerPort"] for port in servers["spec"]["containers"][0]["ports"]]
    assert [port.number for port in spec.targetPorts] == offered


def test_the_pool_names_the_picker_and_the_picker_the_pool() -> None:
    ref = pool().spec.endpointPickerRef
    service = next(one for one in objects("Service") if one["metadata"]["name"] == ref.name)
    assert ref.port.number in [port["port"] for port in service["spec"]["ports"]]
    (picker,) = [one for one in containers(deployment("router")) if one["name"] == "endpoint-picker"]
    assert f"--pool-name={pool().metadata['name']}" in picker["args"]
    assert "--pool-group=inference.networking.k8s.io" in picker["args"]
    assert "--config-file=/etc/router/endpoint-picker.yaml" in picker["args"]


def test_requests_go_where_their_adapter_lies_and_routers_share_no_state() -> None:
    config = picker_config()
    types = [plugin.type for plugin in config.plugins]
    scores = {"lora-affinity-scorer", "queue-scorer", "kv-cache-utilization-scorer"}  # all by the servers' metrics
    assert set(types) == scores | {"max-score-picker", "single-profile-handler"}
    (profile,) = config.schedulingProfiles
    weights = {one.pluginRef: one.weight for one in profile.plugins}
    assert weights.keys() == scores | {"max-score-picker"}
    assert max(scores, key=lambda name: weights[name] or 0) == "lora-affinity-scorer"
    assert deployment("router")["spec"]["replicas"] > 1
