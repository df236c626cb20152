"""`shopfit release`: canaries and shadows are started, listed and ended."""

import json

import pytest
from tests.cli.conftest import Run
from tests.registry.conftest import MakeBundle, make_bundle

from shopfit.registry import Registry
from shopfit.settings import Settings

__all__ = ["make_bundle"]

NAME = "acme/review-sentiment"


@pytest.fixture
def filled(settings: Settings, make_bundle: MakeBundle) -> Settings:
    """acme has @1 as @production and @2 as @candidate."""
    with Registry.open(settings) as registry:
        for seed in range(2):
            registry.publish(make_bundle(seed=seed), promote=seed == 0, actor="ada")
    return settings


def test_a_canary_and_a_shadow_from_start_to_end(run: Run, filled: Settings) -> None:
    assert "no releases; start one with `shopfit release canary" in run("release", "ls").stdout
    started = run("release", "canary", f"{NAME}@candidate", "--share", "12.5%")
    assert started.stdout == f"{NAME}@2 is the canary for 12.5% of the users now\n", started.stderr
    shadow = json.loads(run("release", "shadow", f"{NAME}@2", "--share", "1", "--json").stdout)
    assert (shadow["kind"], shadow["number"], shadow["share"]) == ("shadow", 2, 1.0)
    listed = run("release", "ls", "acme").stdout
    assert "canary for 12.5% of the users  digest " in listed
    assert "shadow for 100% of the requests  digest " in listed
    documents = json.loads(run("release", "ls", "--json").stdout)
    assert [(one["kind"], one["share"]) for one in documents] == [("canary", 0.125), ("shadow", 1.0)]
    assert json.loads(run("release", "ls", "other", "--json").stdout) == []
    run("registry", "unalias", f"{NAME}@candidate")
    refused = run("registry", "rm", f"{NAME}@2")
    assert refused.returncode == 2
    assert f"`shopfit release end {NAME} canary` and `shopfit release end {NAME} shadow`" in refused.stderr
    assert run("release", "end", NAME, "canary").stdout == f"{NAME}@2 is the canary no more\n"
    assert json.loads(run("release", "end", NAME, "shadow", "--json").stdout)["kind"] == "shadow"
    told = run("registry", "audit", "acme").stdout
    assert f"release  {NAME}@2  canary, share 0.125" in told
    assert f"release-end  {NAME}@2  shadow" in told
    assert run("registry", "rm", f"{NAME}@2").returncode == 0


def test_promoting_it_ends_it(run: Run, filled: Settings) -> None:
    run("release", "canary", f"{NAME}@2", "--share", "0.1")
    assert run("registry", "promote", f"{NAME}@2").returncode == 0
    assert "no releases of acme; start" in run("release", "ls", "acme").stdout
    assert "canary; in production" in run("registry", "audit", "acme").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["canary", f"{NAME}@2"], "Missing option '--share'"),
        (["canary", f"{NAME}@2", "--share", "much"], "--share is 'much' (allowed: above 0, at most 1, or above 0%"),
        (["canary", f"{NAME}@2", "--share", "10"], "share is 10.0 (allowed: above 0, at most 1)"),
        (["canary", f"{NAME}@2", "--share", "0%"], "share is 0.0 (allowed: above 0, at most 1)"),
        (["canary", f"{NAME}@2", "--share", "nan"], "share is nan"),
        (["shadow", f"{NAME}@1", "--share", "1"], "is @production, and gets all of the traffic"),
        (["shadow", f"{NAME}@7", "--share", "1"], "@7 does not exist"),
        (["shadow", "../x", "--share", "1"], "is not a reference"),
        (["end", NAME, "canary"], f"{NAME} has no canary"),
        (["end", NAME, "blue"], "Invalid value for '{canary|shadow}'"),
        (["end", f"{NAME}@2", "canary"], f"a release is of {NAME}, not of {NAME}@2"),
        (["ls", "../x"], "is not the name of a merchant"),
    ],
)
def test_what_cannot_be_done_says_why(run: Run, filled: Settings, arguments: list[str], said: str) -> None:
    done = run("release", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(run("release", "ls", "--json").stdout) == []
