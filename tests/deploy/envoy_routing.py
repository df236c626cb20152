"""Envoy as compose has it: an adapter's requests go to one server, to the other when that is gone."""

import subprocess
from collections import Counter
from pathlib import Path

from tests.deploy.envoy_process import ask, envoy, free_port, start_server, stop_server
from tests.deploy.manifests import compose

ADAPTERS = [f"shop-{number}/review-sentiment@1" for number in range(64)]
PATH = "/v1/completions"
CLOSED = (
    "/v1/chat/completions",
    "/v1/load_lora_adapter",
    "/v1/models",
    "/tokenize",
    "//v1/load_lora_adapter",
    "/v1/completions/../load_lora_adapter",
    "/v1/completions%2f..%2fload_lora_adapter",
)


def check_routing(program: Path, file: Path) -> str:
    """Check that adapters stay at their servers, or move when these are gone, and that no other route is open.

    Args:
        program: Envoy's.
        file: its configuration.

    Returns:
        what was seen, in a few words.
    """
    servers = [start_server() for _ in range(2)]
    there = {
        f"address: vllm-{number}, port_value: 8000": f"address: 127.0.0.1, port_value: {server.server_address[1]}"
        for number, server in enumerate(servers)
    }
    ports = {9901: free_port(), 8080: free_port(), 9902: free_port()}
    port = ports[8080]
    with envoy(program, file, ports, there):
        asked = [word.replace("9902", str(ports[9902])) for word in compose()["envoy"]["healthcheck"]["test"][1:]]
        assert subprocess.run(asked, check=False).returncode == 0, asked
        homes = {adapter: ask(port, PATH, x_shopfit_adapter=adapter) for adapter in ADAPTERS}
        assert {status for status, _ in homes.values()} == {200}
        for _ in range(3):
            assert {adapter: ask(port, PATH, x_shopfit_adapter=adapter) for adapter in ADAPTERS} == homes
        spread = Counter(home for _, home in homes.values())
        assert len(spread) == len(servers), spread
        assert min(spread.values()) >= len(ADAPTERS) // 8, spread
        assert ask(port, PATH) == (404, 0)  # without the header that says where to
        for path in CLOSED:
            status, answered = ask(port, path, x_shopfit_adapter=ADAPTERS[0])
            assert (status in {400, 404}, answered) == (True, 0), (path, status)
        stop_server(servers[0])
        moved = Counter(ask(port, PATH, x_shopfit_adapter=adapter) for adapter in ADAPTERS)
        assert moved.keys() == {(200, servers[1].server_address[1])}, moved
    stop_server(servers[1])
    shares = "/".join(map(str, spread.values()))
    return f"{len(ADAPTERS)} adapters stay at their server ({shares}), or move when it is gone"
