"""The images: nobody in them is root, and what they copy and start is there."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from tests.deploy.manifests import DEPLOY, ROOT, compose, deployment, instructions, option

FILES = [DEPLOY / "Dockerfile", DEPLOY / "Dockerfile.vllm"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_runs_as_a_user_by_number(file: Path) -> None:
    users = [rest for name, rest in instructions(file) if name == "USER"]
    assert users[-1] == "10001:10001"  # a number, so that Kubernetes can tell that it is not root


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_copies_only_what_is_there_and_not_left_out(file: Path) -> None:
    allowed = (DEPLOY / f"{file.name}.dockerignore").read_text().splitlines()
    copied = [rest.split()[0] for name, rest in instructions(file) if name == "COPY" and "--from" not in rest]
    assert copied
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in allowed
    assert allowed[0] == "*"


def test_the_gateways_image_has_what_the_deployment_needs() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    extras = re.search(r"'\.\[(.*)\]'", text)
    assert extras
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras[1].split(",")) == {"serve", "otel", "postgres", "s3"}
    assert set(extras[1].split(",")) <= known.keys()
    assert "ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu" in text


def test_the_gateway_listens_where_its_health_is_asked() -> None:
    parts = dict(instructions(DEPLOY / "Dockerfile"))
    assert json.loads(parts["ENTRYPOINT"]) + json.loads(parts["CMD"])[:1] == ["shopfit", "serve"]
    assert "127.0.0.1:8000/health" in parts["HEALTHCHECK"]
    assert parts["EXPOSE"] == "8000"


def vllm_arguments() -> dict[str, list[str]]:
    container = deployment("vllm")["spec"]["template"]["spec"]["containers"][0]
    return {
        "image": json.loads(dict(instructions(DEPLOY / "Dockerfile.vllm"))["CMD"]),
        "compose": compose()["vllm-0"]["command"],
        "kubernetes": container["args"],
    }


@pytest.mark.parametrize(("where", "arguments"), vllm_arguments().items())
def test_vllm_is_started_as_our_resolver_needs_it(where: str, arguments: list[str]) -> None:
    image = (DEPLOY / "Dockerfile.vllm").read_text()
    assert "--enable-lora" in arguments
    assert option(arguments, "api-server-count") == "1"  # vLLM loads adapters at run time with one only
    assert f"SHOPFIT_MAX_LORA_RANK={option(arguments, 'max-lora-rank')} " in image
    assert int(option(arguments, "max-cpu-loras")) >= int(option(arguments, "max-loras"))
    for setting in ("VLLM_ALLOW_RUNTIME_LORA_UPDATING=1", "VLLM_PLUGINS=shopfit", "HF_HUB_OFFLINE=1"):
        assert setting in image
