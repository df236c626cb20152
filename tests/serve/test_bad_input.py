"""What nobody should send: each is refused for what it is, in one shape, and the gateway goes on."""

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from tests.serve.gateways import ServedGateway

GOOD = {"model": "acme/sentiment", "input": "lovely crema"}


@pytest.fixture(autouse=True)
def goes_on(gateway: ServedGateway) -> Any:
    """After each of these, a good request is answered."""
    yield
    assert gateway.ask("/v1/classify", GOOD).json()["data"][0]["label"] == "positive"


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    told: dict[str, Any] = answer.json()
    assert told.keys() == {"error"}
    assert told["error"].keys() == {"message", "type", "param", "code", "problems", "next"}
    assert told["error"]["message"]
    return dict(told["error"])


def raw(gateway: ServedGateway, request: bytes) -> bytes:
    """What comes back for bytes that no client would send."""
    place = urlsplit(gateway.url)
    with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "body"),
        (b"{", "not JSON"),
        (b"null", "body"),
        (b"[]", "body"),
        (b'"text"', "body"),
        (b"\xff\xfe{}", "UTF-8"),
        (b'{"model": "acme/sentiment", "model": "rival/sentiment", "input": "a"}', "stands there twice"),
        (b'{"model": "acme/sentiment", "input": NaN}', "NaN is no number"),
        (b'{"model": "acme/sentiment", "fields": {"text": "a", "n": Infinity}}', "Infinity is no number"),
        (b'{"model": "acme/sentiment", "fields": {"text": "a", "n": 1e999}}', "too large a number"),
        (b'{"model": "acme/sentiment", "fields": {"text": "a", "n": ' + b"9" * 5000 + b"}}", "not JSON"),
        (b'{"model": "acme/sentiment", "input": "\\ud800"}', "half of a character"),
        (b'{"model": "acme/sentiment", "fields": {"\\udfff": "a"}}', "half of a character"),
        (b'{"model": "acme/sentiment", "input": ' + b"[" * 101 + b"]" * 101 + b"}", "nested too deeply"),
        (b'{"model": "acme/sentiment", "input": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "nested too deeply"),
    ],
)
def test_bodies_that_are_no_requests(gateway: ServedGateway, content: bytes, said: str) -> None:
    answer = gateway.ask("/v1/classify", content=content, method="POST")
    assert answer.status_code == 422
    assert said in error_of(answer)["message"]


def test_bodies_of_a_megabyte(gateway: ServedGateway) -> None:
    most = 1024 * 1024
    start, end = b'{"model": "acme/sentiment", "input": "', b'"}'
    fits = start + b"a" * (most - len(start) - len(end)) + end
    assert gateway.ask("/v1/classify", content=fits).status_code == 200
    answer = gateway.ask("/v1/classify", content=fits + b" ")
    assert answer.status_code == 413
    assert "1,048,576 bytes" in error_of(answer)["message"]
    assert error_of(answer)["code"] == "body_too_large"


@pytest.mark.parametrize(
    "model",
    [
        "",
        " ",
        "acme",
        "acme/",
        "/sentiment",
        "acme/nothing",
        "acme/sentiment@0",
        "ACME/sentiment",
        "rival/sentiment",
        "rival/nothing",
        "nobody/sentiment",
        "../acme/sentiment",
        "acme/../../etc/passwd",
        "/etc/passwd",
        "acme\\sentiment",
        "acme/sentiment\n",
        "acme/sentiment\x00",
        "äcme/sentiment",
        "acme/sentiment\u202e",
        "аcme/sentiment",
        "a" * 100_000,
        "acme/" + "a" * 100_000,
        "%2e%2e/acme",
        "smollm2-135m",
        "acme/sentiment; DROP TABLE",
    ],
)
def test_model_names_that_name_nothing_are_all_the_same(gateway: ServedGateway, model: str) -> None:
    answer = gateway.ask("/v1/classify", {"model": model, "input": "a"})
    assert answer.status_code == 404
    error = error_of(answer)
    assert (error["type"], error["code"]) == ("invalid_request_error", "model_not_found")
    other = gateway.ask("/v1/classify", {"model": "acme/nothing", "input": "a"})
    assert error["next"] == error_of(other)["next"]
    assert error["message"].partition("does not exist")[2] == error_of(other)["message"].partition("does not exist")[2]
    assert len(answer.content) < 2000


@pytest.mark.parametrize("model", ["acme/sentiment@99", "acme/sentiment@nothing"])
def test_a_version_that_is_not_there_tells_its_own_merchant_which_are(gateway: ServedGateway, model: str) -> None:
    answer = gateway.ask("/v1/classify", {"model": model, "input": "a"})
    assert answer.status_code == 404
    assert error_of(answer)["code"] == "model_not_found"
    assert "acme/sentiment with @1" in error_of(answer)["message"]


@pytest.mark.parametrize("model", [None, 5, ["acme/sentiment"], {"a": 1}, True])
def test_a_model_that_is_no_text(gateway: ServedGateway, model: Any) -> None:
    answer = gateway.ask("/v1/classify", {"model": model, "input": "a"})
    assert answer.status_code == 422
    assert "model" in error_of(answer)["message"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"imput": "a"}, "did you mean 'input'?"),
        ({"input": "a", "sure": True}, "sets no serve.precision"),
        ({"input": -5}, "input"),
        ({"input": {"text": "a"}}, "input"),
        ({"input": None}, "there are 0 inputs"),
        ({"input": "a", "fields": {"colour": "red"}}, "colour"),
        ({"input": "a", "fields": {"text": "b"}}, "'text' is given twice"),
        ({"input": ["a", "b"], "fields": [{}]}, "2 texts"),
        ({"input": "a", "fields": {str(number): "a" for number in range(300)}}, "shows no '0'"),
        ({"input": "a", "user": "u" * 600}, "user"),
        ({"input": [1, 2]}, "token ids"),
    ],
)
def test_fields_that_are_wrong_are_named(gateway: ServedGateway, more: Any, said: str) -> None:
    answer = gateway.ask("/v1/classify", {"model": "acme/sentiment", **more})
    assert answer.status_code == 422
    assert said in error_of(answer)["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Basic {acme}"},
        {"authorization": "{acme}"},
        {"authorization": "Bearer sf_wrong"},
        {"authorization": "Bearer {acme}x"},
        {"authorization": "Bearer {revoked}"},
        {"authorization": "Bearer {expired}"},
        {"x-api-key": "{acme}"},
        {"api-key": "{acme}"},
        {"authorization": "Bearer ключ"},
    ],
)
def test_keys_that_are_refused(gateway: ServedGateway, headers: dict[str, str]) -> None:
    sent = {name: value.format(**gateway.keys).encode() for name, value in headers.items()}
    while True:  # until the one that expires a second after it was made has
        answer = httpx2.post(f"{gateway.url}/v1/classify", json=GOOD, headers=sent, timeout=None)
        if answer.status_code == 401 or "{expired}" not in "".join(headers.values()):
            break
    assert answer.status_code == 401
    error = error_of(answer)
    assert error["type"] == "authentication_error"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not any(token in answer.text for token in gateway.keys.values())


def test_a_key_elsewhere_is_told_where_it_belongs(gateway: ServedGateway) -> None:
    for headers, query in (({"x-api-key": gateway.keys["acme"]}, ""), ({}, f"?api_key={gateway.keys['acme']}")):
        answer = httpx2.post(f"{gateway.url}/v1/classify{query}", json=GOOD, headers=headers, timeout=None)
        assert answer.status_code == 401
        assert "Authorization: Bearer" in error_of(answer)["next"]


def test_a_key_sent_twice(gateway: ServedGateway) -> None:
    headers = [("authorization", f"Bearer {gateway.keys[name]}") for name in ("acme", "rival")]
    answer = httpx2.post(f"{gateway.url}/v1/classify", json=GOOD, headers=headers, timeout=None)
    assert answer.status_code == 401


def test_a_key_without_the_scope(gateway: ServedGateway) -> None:
    for key in ("feedback", "acme-publish", "rival"):
        assert gateway.ask("/v1/classify", GOOD, key=key).status_code == 404  # as if there were no such adapter
    assert gateway.ask("/v1/models", key="feedback").status_code == 403
    assert gateway.ask("/v1/classify", GOOD, key="platform").status_code == 200


def test_two_lengths_of_one_body(gateway: ServedGateway) -> None:
    body = json.dumps(GOOD).encode()
    for second in (b"5", b"%d" % len(body)):
        request = (
            b"POST /v1/classify HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
            b"authorization: Bearer %s\r\ncontent-length: %d\r\ncontent-length: %s\r\nconnection: close\r\n\r\n%s"
        ) % (gateway.keys["acme"].encode(), len(body), second, body)
        answer = raw(gateway, request)
        assert answer.count(b"HTTP/1.1") <= 1
        assert b" 400 " in answer.partition(b"\r\n")[0], answer


def test_a_length_and_chunks(gateway: ServedGateway) -> None:
    request = (
        b"POST /v1/classify HTTP/1.1\r\nhost: a\r\nauthorization: Bearer %s\r\ncontent-length: 4\r\n"
        b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\nhost: a\r\n\r\n"
    ) % gateway.keys["acme"].encode()
    assert raw(gateway, request).count(b"HTTP/1.1") <= 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/classify", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/models/", 404),
        ("GET", "/v1/models/..%2F..%2Fetc%2Fpasswd", 404),
        ("POST", "/v1/load_lora_adapter", 404),
        ("GET", "//v1/models", 404),
    ],
)
def test_paths_that_are_not_there(gateway: ServedGateway, method: str, path: str, status: int) -> None:
    answer = gateway.ask(path, method=method)
    assert answer.status_code == status
    missing = "model_not_found" if path.startswith("/v1/models/") else "not_found"
    assert error_of(answer)["code"] == (missing if status == 404 else "method_not_allowed")


def test_a_key_is_asked_for_before_a_body_is_read(gateway: ServedGateway) -> None:
    place = urlsplit(gateway.url)
    for path in ("/v1/classify", "/v1/merchants/acme/catalog", "/v1/nothing"):
        request = b"PUT %s HTTP/1.1\r\nhost: a\r\ncontent-length: 200000000\r\nauthorization: Bearer sf_wrong\r\n\r\n"
        with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
            connection.sendall(request % path.encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))  # nothing of the body was sent
        assert b" 401 " in answer.partition(b"\r\n")[0], answer


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/nothing", "/", "/score", "/v1/load_lora_adapter", "/health/", "/metrics", "/redoc"]
)
def test_no_route_is_left_open(gateway: ServedGateway, path: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        assert httpx2.request(method, f"{gateway.url}{path}", timeout=None).status_code == 401


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /" + b"a" * 400_000,
        b"GET /health HTTP/1.1\r\nx-a: " + b"a" * 400_000,
        b"GET /health HTTP/1.1\r\n" + b"".join(b"x-%d: a\r\n" % number for number in range(50_000)),
        b"POST /health HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-a: " + b"a" * 4_000_000,
    ],
)
def test_heads_without_an_end_are_not_kept(gateway: ServedGateway, endless: bytes) -> None:
    place = urlsplit(gateway.url)
    with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
        try:
            connection.sendall(endless)  # it is no request yet, and no key has been asked for
            told = connection.recv(65536)
            while connection.recv(65536):
                pass
        except ConnectionError:  # the gateway has closed it with some of this unread
            return
    assert b" 431 " in told or b"chunked" in endless


def test_long_headers_are_read(gateway: ServedGateway) -> None:
    key = {"authorization": f"Bearer {gateway.keys['acme']}"}
    longest = {f"x-{number}": "a" * 6_000 for number in range(10)}
    assert httpx2.get(f"{gateway.url}/v1/models", headers=key | longest, timeout=None).status_code == 200
    parts = (bytes([one]) for one in json.dumps(GOOD).encode() + b" " * 20_000)  # a chunk each
    typed = key | {"content-type": "application/json"}
    assert httpx2.post(f"{gateway.url}/v1/classify", content=parts, headers=typed, timeout=None).status_code == 200


def test_what_is_no_http_is_told_in_the_same_shape(gateway: ServedGateway) -> None:
    head, _, content = raw(gateway, b"NONSENSE\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(content)["error"]["type"] == "invalid_request_error"
