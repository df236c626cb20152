"""What lies in deploy/, read."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"


def read(file: str | Path) -> Any:
    """One YAML document of deploy/."""
    return yaml.safe_load((DEPLOY / file).read_text())


def compose() -> dict[str, Any]:
    """The services of compose.yaml by name."""
    services: dict[str, Any] = read("compose.yaml")["services"]
    return services


def objects(*kinds: str) -> list[dict[str, Any]]:
    """Every Kubernetes object of these kinds, or of all."""
    files = sorted(file for file in KUBERNETES.glob("*.yaml") if file.name != "kustomization.yaml")
    found = [one for file in files for one in yaml.safe_load_all(file.read_text())]
    return [one for one in found if not kinds or one["kind"] in kinds]


def deployment(name: str) -> dict[str, Any]:
    """One Deployment."""
    return next(one for one in objects("Deployment") if one["metadata"]["name"] == name)


def containers(one: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a Deployment."""
    pod = one["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def option(arguments: list[str], name: str) -> str:
    """The value of `--name=value` among arguments."""
    return next(one.partition("=")[2] for one in arguments if one.startswith(f"--{name}="))


def seconds(text: str) -> int:
    """Of a duration such as 45s."""
    found = re.fullmatch(r"(\d+)s", text)
    assert found, text
    return int(found[1])


def seconds_to_end(arguments: list[str]) -> int:
    """That a gateway or a vLLM server may take for what is under way, by its arguments."""
    name = "drain" if "serve" in arguments else "shutdown-timeout"
    return int(option(arguments, name))


def instructions(file: str | Path) -> list[tuple[str, str]]:
    """Of a Dockerfile of deploy/: each one's name and what follows, on one line."""
    lines = [line for line in (DEPLOY / file).read_text().splitlines() if not line.startswith("#")]
    found = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            found.append((name, re.sub(r"\s+", " ", rest)))
    return found
