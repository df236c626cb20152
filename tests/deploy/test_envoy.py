"""Both Envoy configurations: only one route of vLLM is open, and an adapter's requests go to one server."""

from typing import Any

import pytest
from tests.deploy.manifests import compose, containers, deployment, option, read

FILES = ["envoy/envoy.yaml", "kubernetes/router/envoy.yaml"]
ASKED = ["/v1/completions"]


def listener(file: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in read(file)["static_resources"]["listeners"] if one["name"] == name)
    return found


def connections(file: str, name: str = "models") -> dict[str, Any]:
    found: dict[str, Any] = listener(file, name)["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def routes(file: str, name: str = "models") -> list[dict[str, Any]]:
    (host,) = connections(file, name)["route_config"]["virtual_hosts"]
    found: list[dict[str, Any]] = host["routes"]
    return found


def port(file: str, name: str) -> int:
    found: int = listener(file, name)["address"]["socket_address"]["port_value"]
    return found


@pytest.mark.parametrize("file", FILES)
def test_nothing_of_vllm_is_open_but_what_the_gateway_asks(file: str) -> None:
    *named, last = routes(file)
    assert [one["match"]["path"] for one in named if one["route"]["cluster"] in {"vllm", "picked"}][:1] == ASKED
    assert {one["match"]["path"] for one in named} <= {*ASKED, "/health"}
    assert last["match"] == {"prefix": "/"}
    assert last["direct_response"]["status"] == 404
    handling = connections(file)
    assert handling["normalize_path"] is True
    assert handling["merge_slashes"] is True
    assert handling["path_with_escaped_slashes_action"] == "REJECT_REQUEST"


@pytest.mark.parametrize("file", FILES)
def test_a_stream_is_ended_by_the_gateway_only(file: str) -> None:
    asked = [one["route"] for one in routes(file) if one["match"].get("path") in ASKED]
    assert {(route["timeout"], route["idle_timeout"]) for route in asked} == {("0s", "0s")}


@pytest.mark.parametrize("file", FILES)
def test_administration_is_for_this_container_only(file: str) -> None:
    assert read(file)["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    assert [one["match"] for one in routes(file, "watch")] == [{"path": "/ready"}, {"path": "/stats/prometheus"}]


def test_an_adapters_requests_go_to_one_server() -> None:
    asked = [one for one in routes(FILES[0]) if one["match"].get("path") in ASKED]
    for one in asked:
        assert one["match"]["headers"] == [{"name": "x-shopfit-adapter", "present_match": True}]
        assert one["route"]["hash_policy"] == [{"header": {"header_name": "x-shopfit-adapter"}, "terminal": True}]
        again = set(one["route"]["retry_policy"]["retry_on"].split(","))
        assert again == {"connect-failure", "refused-stream", "reset-before-request"}  # nothing was begun
    (cluster,) = [one for one in read(FILES[0])["static_resources"]["clusters"] if one["name"] == "vllm"]
    assert cluster["lb_policy"] == "RING_HASH"
    assert cluster["common_lb_config"]["healthy_panic_threshold"] == {"value": 0}
    assert cluster["health_checks"][0]["http_health_check"] == {"path": "/health"}


def test_its_servers_are_those_of_compose() -> None:
    (cluster,) = [one for one in read(FILES[0])["static_resources"]["clusters"] if one["name"] == "vllm"]
    servers = [one["endpoint"] for one in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]]
    services = {name: one for name, one in compose().items() if name.startswith("vllm-")}
    assert [one["hostname"] for one in servers] == list(services)
    for one in servers:
        address = one["address"]["socket_address"]
        assert address["address"] == one["hostname"]
        assert str(address["port_value"]) == option(services[one["hostname"]]["command"], "port")


def test_gateways_ask_the_port_that_envoy_listens_at() -> None:
    upstream = option(compose()["gateway"]["command"], "upstream")
    assert upstream == f"http://envoy:{port(FILES[0], 'models')}"
    upstream = option(containers(deployment("gateway"))[0]["args"], "upstream")
    assert upstream == f"http://router:{port(FILES[1], 'models')}"


def test_on_kubernetes_nobody_chooses_a_server_but_the_picker() -> None:
    (picked,) = [one for one in read(FILES[1])["static_resources"]["clusters"] if one["name"] == "picked"]
    header = picked["original_dst_lb_config"]["http_header_name"]
    assert header == "x-gateway-destination-endpoint"
    first, last = connections(FILES[1])["http_filters"]
    assert first["name"] == "envoy.filters.http.ext_proc"
    assert first["typed_config"]["failure_mode_allow"] is False
    assert last["name"] == "envoy.filters.http.router"
