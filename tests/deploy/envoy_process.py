"""Envoy as a process, with a configuration of deploy/ at free ports of this machine, and servers behind it."""

import contextlib
import http.client
import json
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # a connection a request: a server that is gone is gone at once

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        chunked = self.headers.get("transfer-encoding") == "chunked"
        self._answer(self._chunks() if chunked else self.rfile.read(int(self.headers.get("content-length", "0"))))

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, asked: bytes) -> None:
        told = {"port": self.connection.getsockname()[1], "path": self.path, "asked": asked.decode()}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def start_server() -> ThreadingHTTPServer:
    """A server that answers with its port and what it was asked."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def stop_server(server: ThreadingHTTPServer) -> None:
    """Nothing listens there any more."""
    server.shutdown()
    server.server_close()


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextlib.contextmanager
def envoy(
    program: Path, file: Path, ports: Mapping[int, int], addresses: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Envoy, ready.

    Args:
        program: Envoy's.
        file: its configuration.
        ports: those to listen at, or to ask, instead of the ones in it.
        addresses: what to write instead of other texts in it.
    """
    text = file.read_text().replace("0.0.0.0", "127.0.0.1")
    for known, other in (addresses or {}).items():
        assert known in text, known
        text = text.replace(known, other)
    for known_port, port in ports.items():
        assert f"port_value: {known_port}" in text, known_port
        text = text.replace(f"port_value: {known_port}", f"port_value: {port}")
    with tempfile.TemporaryDirectory() as folder:
        configuration, log = Path(folder) / "envoy.yaml", Path(folder) / "log"
        configuration.write_text(text)
        arguments = ["--config-path", str(configuration), "--log-level", "warn", "--disable-hot-restart"]
        with log.open("wb") as said:
            process = subprocess.Popen(
                [str(program), *arguments, "--concurrency", "1"], stdout=said, stderr=subprocess.STDOUT
            )
        try:
            _wait_until_ready(ports[9902], process)
            yield
        except BaseException:
            print(log.read_text(errors="replace")[-4000:])
            raise
        finally:
            process.terminate()
            process.wait(30)


def ask(port: int, path: str, body: bytes = b"{}", **headers: str) -> tuple[int, int]:
    """The status, and the port of the server that answered with what it was asked; 0 if none did."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, named)
        answer = connection.getresponse()
        said = answer.read()
    if answer.status != 200:
        return answer.status, 0
    told = json.loads(said)
    assert told["asked"] == body.decode()
    return 200, told["port"]


def _wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "Envoy ended"
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", "/ready")
                if connection.getresponse().status == 200:
                    return
        time.sleep(0.1)
    raise AssertionError("Envoy does not come up")
