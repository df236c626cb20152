"""Envoy with the configuration that compose uses, before two servers on real sockets."""

import contextlib
import http.client
import json
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.deploy.manifests import compose

ADAPTERS = [f"shop-{number}/review-sentiment@1" for number in range(64)]
PATH = "/v1/completions"


class _Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # a connection a request: a server that is gone is gone at once

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", "0")))
        self._answer()

    def _answer(self) -> None:
        body = json.dumps({"port": self.server.server_address[1], "path": self.path}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextlib.contextmanager
def _envoy(program: Path, configuration: str) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        file, log = Path(folder) / "envoy.yaml", Path(folder) / "log"
        file.write_text(configuration)
        with log.open("wb") as said:
            command = [
                program,
                "--config-path",
                file,
                "--log-level",
                "warn",
                "--disable-hot-restart",
                "--concurrency",
                "1",
            ]
            process = subprocess.Popen(list(map(str, command)), stdout=said, stderr=subprocess.STDOUT)
        try:
            yield
        except BaseException:
            print(log.read_text(errors="replace")[-4000:])
            raise
        finally:
            process.terminate()
            process.wait(30)


def _ask(port: int, path: str, adapter: str | None, method: str = "POST") -> tuple[int, int]:
    """The status, and the port of the server that answered, or 0."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        headers = {} if adapter is None else {"x-shopfit-adapter": adapter}
        connection.request(method, path, None if method == "GET" else b"{}", headers)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body)["port"] if answer.status == 200 and body.startswith(b"{") else 0


def _wait_until_ready(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError, http.client.HTTPException):
            if _ask(port, "/ready", None, "GET")[0] == 200:
                return
        time.sleep(0.1)
    raise AssertionError("Envoy does not come up")


def check_routing(program: Path, file: Path) -> str:
    """Check that an adapter's requests go to one server, to the other when that is gone, and no other route is open.

    Args:
        program: Envoy's.
        file: its configuration; addresses and ports in it are replaced by free ones of this machine.

    Returns:
        what was seen, in a few words.
    """
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Server) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ports = {name: _free_port() for name in ("admin", "models", "watch")}
    text = file.read_text().replace("0.0.0.0", "127.0.0.1")
    for name, known in (("admin", "9901"), ("models", "8080"), ("watch", "9902")):
        text = text.replace(f"port_value: {known}", f"port_value: {ports[name]}")
    for number, server in enumerate(servers):
        there = f"address: 127.0.0.1, port_value: {server.server_address[1]}"
        text = text.replace(f"address: vllm-{number}, port_value: 8000", there)
    with _envoy(program, text):
        _wait_until_ready(ports["watch"])
        asked = [word.replace("9902", str(ports["watch"])) for word in compose()["envoy"]["healthcheck"]["test"][1:]]
        assert subprocess.run(asked, check=False).returncode == 0, asked
        homes = {adapter: _ask(ports["models"], PATH, adapter) for adapter in ADAPTERS}
        assert {status for status, _ in homes.values()} == {200}
        for _ in range(3):
            assert {adapter: _ask(ports["models"], PATH, adapter) for adapter in ADAPTERS} == homes
        spread = Counter(port for _, port in homes.values())
        assert min(spread.values()) >= len(ADAPTERS) // 8, spread
        assert len(spread) == len(servers), spread
        for path, adapter in (
            (PATH, None),
            ("/v1/load_lora_adapter", ADAPTERS[0]),
            ("/v1/models", ADAPTERS[0]),
            ("/v1/chat/completions", ADAPTERS[0]),
            ("/tokenize", ADAPTERS[0]),
            ("//v1/load_lora_adapter", ADAPTERS[0]),
            ("/v1/completions/../load_lora_adapter", ADAPTERS[0]),
            ("/v1/completions%2f..%2fload_lora_adapter", ADAPTERS[0]),
        ):
            status, port = _ask(ports["models"], path, adapter)
            assert (status in {400, 404}, port) == (True, 0), (path, status)
        servers[0].shutdown()
        servers[0].server_close()
        left = servers[1].server_address[1]
        moved = Counter(_ask(ports["models"], PATH, adapter) for adapter in ADAPTERS)
        assert moved.keys() == {(200, left)}, moved
    servers[1].shutdown()
    servers[1].server_close()
    shares = "/".join(map(str, spread.values()))
    return f"{len(ADAPTERS)} adapters stay at their server ({shares}), or move when it is gone"
