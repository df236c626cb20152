"""Rates, concurrency and token budgets by merchant: they hold at once, are told in headers, and are nobody else's."""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis import Redis
from tests.serve.operated import Operated, halted, operating, own_copy

from shopfit.registry import UNLIMITED, Limits, Registry
from shopfit.serve.key_guard import OPEN
from shopfit.serve.limits import RequestRates, WindowCounts
from shopfit.settings import Settings


@pytest.fixture(scope="module")
def operated(filled: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    with operating(own_copy(filled, tmp_path_factory.mktemp("limits") / "home")) as operated:
        yield operated


@pytest.fixture(autouse=True)
def unlimited(operated: Operated) -> Iterator[None]:
    """Each test begins without limits."""
    yield
    set_limits(operated, Limits())


def set_limits(operated: Operated, limits: Limits) -> None:
    """Change a merchant's limits, and wait until the gateway has seen it."""
    operated.registry.set_limits("acme", limits, actor="tests")
    wanted = {"requests": limits.requests_per_minute, "tokens": limits.tokens_per_day}
    while told(operated.classify()) != {name: str(most) for name, most in wanted.items() if most is not None}:
        time.sleep(0.02)


def told(answer: Any) -> dict[str, str]:
    start = "x-ratelimit-limit-"
    return {name.removeprefix(start): value for name, value in answer.headers.items() if name.startswith(start)}


def test_no_more_requests_a_minute_than_that(operated: Operated) -> None:
    assert "x-ratelimit-limit-requests" not in operated.classify().headers
    set_limits(operated, Limits(requests_per_minute=1000))
    answer = operated.classify()
    left = int(answer.headers["x-ratelimit-remaining-requests"])
    assert answer.headers["x-ratelimit-limit-requests"] == "1000"
    assert 0 < left < 1000
    assert 0 < int(answer.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 120
    assert int(operated.classify().headers["x-ratelimit-remaining-requests"]) < left
    before = operated.counted("shopfit_limited_requests_total", limit="requests")
    set_limits(operated, Limits(requests_per_minute=1))  # of the same key, which the gateway knows
    refused = operated.classify()
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 120  # what came under the old limit counts
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert "requests a minute, at most 1)" in refused.json()["error"]["message"]
    assert operated.counted("shopfit_limited_requests_total", limit="requests") > before
    assert operated.classify(model="rival/sentiment", key="rival").status_code == 200
    assert operated.classify(key="platform").status_code == 429  # whoever asks, it is this merchant's
    assert operated.classify(model="acme/unknown").status_code == 429  # no way to look up names without end
    assert operated.gateway.ask("/v1/models/acme/unknown").status_code == 429  # nor here
    assert operated.gateway.ask("/v1/models").status_code == 429
    assert operated.gateway.ask("/v1/models", key="rival").status_code == 200
    set_limits(operated, Limits(requests_per_minute=100_000))
    assert operated.classify().status_code == 200


def test_every_request_that_needs_a_key_counts(operated: Operated) -> None:
    set_limits(operated, Limits(requests_per_minute=0))
    paths = operated.gateway.ask("/openapi.json").json()["paths"]
    asked = [(method.upper(), path) for path, methods in paths.items() if path not in OPEN for method in methods]
    assert len(asked) > 15
    for method, path in [*asked, ("GET", "/v1/nowhere")]:
        place = path.replace("{merchant}", "acme").replace("{model}", "acme/sentiment")
        refused = operated.gateway.ask(place, None if method == "GET" else {}, method=method)
        assert refused.status_code == 429, (method, path)
        assert 1 <= int(refused.headers["retry-after"]) <= 120
        assert refused.headers["x-ratelimit-limit-requests"] == "0"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert refused.headers["x-ratelimit-reset-requests"].endswith("s")
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert operated.gateway.ask("/health").status_code == 200
    assert operated.gateway.ask("/v1/models", key="rival").status_code == 200


@pytest.mark.proof
def test_requests_with_keys_of_the_platform_count_together(
    filled: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = own_copy(filled, tmp_path_factory.mktemp("platform") / "home")
    with operating(home, "--platform-requests-per-minute", "1") as one:
        for path in ("/v1/models", "/v1/releases", "/metrics", "/v1/merchants/acme/catalog"):
            while (refused := one.gateway.ask(path, key="platform")).status_code != 429:
                assert refused.status_code in {200, 404}, path
            assert refused.headers["x-ratelimit-limit-requests"] == "1"
            assert "the platform's keys have used up" in refused.json()["error"]["message"]
            assert one.classify().status_code == 200


def test_no_more_tokens_a_day_than_that(operated: Operated) -> None:
    set_limits(operated, Limits(tokens_per_day=10**9))
    before = left(operated)
    operated.classify("a much longer text than the others")
    assert 0 < left(operated) < before
    set_limits(operated, Limits(tokens_per_day=1))
    refused = operated.classify()
    assert refused.status_code == 429
    assert "tokens a day of UTC, at most 1)" in refused.json()["error"]["message"]
    assert 0 < int(refused.headers["retry-after"]) <= 24 * 3600
    assert operated.gateway.ask("/v1/models").status_code == 200  # what costs no tokens goes on
    assert operated.classify(model="rival/sentiment", key="rival").status_code == 200
    while not operated.registry.usage(datetime.now(UTC).date()).get("acme"):
        time.sleep(0.02)


def left(operated: Operated) -> int:
    return int(operated.classify().headers["x-ratelimit-remaining-tokens"])


def test_what_another_gateway_used_counts(operated: Operated) -> None:
    set_limits(operated, Limits(tokens_per_day=10**9))
    operated.registry.add_usage({"acme": 10**9}, datetime.now(UTC).date())
    while operated.classify().status_code != 429:
        time.sleep(0.02)
    operated.registry.set_limits("acme", Limits(), actor="tests")
    while operated.classify().status_code != 200:
        time.sleep(0.02)


def test_no_more_requests_at_a_time_than_that(operated: Operated) -> None:
    operated.registry.set_limits("acme", Limits(concurrent=0), actor="tests")
    while (refused := operated.classify()).status_code != 429:
        time.sleep(0.02)
    assert "requests at the same time, at most 0)" in refused.json()["error"]["message"]
    operated.registry.set_limits("acme", Limits(concurrent=1), actor="tests")
    while operated.classify().status_code != 200:
        time.sleep(0.02)
    assert [operated.classify().status_code for _ in range(5)] == [200] * 5  # each one was over


def test_a_request_whose_client_went_away_is_under_way_no_more(operated: Operated) -> None:
    for concurrent, status in ((0, 429), (1, 200)):  # so that the gateway has surely seen it
        operated.registry.set_limits("acme", Limits(concurrent=concurrent), actor="tests")
        while operated.classify().status_code != status:
            time.sleep(0.02)
    host, port = operated.gateway.url.removeprefix("http://").split(":")
    body = json.dumps({"model": "acme/sentiment", "input": "lovely crema"})
    head = "POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    head += f"content-length: {len(body)}\r\nauthorization: Bearer {operated.gateway.keys['acme']}\r\n\r\n"
    with halted(operated.engines()["encoder"]):
        with socket.create_connection((host, int(port))) as client:
            client.sendall((head + body).encode())
            while operated.counted("shopfit_engine_requests") != 1:
                time.sleep(0.02)
            assert operated.classify().status_code == 429
            assert operated.gateway.ask("/v1/models").status_code == 429
            assert operated.counted("shopfit_engine_running") == 2  # though one says nothing
        while operated.counted("shopfit_engine_requests") != 0:
            time.sleep(0.02)
    assert operated.classify().status_code == 200


@pytest.mark.parametrize("who", ["the client leaves", "the engine dies"])
def test_a_stream_that_breaks_off_costs_what_was_read_and_written(operated: Operated, who: str) -> None:
    operated.registry.set_limits("rival", Limits(tokens_per_day=10**9), actor="tests")
    body: dict[str, Any] = {"model": "rival/words", "prompt": "keep warm " * 20, "max_tokens": 400}
    long = {"json_schema": {"type": "string", "minLength": 350, "maxLength": 400}, "stream": True, "n": 4}
    while "x-ratelimit-limit-tokens" not in operated.classify(model="rival/words", key="rival").headers:
        time.sleep(0.02)
    while (whole := operated.gateway.ask("/v1/completions", body | {"max_tokens": 1}, key="rival")).status_code != 200:
        time.sleep(0.02)  # an engine that died before is back
    read, before = whole.json()["usage"]["prompt_tokens"], used(operated)
    headers = {"authorization": f"Bearer {operated.gateway.keys['rival']}"}
    url = f"{operated.gateway.url}/v1/completions"
    with httpx2.stream("POST", url, json=body | long, headers=headers, timeout=None) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        begun: set[int] = set()
        while len(begun) < 4:
            if (line := next(lines)).startswith("data: "):
                begun |= {choice["index"] for choice in json.loads(line.removeprefix("data: "))["choices"]}
        if who == "the engine dies":
            operated.engines()["tiny"].kill()
            assert "ended" in [line for line in lines if line.startswith("data: ")][-1]
    while used(operated) - before < 4 * (read + 1):
        time.sleep(0.02)
    operated.registry.set_limits("rival", Limits(), actor="tests")


def used(operated: Operated) -> int:
    """Tokens of the rival, told by a request that costs none."""
    answer = operated.classify(model="rival/words", key="rival")  # which classifies nothing
    assert answer.status_code == 422
    return 10**9 - int(answer.headers["x-ratelimit-remaining-tokens"])


def test_a_merchant_without_its_own_has_the_platforms(
    filled: Settings, tmp_path_factory: pytest.TempPathFactory, redis: str
) -> None:
    home = own_copy(filled, tmp_path_factory.mktemp("defaults") / "home")
    with Registry.open(home) as registry:  # other tests may have asked on the registry that this is a copy of
        most = registry.usage(datetime.now(UTC).date()).get("acme", 0) + 1
    with operating(home, "--requests-per-minute", "1", "--limits", redis, "--tokens-per-day", str(most)) as one:
        Redis.from_url(redis).shutdown(nosave=True)  # rates go uncounted, and nobody is refused for it
        assert one.classify().status_code == 200
        while (refused := one.classify()).status_code == 200:
            time.sleep(0.02)
        assert f"tokens a day of UTC, at most {most:,})" in refused.json()["error"]["message"]
        one.registry.set_limits("acme", Limits(tokens_per_day=10**9), actor="tests")
        while one.classify().status_code != 200:
            time.sleep(0.02)


def test_a_limit_of_its_own_leaves_the_others_as_they_are(
    filled: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = own_copy(filled, tmp_path_factory.mktemp("inherited") / "home")
    with operating(home, "--requests-per-minute", "100000", "--tokens-per-day", str(10**9)) as one:
        usual = {"requests": "100000", "tokens": str(10**9)}
        assert told(one.classify()) == usual
        for limits, wanted in (
            (Limits(tokens_per_day=10**8), usual | {"tokens": str(10**8)}),
            (Limits(requests_per_minute=50_000), usual | {"requests": "50000"}),
            (Limits(requests_per_minute=UNLIMITED), {"tokens": usual["tokens"]}),
            (Limits(concurrent=1), usual),
            (Limits(tokens_per_day=UNLIMITED), {"requests": usual["requests"]}),
            (Limits(UNLIMITED, UNLIMITED, UNLIMITED), {}),
            (Limits(), usual),
        ):
            one.registry.set_limits("acme", limits, actor="tests")
            while told(one.classify()) != wanted:
                time.sleep(0.02)


def test_zero_lets_nothing_through_and_is_no_option(operated: Operated) -> None:
    operated.registry.set_limits("acme", Limits(requests_per_minute=0), actor="tests")
    while operated.gateway.ask("/v1/models").status_code != 429:
        time.sleep(0.02)
    for option in ("requests-per-minute", "concurrent", "tokens-per-day", "platform-requests-per-minute"):
        command = [sys.executable, "-m", "shopfit", "serve", "--port", "0", f"--{option}", "0"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert f"--{option} is 0 (allowed: 1 to" in done.stderr
        assert "no limit without the option" in done.stderr


@pytest.mark.parametrize("address", ["memcached://127.0.0.1", "nowhere", "redis://:secret@127.0.0.1:nine"])
def test_a_place_that_cannot_count(address: str) -> None:
    command = [sys.executable, "-m", "shopfit", "serve", "--port", "0", "--limits", address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--limits is" in done.stderr
    assert "memory://" in done.stderr or "cannot be used" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("last", "last_ends", "running", "running_ends", "most", "now", "wait"),
    [
        (0, 0.0, 0, 120.0, 5, 0, 0.0),
        (0, 0.0, 0, 120.0, 0, 0, 60.0),
        (0, 0.0, 5, 90.0, 5, 5, 30.0),  # from the next minute on they fade
        (0, 0.0, 10, 90.0, 5, 10, 60.0),  # and half of them is gone after half of it
        (60, 30.0, 0, 90.0, 30, 30, 0.0),  # one is gone the next moment
        (60, 30.0, 10, 90.0, 20, 40, 20.0),
    ],
)
def test_when_there_is_room_again(
    last: int, last_ends: float, running: int, running_ends: float, most: int, now: int, wait: float
) -> None:
    counts = WindowCounts(last, last_ends, running, running_ends)
    assert (counts.now, counts.wait(most)) == (now, pytest.approx(wait))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """A throw-away Redis; its URL."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("Redis is not installed (Debian: apt-get install redis-server)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    assert server.poll() is None
                    time.sleep(0.02)
            yield f"redis://127.0.0.1:{port}"
        finally:
            server.terminate()


def test_gateways_share_the_rates_of_a_redis(redis: str) -> None:
    async def take() -> list[tuple[bool, int]]:
        one, two = RequestRates(redis), RequestRates(redis)
        return [(await rates.take("acme", 3))[:2] for rates in (one, two, one, two)]

    assert asyncio.run(take()) == [(True, 2), (True, 1), (True, 0), (False, 0)]


def test_in_memory_each_counts_by_itself_and_by_merchant() -> None:
    async def take() -> list[bool]:
        one, two = RequestRates("memory://"), RequestRates("memory://")
        asked = [(one, "acme"), (one, "acme"), (one, "rival"), (two, "acme")]
        return [(await rates.take(merchant, 1))[0] for rates, merchant in asked]

    taken = asyncio.run(take())
    assert (taken[0], taken[2:]) == (True, [True, True])  # the second has room if its minute has just begun
