"""`shopfit registry` and `shopfit merchant`: lists, garbage, erasing; and versions that others named badly."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from tests.cli.conftest import Run
from tests.registry.conftest import MakeBundle, make_bundle

from shopfit.registry import Registry
from shopfit.settings import Settings

__all__ = ["make_bundle"]

NAME = "acme/review-sentiment"


@pytest.fixture
def filled(settings: Settings, make_bundle: MakeBundle) -> Settings:
    """acme has @1 as @previous and @2 as @production; other has @1."""
    with Registry.open(settings) as registry:
        for seed in range(2):
            registry.fetch(registry.publish(make_bundle(seed=seed), promote=True, actor="ada"), settings.cache)
        registry.publish(make_bundle("other"), promote=True, actor="ada")
    return settings


def test_what_an_alias_names_is_removed_in_two_steps(run: Run, filled: Settings) -> None:
    refused = run("registry", "rm", f"{NAME}@1")
    assert refused.returncode == 2
    assert f"shopfit registry unalias {NAME}@previous" in refused.stderr
    unnamed = run("registry", "unalias", NAME)
    assert unnamed.returncode == 2
    assert f"did you mean {NAME}?" in run("registry", "unalias", f"{NAME}s").stderr
    for alias in ("previous", "production"):
        assert f"`shopfit registry unalias {NAME}@{alias}`" in unnamed.stderr
    assert f"{NAME}@1 has no alias now" in run("registry", "unalias", f"{NAME}@previous").stdout
    assert f"removed {NAME}@1" in run("registry", "rm", f"{NAME}@1").stdout
    numbered = run("registry", "unalias", f"{NAME}@2")
    assert numbered.returncode == 2
    assert f"`shopfit registry unalias {NAME}@production`" in numbered.stderr
    actions = [entry["action"] for entry in json.loads(run("registry", "audit", "acme", "--json").stdout)]
    assert actions[-2:] == ["unalias", "remove"]


def test_a_version_of_two_aliases_is_told_both_commands(run: Run, filled: Settings) -> None:
    run("registry", "promote", f"{NAME}@2", "--alias", "canary")
    refused = run("registry", "rm", f"{NAME}@2")
    assert refused.returncode == 2
    assert "@canary and @production name it" in refused.stderr
    for alias in ("canary", "production"):
        assert f"`shopfit registry unalias {NAME}@{alias}`" in refused.stderr


def test_an_empty_list_says_why(run: Run, filled: Settings) -> None:
    for command in ("ls", "audit"):
        mistyped = run("registry", command, "acmee")
        assert mistyped.returncode == 0
        assert "there is no merchant 'acmee' in the registry" in mistyped.stdout
        assert "did you mean 'acme'?" in mistyped.stdout
        assert "did you mean" not in run("registry", command, "zzz").stdout
        assert json.loads(run("registry", command, "acmee", "--json").stdout) == []
    recipe = run("registry", "ls", "acme", "review-sentimnt")
    assert "has no versions of a recipe 'review-sentimnt'; did you mean 'review-sentiment'?" in recipe.stdout
    assert json.loads(run("registry", "ls", "acme", "review-sentimnt", "--json").stdout) == []


def test_an_erased_merchant_is_told_in_words(run: Run, filled: Settings) -> None:
    run("merchant", "erase", "acme", "--yes")
    listed = run("registry", "ls", "acme")
    assert listed.returncode == 0
    assert "merchant 'acme' has no versions any more: it was erased " in listed.stdout
    assert json.loads(run("registry", "ls", "acme", "--json").stdout) == []
    told = run("registry", "audit", "acme").stdout
    assert "{" not in told
    counted = f"2 versions ('{NAME}@1', '{NAME}@2'), 2 aliases; "
    assert f"  erase-begun  acme  to be erased: {counted}" in told
    assert f"  erase  acme  erased: {counted}" in told
    run("registry", "unalias", "other/review-sentiment@production")
    run("registry", "rm", "other/review-sentiment@1")
    assert "merchant 'other' has no versions any more: all were removed" in run("registry", "ls", "other").stdout


def test_gc_says_what_it_frees(run: Run, filled: Settings) -> None:
    run("registry", "unalias", f"{NAME}@previous")
    run("registry", "rm", f"{NAME}@1")
    (filled.home / ".staging-dead").mkdir()
    (filled.home / ".staging-dead" / "weights").write_bytes(b"x" * 2000)
    would = run("registry", "gc", "--dry-run").stdout
    assert "would free 2.0 kB: 1 folder that killed processes left" in would
    assert re.search(r"cache  would free [1-9][0-9.]* kB: 1 version that the registry no longer has", would)
    told = json.loads(run("registry", "gc", "--grace", "0", "--json").stdout)
    assert told["dry_run"] is False
    assert told["garbage"]["leavings"] == {"count": 1, "bytes": 2000}
    assert told["garbage"]["cache"]["count"] == 1
    assert not (filled.home / ".staging-dead").exists()
    assert json.loads(run("registry", "gc", "--json").stdout)["garbage"]["cache"] == {"count": 0, "bytes": 0}
    assert [run("registry", "gc", "--grace", hours).returncode for hours in ("nan", "-1", "9" * 5000)] == [2, 2, 2]
    assert run("registry", "verify").returncode == 0


def test_erasing_asks_shows_and_keeps_a_receipt(run: Run, filled: Settings) -> None:
    for nobody_to_ask in (run("merchant", "erase", "acme"), run("merchant", "erase", "acme", "--json")):
        assert nobody_to_ask.returncode == 2
        assert "add --yes" in nobody_to_ask.stderr
    planned = run("merchant", "erase", "acme", "--dry-run").stdout
    assert "acme would be erased" in planned
    assert len(json.loads(run("registry", "ls", "acme", "--json").stdout)) == 2
    told = json.loads(run("merchant", "erase", "acme", "--yes", "--json").stdout)
    receipt = told["receipt"]
    assert (told["dry_run"], told["nothing_left"], receipt["merchant"]) == (False, False, "acme")
    assert list(receipt["versions"]) == [f"{NAME}@1", f"{NAME}@2"]
    assert receipt["blobs"]["bytes"] > 0
    assert json.loads(run("registry", "ls", "acme", "--json").stdout) == []
    again = run("merchant", "erase", "acme", "--yes")
    assert again.returncode == 0
    assert "nothing of it is left" in again.stdout
    kept = json.loads(run("registry", "audit", "acme", "--json").stdout)[-1]
    assert json.loads(kept["detail"])["versions"] == receipt["versions"]
    unknown = run("merchant", "erase", "nobody", "--yes")
    assert unknown.returncode == 2
    assert "there is nothing of a merchant 'nobody'" in unknown.stderr
    assert run("registry", "verify").returncode == 0


@pytest.mark.parametrize(
    ("answer", "status", "said", "left"),
    [
        ("y\n", 0, "acme erased ", 0),
        ("n\n", 2, "\nnothing of acme was erased.", 2),
        ("\n", 2, "\nnothing of acme was erased.", 2),
        ("\x04", 2, "\nnothing of acme was erased.", 2),
        ("\x03", 130, "\nInterrupted: nothing of acme was erased.", 2),
    ],
)
def test_erasing_at_a_terminal(run: Run, filled: Settings, answer: str, status: int, said: str, left: int) -> None:
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored in the background of a shell
        os.execv(sys.executable, [sys.executable, "-m", "shopfit", "merchant", "erase", "acme"])
    shown = ""
    while part := _read(terminal):
        shown += part
        while "[y/N]" in shown and not select.select([terminal], [], [], 1)[0]:  # it waits for us now
            os.write(terminal, answer.encode())
    os.close(terminal)
    shown = re.sub("\x1b\\[[0-9;]*m", "", shown.replace("\r", ""))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status, shown
    assert "acme would be erased" in shown
    assert said in shown
    assert "Traceback" not in shown
    assert len(json.loads(run("registry", "ls", "--json").stdout)) == left + 1


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 4096).decode()
    except OSError:  # how Linux says that the other end is closed
        return ""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["registry", "ls", "-h"]])
def test_help_that_cannot_be_printed_has_failed(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "shopfit", *arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=600, check=False)
    assert done.returncode == 4
    assert done.stderr.startswith("error: standard output cannot be written: ")


def test_rows_of_earlier_releases_are_shown_as_they_are(run: Run, filled: Settings) -> None:
    engine = create_engine(filled.registry)
    hostile = {"method": "[/x]\x1b[2J", "reason": "[bold]no\nsecond line", "base": "/srv/[a]\u202eb", "actor": "[/]"}
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE shopfit_versions SET method = :method, reason = :reason, base_name = :base, rank = -1, "
                """metrics = '{"[red]": "high", "auc": 0.5}' WHERE merchant = 'acme' AND number = 1"""
            ),
            hostile,
        )
        connection.execute(text("UPDATE shopfit_audit SET actor = :actor"), hostile)
    engine.dispose()
    listed = run("registry", "ls")
    assert listed.returncode == 0, listed.stderr
    assert "[/x]\\x1b[2J" in listed.stdout
    assert "other/review-sentiment@1" in listed.stdout
    shown = run("registry", "show", f"{NAME}@1")
    assert shown.returncode == 0, shown.stderr
    for part in ("[bold]no\\nsecond line", "/srv/[a]\\u202eb", "[red] high, auc 0.500", "  [/]  publish  "):
        assert part in shown.stdout
    assert json.loads(run("registry", "ls", "--json").stdout)[0]["method"] == hostile["method"]
    assert "[/]" in run("registry", "audit").stdout


@pytest.mark.parametrize("name", ["Acme", "../acme", "a\tb", "", "[/x]", "*"])
def test_names_that_are_none(run: Run, filled: Settings, name: str) -> None:
    for command in (
        ("registry", "ls", name),
        ("registry", "audit", name),
        ("merchant", "erase", name, "--yes"),
        ("registry", "unalias", name),
    ):
        done = run(*command)
        assert done.returncode == 2, command
        assert "Traceback" not in done.stderr
        assert "allowed" in done.stderr


def test_a_home_of_an_odd_name(run: Run, tmp_path: Path, make_bundle: MakeBundle) -> None:
    for name in ("a?b", "a%20b", "a::b"):
        home = tmp_path / "odd" / name
        shown = run("registry", "ls", SHOPFIT_HOME=str(home))
        assert (shown.returncode, "no versions yet" in shown.stdout) == (0, True)
        assert (home / "registry.db").is_file()
