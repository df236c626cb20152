"""The gateway on real sockets, with engine processes, against the engine in the same process as its caller.

`make bench-gateway`: encoder minilm-l6 and decoder smollm2-135m, adapters with random weights, the load generator in a
process of its own. SHOPFIT_BENCH_SECONDS and SHOPFIT_BENCH_ADAPTERS change the soak's 60 s and 1,000 adapters.
"""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import quantiles
from typing import Any

import psutil

from shopfit.base.load import load_base
from shopfit.engine import ChooseRequest, Engine
from shopfit.libraries import quiet
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry
from shopfit.settings import Settings
from tests.bench.random_adapters import random_adapters
from tests.bench.results import Row, publish

SECONDS = float(os.environ.get("SHOPFIT_BENCH_SECONDS", "60"))
ADAPTERS = int(os.environ.get("SHOPFIT_BENCH_ADAPTERS", "1000"))
MERCHANTS, CLIENTS, SOAKING, ONE_BY_ONE, MANY = 100, 32, 64, 600, 1500
TEXT = "a warm light tent for two in the rain"


class Gateway:
    """`shopfit serve` as a process on a free port.

    Args:
        settings: where its registry is.
    """

    def __init__(self, settings: Settings, port: int = 0) -> None:
        home = Settings.from_environment().home
        places = {"SHOPFIT_HOME": str(home), "SHOPFIT_REGISTRY": settings.registry, "SHOPFIT_BLOBS": settings.blobs}
        command = [sys.executable, "-m", "shopfit", "serve", "--port", str(port), "--drain", "9"]
        self.began = time.perf_counter()
        self.process = subprocess.Popen(command, env=os.environ | places, stderr=subprocess.PIPE, text=True)
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        while (found := re.search(r"http://[\d.]+:(\d+)", line := self.lines.get(timeout=60))) is None:
            print(line, end="", file=sys.stderr)
        self.url, self.port, self.log = found[0], int(found[1]), ""

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.put(line)

    def ask(self, path: str, key: str, body: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
        """One request; status, document and headers."""
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.load(answer), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error), dict(error.headers)

    def wait(self) -> None:
        """Until it is ready."""
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/ready"):
                    return
            except OSError:
                time.sleep(0.05)

    def end(self) -> float:
        """Seconds from SIGTERM to its end."""
        began = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        return time.perf_counter() - began

    @property
    def engine(self) -> int:
        """Number of its newest engine process."""
        while True:
            self.log += "".join(self.lines.get_nowait() for _ in range(self.lines.qsize()))
            if found := re.findall(r"is ready: process (\d+)", self.log):
                return int(found[-1])
            time.sleep(0.05)


class Load:
    """The load generator."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.bench.load"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begin(self, **order: Any) -> None:
        """Give it an order."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """What came of it."""
        assert self._process.stdout is not None
        result: dict[str, Any] = json.loads(self._process.stdout.readline())
        return result


def measure() -> list[Row]:
    """The rows of this benchmark."""
    rows = []
    for name in ("minilm-l6", "smollm2-135m"):
        base = load_base(name, Settings.from_environment().home)
        recipes = {"choose": _recipe(name)}
        with random_adapters(base, recipes, MERCHANTS) as settings, Registry.open(settings) as registry:
            key = registry.create_key(None, scopes=["admin"], actor="bench").token
            before = _direct(base, registry, settings)
            compared = _compared(settings, key)
            after = _direct(base, registry, settings)  # the machine is not the same from minute to minute
            del base
            rows += _rows(name, compared, [before, after])
            if name == "minilm-l6":
                rows.append(_promotion(settings, registry, key))
    base = load_base("minilm-l6", Settings.from_environment().home)
    with random_adapters(base, {"choose": _recipe("minilm-l6")}, ADAPTERS) as settings:
        del base
        with Registry.open(settings) as registry:
            key = registry.create_key(None, scopes=["admin"], actor="bench").token
        rows += _soak(settings, key)
    return rows


def _recipe(base: str) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "choose",
            "task": "choose",
            "base": base,
            "data": {"file": "x.jsonl"},
            "prompt": {"template": "Review: {text}\nSentiment:"},
            "evaluate": {"metric": "auc"},
        }
    )


def _direct(base: Any, registry: Registry, settings: Settings) -> tuple[list[float], float]:
    """The engine called in this process: milliseconds one by one, and requests a second with 32 under way."""
    with Engine(base, registry=registry, cache=settings.cache) as engine:

        def one(number: int) -> float:
            began = time.perf_counter()
            engine.submit(ChooseRequest(f"m{number % MERCHANTS}/choose", {"text": TEXT})).result()
            return 1e3 * (time.perf_counter() - began)

        for number in range(MERCHANTS):
            one(number)
        latencies = [one(number) for number in range(ONE_BY_ONE)]
        numbers = iter(range(MANY))
        lock = threading.Lock()

        def client() -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                one(number)

        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return latencies, MANY / (time.perf_counter() - began)


def _compared(settings: Settings, key: str) -> tuple[float, dict[str, Any], dict[str, Any]]:
    """Over HTTP: seconds to the first answer, what came of requests one by one, and of those of 32 clients."""
    asks = [("/v1/classify", key, {"model": f"m{number}/choose", "input": TEXT}) for number in range(MERCHANTS)]
    with _running(settings) as gateway:
        load = Load()
        status = 0
        while status != 200:
            status, *_ = gateway.ask(*asks[0])
        first = time.perf_counter() - gateway.began
        load.begin(url=gateway.url, clients=1, requests=MERCHANTS, asks=asks)
        load.end()
        load.begin(url=gateway.url, clients=1, requests=ONE_BY_ONE, asks=asks)
        single = load.end()
        load.begin(url=gateway.url, clients=CLIENTS, requests=MANY, asks=asks)
        many = load.end()
    assert set(single["statuses"]) == set(many["statuses"]) == {"200"}, (single["errors"], many["errors"])
    return first, single, many


def _rows(
    base: str, compared: tuple[float, dict[str, Any], dict[str, Any]], direct: Sequence[tuple[list[float], float]]
) -> list[Row]:
    """The rows of a base.

    Args:
        base: its name.
        compared: what came of requests over HTTP.
        direct: what came of them without it, before and after: the better ones count.
    """
    first, single, many = compared
    (p50, own50), (p99, own99) = (
        (_share(single["latencies"], share), min(_share(latencies, share) for latencies, _ in direct))
        for share in (50, 99)
    )
    rate, own = MANY / many["seconds"], max(rate for _, rate in direct)
    what = f"{CLIENTS} clients, {MERCHANTS} merchants, {base}; peer: the engine's own"
    return [
        Row(f"`shopfit serve` to the first answer, {base}", first, None, "s", "under 10 s", first < 10),
        Row(f"a request, p50, {base}; peer: without HTTP", p50, own50, "ms", "1 ms more", p50 - own50 < 1, p50 / own50),
        Row(f"a request, p99, {base}; peer: without HTTP", p99, own99, "ms", "5 ms more", p99 - own99 < 5, p99 / own99),
        Row(f"classify, {what}", rate, own, "1/s", "at least 0.95x", rate >= 0.95 * own, rate / own),
    ]


def _promotion(settings: Settings, registry: Registry, key: str) -> Row:
    """From `promote` to the first answer by the new version, asked by a client that asks all the time."""
    with _running(settings) as gateway:
        worst = 0.0
        for turn in range(10):
            merchant = f"m{turn}"
            body = {"model": f"{merchant}/choose", "input": TEXT}
            gateway.ask("/v1/classify", key, body)
            bundle = registry.fetch(registry.resolve(f"{merchant}/choose"), settings.cache)
            version = registry.publish(bundle, promote=False, actor="bench")
            began = time.perf_counter()
            registry.promote(version.name, actor="bench")
            while gateway.ask("/v1/classify", key, body)[2]["x-shopfit-version"] != version.name:
                pass
            worst = max(worst, time.perf_counter() - began)
    return Row("promote to first answer by the new version, worst of 10", worst, None, "s", "under 1.5 s", worst < 1.5)


def _soak(settings: Settings, key: str) -> list[Row]:
    """64 clients on all adapters; in the middle one SIGTERM with a restart, and one kill -9 of an engine."""
    asks = [("/v1/classify", key, {"model": f"m{number}/choose", "input": TEXT}) for number in range(ADAPTERS)]
    with _running(settings) as gateway:
        gateway.wait()
        load = Load()
        load.begin(url=gateway.url, clients=4, requests=ADAPTERS, asks=asks)
        alone = load.end()
        before = psutil.Process(gateway.process.pid).cpu_times()
        time.sleep(10)
        after = psutil.Process(gateway.process.pid).cpu_times()
        idle = (after.user + after.system - before.user - before.system) / 10
        load.begin(url=gateway.url, clients=SOAKING, seconds=SECONDS, asks=asks)
        time.sleep(SECONDS / 3)
        os.kill(gateway.engine, signal.SIGKILL)
        time.sleep(SECONDS / 3)
        drain = gateway.end()
        again = Gateway(settings, gateway.port)
        result = load.end()
        again.end()
    expected = alone["versions"]
    wrong = sum(
        version[0] != expected[place][0][0] or _far(version[1], expected[place][0][1])
        for place, versions in result["versions"].items()
        for version in versions
    )
    statuses = {int(status): count for status, count in result["statuses"].items()}
    told = sum(count for status, count in statuses.items() if status not in (0, 200))
    print("soak:", statuses, result["errors"])
    what = f"{SOAKING} clients x {SECONDS:g} s x {ADAPTERS} adapters, kill -9 and restart"
    return [
        Row(f"idle gateway, {ADAPTERS} known adapters", 100 * idle, None, "% CPU", "under 1 %", idle < 0.01),
        Row(f"{what}: answered", float(statuses.get(200, 0)), None, "", "", None),
        Row(f"{what}: wrong-merchant answers", float(wrong), None, "", "0", wrong == 0),
        Row(f"{what}: told to come again", float(told), None, "", "", None),
        Row(f"{what}: connections refused or broken", float(statuses.get(0, 0)), None, "", "", None),
        Row("SIGTERM to the end, under that load", drain, None, "s", "under 10 s", drain < 10),
    ]


@contextmanager
def _running(settings: Settings) -> Iterator[Gateway]:
    gateway = Gateway(settings)
    try:
        yield gateway
    finally:
        if gateway.process.poll() is None:
            gateway.end()


def _share(values: Sequence[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def _far(one: dict[str, float], other: dict[str, float]) -> bool:
    return one.keys() != other.keys() or any(abs(one[name] - other[name]) > 1e-3 for name in one)


if __name__ == "__main__":
    quiet()
    publish("bench-gateway", measure())
