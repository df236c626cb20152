"""schemathesis makes requests from the OpenAPI document: whatever it finds to send, no answer is a failure of ours."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from tests.serve.gateways import ServedGateway

MODELS = {
    "/v1/completions": "acme/words",
    "/v1/chat/completions": "acme/words",
    "/v1/embeddings": "acme/sentiment",
    "/v1/classify": "acme/sentiment",
    "/v1/rate": "acme/stars",
    "/v1/rerank": "acme/products",
    "/v2/rerank": "acme/products",
    "/v1/recommend": "acme/products",
}
CATALOG = "/v1/merchants/{merchant}/catalog"


@pytest.mark.parametrize("named", [False, True], ids=["any-model", "ours"])
def test_no_operation_fails(gateway: ServedGateway, named: bool) -> None:
    schema = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
    seen = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        seen.add(operation.path)
        if not named or operation.path in {*MODELS, CATALOG}:
            check(gateway, operation, named)
    assert {*MODELS, CATALOG, "/v1/models", "/health", "/ready", "/metrics", "/v1/feedback"} <= seen


def test_it_says_which_operations_need_a_key(gateway: ServedGateway) -> None:
    document = gateway.ask("/openapi.json").json()
    free = {
        path
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if not operation.get("security")
    }
    assert free == {"/health", "/ready"}
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_every_body_has_an_example_that_is_read(gateway: ServedGateway) -> None:
    document = gateway.ask("/openapi.json").json()
    read = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "requestBody" in operation:
                body = operation["requestBody"]["content"]["application/json"]["example"]
                answer = gateway.ask(path.format(merchant="nobody"), body, method=method, key="platform")
                assert answer.status_code != 422 or "whose events" in answer.text, (path, answer.text)
                read += 1
    assert read == 14


@pytest.mark.parametrize("path", ["/v2/models", "/rerank"])
def test_a_path_that_is_not_there_is_named(gateway: ServedGateway, path: str) -> None:
    error = gateway.ask(path).json()["error"]
    assert f"there is no GET '{path}' here" in error["message"]
    assert "/v1" in error["next"]


def check(gateway: ServedGateway, operation: Any, named: bool) -> None:
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy())
    def every(case: Any) -> None:
        if isinstance(case.body, dict):
            case.body.pop("stream", None)
            case.body.pop("stream_options", None)
            if named and operation.path in MODELS:
                case.body["model"] = MODELS[operation.path]
        if named and operation.path == CATALOG:
            case.path_parameters["merchant"] = "spare"  # who has no adapters that other tests ask
        case.call_and_validate(
            headers={"authorization": f"Bearer {gateway.keys['platform']}"},
            checks=[not_a_server_error, response_schema_conformance, content_type_conformance],
        )

    every()
