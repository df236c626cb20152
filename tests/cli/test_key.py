"""`shopfit key`: making, listing and revoking; what is shown, and what never is."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.registry.conftest import MakeBundle, make_bundle

from shopfit.errors import KeyRefused
from shopfit.registry import Registry
from shopfit.settings import Settings

__all__ = ["make_bundle"]

ONCE = "This is shown once"


@pytest.fixture
def filled(settings: Settings, make_bundle: MakeBundle) -> Settings:
    """acme has a version."""
    with Registry.open(settings) as registry:
        registry.publish(make_bundle(), promote=True, actor="ada")
    return settings


def created(run: Run, *arguments: str) -> tuple[str, str]:
    """The id and the token of a new key."""
    done = run("key", "create", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    return told["key"]["id"], told["token"]


def test_a_key_is_shown_once(run: Run, filled: Settings) -> None:
    made = run("key", "create", "acme", "--scope", "infer", "--scope", "feedback", "--expires", "90d", "--name", "[/x]")
    assert made.returncode == 0, made.stderr
    assert ONCE in made.stdout
    (token,) = [word for word in made.stdout.split() if word.startswith("sf_")]
    with Registry.open(filled) as registry:
        grant = registry.check_key(token)
        assert (grant.merchant, grant.scopes) == ("acme", {"infer", "feedback"})
    listed = run("key", "ls")
    assert f"{grant.key}  acme " in listed.stdout
    for part in ("active", "infer, feedback", f"expires {grant.expires:%Y-%m-%d %H:%M} UTC", "[/x]"):
        assert part in listed.stdout
    documents = json.loads(run("key", "ls", "--json").stdout)
    assert [(one["id"], one["state"], one["scopes"]) for one in documents] == [
        (grant.key, "active", ["infer", "feedback"])
    ]
    everything = [listed, run("key", "ls", "--json"), run("registry", "audit"), run("registry", "audit", "--json")]
    for done in everything:
        for hidden in (token[16:], hashlib.sha256(token.encode()).hexdigest()):
            assert hidden not in done.stdout + done.stderr


def test_a_key_of_the_platform(run: Run, filled: Settings) -> None:
    key, token = created(run, "--platform", "--scope", "admin", "--expires", "2101-01-31")
    assert token.startswith(f"sf_{key}_")
    ours, theirs = json.loads(run("key", "ls", "--json").stdout), json.loads(run("key", "ls", "acme", "--json").stdout)
    assert [(one["id"], one["merchant"], one["expires"]) for one in ours] == [(key, None, "2101-01-31T00:00:00+00:00")]
    assert theirs == []
    assert f"{key}  (platform) " in run("key", "ls").stdout
    assert f"key-create  platform  key {key}: admin; until 2101-01-31" in run("registry", "audit").stdout
    assert "did you mean" not in run("registry", "ls", "platfrom").stdout


def test_a_key_is_revoked_by_its_id_or_itself(run: Run, filled: Settings) -> None:
    (one, _), (two, token) = (created(run, "acme", "--scope", "infer") for _ in range(2))
    assert f"key {one} of acme is revoked since " in run("key", "revoke", one).stdout
    assert json.loads(run("key", "revoke", token, "--json").stdout)["id"] == two
    assert [key["state"] for key in json.loads(run("key", "ls", "--json").stdout)] == ["revoked", "revoked"]
    with Registry.open(filled) as registry, pytest.raises(KeyRefused):
        registry.check_key(token)
    assert "revoked  since " in run("key", "ls").stdout
    mistyped = run("key", "revoke", f"{one[:-1]}{'a' if one[-1] != 'a' else 'b'}")
    assert mistyped.returncode == 2
    assert f"did you mean '{one}'?" in mistyped.stderr
    cut = run("key", "revoke", token[:-1])
    assert cut.returncode == 2
    assert token[16:-1] not in cut.stderr
    assert "shopfit key ls" in cut.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["acmee", "--scope", "infer"], "nothing of a merchant 'acmee' in the registry; did you mean 'acme'?"),
        (["acmee", "--scope", "infer"], "--new"),
        (["acme", "--scope", "infr"], "a scope is 'infr'; did you mean 'infer'? (allowed: infer, feedback, publish,"),
        (["acme"], "Missing option '--scope'"),
        (["--scope", "infer"], "this names neither"),
        (["acme", "--platform", "--scope", "infer"], "this names both"),
        (["acme", "--scope", "infer", "--expires", "soon"], "'soon' is not a time of expiry (allowed: a duration"),
        (["acme", "--scope", "infer", "--expires", "2020-01-01"], "allowed: a time to come"),
        (["acme", "--scope", "infer", "--expires", "0d"], "allowed: a time to come"),
        (["acme", "--scope", "infer", "--expires", "999999w"], "allowed: a time to come"),
        (["acme", "--scope", "infer", "--name", "x" * 201], "name is"),
        (["../acme", "--scope", "infer"], "is not the name of a merchant"),
        (["house", "--scope", "infer"], "house is no merchant"),
    ],
)
def test_what_cannot_be_made_says_why_and_what_next(
    run: Run, filled: Settings, arguments: list[str], said: str
) -> None:
    done = run("key", "create", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "sf_" not in done.stdout
    assert json.loads(run("key", "ls", "--json").stdout) == []


def test_an_empty_list_says_why(run: Run, filled: Settings) -> None:
    assert "no keys yet; make one with `shopfit key create" in run("key", "ls").stdout
    assert run("key", "ls", "acme").stdout == "merchant 'acme' has no keys\n"
    assert "merchant 'acmee' has no keys; did you mean 'acme'?" in run("key", "ls", "acmee").stdout


def test_a_merchant_of_keys_alone(run: Run, filled: Settings) -> None:
    created(run, "soon-there", "--scope", "publish", "--new")
    listed = run("registry", "ls", "soon-there").stdout
    assert "has no versions yet, only API keys: `shopfit key ls soon-there`" in listed
    erased = run("merchant", "erase", "soon-there", "--yes")
    assert erased.returncode == 0, erased.stderr
    assert "keys  1 API key" in erased.stdout
    assert "2 aliases" not in (told := run("registry", "audit", "soon-there").stdout)
    assert "erase  soon-there  erased: 0 versions, 0 aliases, 1 API key; " in told
    assert json.loads(run("key", "ls", "soon-there", "--json").stdout) == []


def test_a_key_that_could_not_be_shown_is_named(filled: Settings) -> None:
    command = [sys.executable, "-m", "shopfit", "key", "create", "acme", "--scope", "infer"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=600, check=False)
    with Registry.open(filled) as registry:
        (key,) = registry.keys()
    assert (
        f"all the same, key {key.id} is made; if you did not see it, run `shopfit key revoke {key.id}`" in done.stderr
    )
