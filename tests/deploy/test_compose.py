"""compose.yaml: every service is bounded, watched and walled in, and no secret is in a file that git keeps."""

import re
import subprocess
from typing import Any

import pytest
from tests.deploy.manifests import DEPLOY, ROOT, compose, read, seconds, seconds_to_end

SERVICES = compose()
ONCE = {"setup"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_bounded_and_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service.get("privileged") is None


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONCE))
def test_a_service_says_whether_it_is_well(name: str) -> None:
    if (build := SERVICES[name].get("build")) and "healthcheck" not in SERVICES[name]:
        assert "\nHEALTHCHECK" in (ROOT / build["dockerfile"]).read_text()
    else:
        assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


@pytest.mark.parametrize("name", [name for name, one in SERVICES.items() if "build" not in one])
def test_an_image_is_of_one_release(name: str) -> None:
    tag = SERVICES[name]["image"].partition(":")[2]
    assert any(digit.isdigit() for digit in tag), SERVICES[name]["image"]


@pytest.mark.parametrize("name", ["gateway", "vllm-0", "vllm-1"])
def test_what_is_under_way_has_time_to_end(name: str) -> None:
    service = SERVICES[name]
    assert seconds(service["stop_grace_period"]) >= seconds_to_end(service["command"]) + 10


def test_envoy_stays_until_the_gateways_streams_have_ended() -> None:
    assert seconds(SERVICES["envoy"]["stop_grace_period"]) >= seconds_to_end(SERVICES["gateway"]["command"]) + 10
    assert "envoy" in SERVICES["gateway"]["depends_on"]  # so it is stopped after the gateway


def test_ports_are_published_to_this_machine_only() -> None:
    published = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}
    assert published.keys() == {"gateway", "prometheus"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_only_who_must_reach_a_service_is_in_a_network_with_it() -> None:
    networks = read("compose.yaml")["networks"]
    assert [name for name, one in networks.items() if not (one or {}).get("internal")] == ["edge"]
    members = {net: {name for name, one in SERVICES.items() if net in one["networks"]} for net in networks}
    assert members == {
        "edge": {"gateway", "prometheus"},
        "data": {"gateway", "setup", "vllm-0", "vllm-1", "postgres", "s3"},
        "models": {"gateway", "envoy", "vllm-0", "vllm-1"},
        "limits": {"gateway", "redis"},
        "watch": {"gateway", "envoy", "vllm-0", "vllm-1", "prometheus"},
    }


def settings(name: str) -> dict[str, str]:
    lines = (DEPLOY / "secrets" / f"{name}.env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_secrets_are_in_files_that_git_does_not_keep_and_have_examples() -> None:
    assert not any("environment" in one for one in SERVICES.values())
    files = {one["file"] for one in read("compose.yaml")["secrets"].values()}
    files |= {entry["path"] for one in SERVICES.values() for entry in one.get("env_file", [])}
    names = ("shopfit.env", "vllm.env", "postgres.env", "s3.env", "prometheus.key")
    assert files == {f"secrets/{name}" for name in names}
    for file in files:
        assert (DEPLOY / f"{file}.example").is_file()
        ignored = subprocess.run(["git", "check-ignore", "-q", f"deploy/{file}"], cwd=ROOT, check=False)
        assert ignored.returncode in {0, 128}  # 128: no checkout of git


def test_example_secrets_are_placeholders_and_agree() -> None:
    postgres, s3, shopfit, vllm = map(settings, ("postgres", "s3", "shopfit", "vllm"))
    secret = re.compile("PASSWORD|SECRET|USER_KEY")
    for values in (postgres, s3, shopfit, vllm):
        assert all("change-me" in value for key, value in values.items() if secret.search(key))
    for values, user, password in (
        (shopfit, postgres["POSTGRES_USER"], postgres["POSTGRES_PASSWORD"]),
        (vllm, "reader", postgres["READER_PASSWORD"]),
    ):
        address = f"postgresql+psycopg://{user}:{password}@postgres/{postgres['POSTGRES_DB']}"
        assert values["SHOPFIT_REGISTRY"] == address
        assert values["AWS_ACCESS_KEY_ID"] == s3["ROOT_ACCESS_KEY"]
        assert values["AWS_SECRET_ACCESS_KEY"] == s3["ROOT_SECRET_KEY"]
        assert values["SHOPFIT_BLOBS"] == "s3://shopfit/blobs"


def test_every_mounted_file_is_there() -> None:
    def mounts(service: dict[str, Any]) -> list[str]:
        return [one.split(":")[0] for one in service.get("volumes", []) if one.startswith(".")]

    assert all((DEPLOY / path).exists() for one in SERVICES.values() for path in mounts(one))
