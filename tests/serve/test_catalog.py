"""A merchant's catalog over HTTP: what is sent is what the next answer goes by, and nobody else's."""

import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from tests.serve.conftest import make_keys
from tests.serve.gateways import ServedGateway, serving

from shopfit.registry import Registry
from shopfit.settings import Settings

SHOP = [
    {"id": "tent", "title": "Ridge tent", "price": 199.0, "in_stock": True},
    {"id": "stove", "title": "Gas stove", "price": 39.0},
    {"id": "axe", "title": "Small axe", "price": 59.0, "colour": "red"},
]
PATH = "/v1/merchants/acme/catalog"


@pytest.fixture(scope="module")
def changed(filled: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedGateway]:
    """A gateway of this file's own, whose catalogs change."""
    home = tmp_path_factory.mktemp("changed") / "home"
    shutil.copytree(filled.home, home)
    settings = Settings(home, f"sqlite:///{home}/registry.db", str(home / "blobs"))
    with Registry.open(settings) as registry:
        keys = make_keys(registry)
    with serving(settings, home / "catalog.log", keys) as served:
        yield served


def ranked(gateway: ServedGateway, merchant: str = "acme") -> set[str]:
    answer = gateway.ask("/v1/rerank", {"model": f"{merchant}/products", "query": "cook", "top_n": 50}, key=merchant)
    assert answer.status_code == 200, answer.text
    return {one["document"]["id"] for one in answer.json()["results"]}


def cheap(gateway: ServedGateway, most: float) -> set[str]:
    body = {"model": "acme/products", "query": "cook", "k": 50, "rules": {"max_price": most}}
    return {one["id"] for one in gateway.ask("/v1/recommend", body).json()["data"]}


def put(gateway: ServedGateway, items: Any, *, method: str = "PUT", key: str = "acme-publish") -> dict[str, Any]:
    answer = gateway.ask(PATH, items, method=method, key=key)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_what_is_sent_is_what_the_next_answer_goes_by(changed: ServedGateway) -> None:
    assert changed.ask(PATH, key="acme-publish").status_code == 404  # that of its bundles
    theirs = ranked(changed, "rival")
    told = put(changed, SHOP)
    assert (told["merchant"], told["count"], told["object"]) == ("acme", 3, "catalog")
    assert ranked(changed) == {"tent", "stove", "axe"}
    assert cheap(changed, 60) == {"stove", "axe"}
    assert ranked(changed, "rival") == theirs
    shown = changed.ask(PATH, key="acme-publish").json()
    assert shown["items"] == SHOP
    assert shown["digest"] == told["digest"]

    patched = put(
        changed, {"items": {"stove": {"price": 99}, "axe": None, "pot": {"title": "Pot", "price": 9}}}, method="PATCH"
    )
    assert patched["digest"] != told["digest"]
    assert ranked(changed) == {"tent", "stove", "pot"}
    assert cheap(changed, 60) == {"pot"}
    put(changed, {"items": {"tent": {"in_stock": False}}}, method="PATCH", key="platform")
    assert ranked(changed) == {"stove", "pot"}
    put(changed, {"items": SHOP})
    assert ranked(changed) == {"tent", "stove", "axe"}


def test_who_may_send_it(changed: ServedGateway) -> None:
    for key in ("acme", "feedback", "rival", "rival-publish"):
        for method in ("GET", "PUT", "PATCH"):
            answer = changed.ask(PATH, SHOP if method != "GET" else None, method=method, key=key)
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "insufficient_scope"
    for merchant in ("nobody", "..%2Facme", "A", "a" * 100):
        sent = changed.ask(f"/v1/merchants/{merchant}/catalog", SHOP, method="PUT", key="platform")
        assert sent.status_code == 404, merchant
        code = "not_found" if "%2F" in merchant else "merchant_not_found"
        assert sent.json()["error"]["code"] == code
    assert changed.ask("/v1/merchants/nobody/catalog", SHOP, method="PUT", key="acme-publish").status_code == 403


@pytest.mark.parametrize(
    ("method", "body", "said"),
    [
        ("PUT", [{"id": "a"}, {"id": "b", "title": "B", "price": -1}], "title"),
        ("PUT", [{"id": "a", "title": "A"}, {"id": "a", "title": "B"}], "a"),
        ("PUT", [], "rows"),
        ("PUT", {"item": []}, "items"),
        ("PUT", {"items": {"a": {}}}, "a list of items"),
        ("PUT", "tent", "items"),
        ("PUT", [5], "5"),
        ("PATCH", {"items": []}, "an object of items by id"),
        ("PATCH", {"items": {"new": {"price": 5}}}, "title"),
        ("PATCH", {"items": {"tent": 5}}, "tent"),
        ("PATCH", {"items": {"tent": {"price": "cheap"}}}, "price"),
    ],
)
def test_bad_items_change_nothing(changed: ServedGateway, method: str, body: Any, said: str) -> None:
    put(changed, SHOP)
    answer = changed.ask(PATH, body, method=method, key="acme-publish")
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["error"]["message"]
    assert changed.ask(PATH, key="acme-publish").json()["items"] == SHOP


def test_a_hundred_thousand_items(changed: ServedGateway) -> None:
    many = [{"id": f"i{number}", "title": f"Thing {number}", "price": number / 100} for number in range(100_000)]
    assert put(changed, many)["count"] == 100_000
    body = {"model": "acme/products", "query": "Thing 77777", "k": 1}
    assert [one["id"] for one in changed.ask("/v1/recommend", body).json()["data"]] == ["i77777"]
    put(changed, {"items": {"i77777": {"in_stock": False}}}, method="PATCH")
    assert [one["id"] for one in changed.ask("/v1/recommend", body).json()["data"]] != ["i77777"]
    assert len(changed.ask(PATH, key="acme-publish").json()["items"]) == 100_000
    put(changed, SHOP)


def test_catalogs_are_worked_on_in_other_processes(changed: ServedGateway) -> None:
    put(changed, SHOP)  # one is there
    many = [{"id": f"i{number}", "title": f"Thing {number}", "price": number / 100} for number in range(100_000)]
    own, others = seconds(psutil.Process(changed.process.pid)), sum(map(seconds, catalog_processes(changed)))
    put(changed, many)
    put(changed, {"items": {"i77": {"in_stock": False}}}, method="PATCH")
    assert len(changed.ask(PATH, key="acme-publish").content) > 5_000_000
    own = seconds(psutil.Process(changed.process.pid)) - own
    others = sum(map(seconds, catalog_processes(changed))) - others
    put(changed, SHOP)
    assert own < others / 4  # of the processor, however long that took


def seconds(process: psutil.Process) -> float:
    """Of the processor that it has had."""
    times = process.cpu_times()
    return float(times.user + times.system)


def catalog_processes(gateway: ServedGateway) -> list[psutil.Process]:
    """Those that live, at least one; the log tells of each a moment after it was started."""
    while True:
        told = re.findall(r"catalogs are worked on: process (\d+)", gateway.log.read_text())
        if found := [psutil.Process(int(number)) for number in told if psutil.pid_exists(int(number))]:
            return found
        time.sleep(0.02)


def test_a_process_that_is_killed_takes_one_request_with_it_at_most(changed: ServedGateway) -> None:
    put(changed, SHOP)
    for one in (killed := catalog_processes(changed)):
        one.kill()
        one.wait()
    put(changed, SHOP)
    assert not {one.pid for one in killed} & {one.pid for one in catalog_processes(changed)}
    answers: list[Any] = []

    def send() -> None:
        answers.append(changed.ask(PATH, SHOP, method="PUT", key="acme-publish"))

    for one in (held := catalog_processes(changed)):
        one.suspend()
    sending = threading.Thread(target=send)
    sending.start()
    time.sleep(0.5)  # usually it is asked by now; if it is not, another process is
    for one in held:
        one.kill()
    sending.join()
    assert answers[0].status_code == 200 or (answers[0].status_code == 503 and answers[0].headers["retry-after"])
    put(changed, SHOP)


def test_a_body_that_is_no_json(changed: ServedGateway) -> None:
    for content in (b"[", b'[{"id": "a", "title": NaN}]', b"\xff", b'[{"id": "\\ud800", "title": "A"}]'):
        answer = changed.ask(PATH, method="PUT", key="acme-publish", content=content)
        assert answer.status_code == 422
        assert "JSON" in answer.json()["error"]["message"]


def begun(gateway: ServedGateway, content: bytes, size: int, *, path: str = PATH, key: str) -> socket.socket:
    """A connection that has sent a PUT of `size` bytes up to some part of it."""
    place = urlsplit(gateway.url)
    connection = socket.create_connection((place.hostname or "", place.port or 0))
    head = (
        f"PUT {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {gateway.keys[key]}\r\ncontent-length: {size}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    return connection


def answered(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and body of what comes back."""
    received = b""
    while b"}" not in received.partition(b"\r\n\r\n")[2]:
        received += connection.recv(65536)
    head, _, content = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(content)


@pytest.mark.parametrize("key", ["acme", "feedback", "rival-publish"])
def test_no_body_is_taken_from_who_may_not_send_it(changed: ServedGateway, key: str) -> None:
    with begun(changed, b"", 200_000_000, key=key) as connection:  # nothing of it was sent, and the answer is there
        assert connection.recv(65536).split()[1] == b"403"


def test_only_a_catalog_is_larger_than_a_megabyte(changed: ServedGateway) -> None:
    for path in ("/v1/catalog", "/v1/merchants/acme/x/catalog"):
        with begun(changed, b" " * 1_100_000, 200_000_000, path=path, key="platform") as connection:
            assert connection.recv(65536).split()[1] == b"413"


def test_large_catalogs_of_one_merchant_come_one_by_one(changed: ServedGateway) -> None:
    def catalog(item: str) -> bytes:
        return json.dumps([{"id": item, "title": item}]).encode() + b" " * 2_000_000

    theirs = f"{PATH.replace('acme', 'rival')}"
    first, second, other = catalog("first"), catalog("second"), catalog("other")
    with begun(changed, first[:1_500_000], len(first), key="acme-publish") as slow:
        with begun(changed, other, len(other), path=theirs, key="rival-publish") as another:
            assert answered(another)[0] == 200  # nobody else waits; and the gateway has read what was sent before
        with begun(changed, second[:500_000], len(second), key="acme-publish") as waiting:
            waiting.setblocking(True)
            put(changed, SHOP)  # small ones do not wait
            slow.sendall(first[1_500_000:])
            before = answered(slow)
            waiting.sendall(second[500_000:])
            after = answered(waiting)
    assert (before[0], after[0]) == (200, 200)
    assert before[1]["changed"] < after[1]["changed"]
    assert [one["id"] for one in changed.ask(PATH, key="acme-publish").json()["items"]] == ["second"]
