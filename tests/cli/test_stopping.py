"""Signals end a command in one way: clean-up runs, nothing half-made is left, and the exit status names the signal."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.cli.conftest import Run, open_shop, state
from tests.forks import Forks

TIMEOUT = 600  # against hanging

STUBBORN = """
import os, signal
from shopfit.cli.stopping import Stopped, heed_signals
heed_signals()
"""


def ran(script: str, before: list[str] | None = None) -> "subprocess.CompletedProcess[str]":
    command = [*(before or []), sys.executable, "-c", STUBBORN + script]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False, preexec_fn=heed_again)


def heed_again() -> None:
    """In the background of a shell Ctrl-C is ignored, and under nohup a hang-up, by this test's children too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_each_signal_has_its_status(name: str, status: int) -> None:
    done = ran(f"""
try:
    os.kill(os.getpid(), signal.{name})
except KeyboardInterrupt as stopped:
    print(stopped.status)
""")
    assert (done.stdout, done.stderr) == (f"{status}\n", "")


def test_clean_up_is_not_cut_short_by_more_signals() -> None:
    done = ran("""
try:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGTERM"):
            os.kill(os.getpid(), getattr(signal, name))
        print("cleaned up")
except Stopped as stopped:
    print(stopped.status)
""")
    assert (done.stdout, done.stderr) == ("cleaned up\n143\n", "")


def test_a_signal_that_somebody_swallowed_can_be_sent_again() -> None:
    done = ran("""
for _ in range(3):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException as error:
        print(type(error).__name__)
""")
    assert (done.stdout, done.stderr) == ("Stopped\n" * 3, "")


def test_what_is_ignored_stays_ignored() -> None:
    done = ran("os.kill(os.getpid(), signal.SIGHUP); print('alive')", before=["nohup"])
    assert done.stdout == "alive\n"


@pytest.fixture
def started(shop: Path, home: Path, tiny_base: Path) -> dict[str, tuple[list[str], str]]:
    """By name, commands that train for very long, and what they print once they have begun."""
    other = open_shop(shop.parent / "other", tiny_base)
    (other / "merchant.yaml").write_text(yaml.safe_dump({"name": "other", "share": True}))
    (shop / "merchant.yaml").write_text(yaml.safe_dump({"name": "acme", "share": True}))
    long = ["--set", "tune.epochs=1000"]
    recipe = ["acme", str(shop / "sentiment.yaml"), "--data", str(shop), *long]
    donors = ["--from", str(shop), "--from", str(other)]
    return {
        "adapter": (["adapter", *recipe, "--no-instant"], "folds"),
        "search": (["adapter", *recipe, "--no-instant", "--search", "20"], "search"),
        "curve": (["curve", *recipe, "--shots", "0,8"], "point"),
        "starter fit": (["starter", "fit", str(shop / "sentiment.yaml"), *donors, *long], "epoch 2"),
    }


@pytest.mark.parametrize(
    ("name", "number", "status"),
    [
        ("adapter", signal.SIGINT, 130),
        ("adapter", signal.SIGTERM, 143),
        ("search", signal.SIGTERM, 143),
        ("curve", signal.SIGTERM, 143),
        ("starter fit", signal.SIGTERM, 143),
    ],
)
def test_a_stopped_command_leaves_nothing(
    started: dict[str, tuple[list[str], str]],
    home: Path,
    run: Run,
    forks: Forks,
    name: str,
    number: signal.Signals,
    status: int,
) -> None:
    arguments, begun = started[name]
    process = stopped([str(forks.shim), *arguments], begun, number)
    assert process.returncode == status, process.stderr
    assert "nothing was registered" in process.stderr
    assert "Traceback" not in process.stderr
    assert set(state(home)) <= {"studies", "curves", "checkpoints"}  # a search goes on from its study
    assert json.loads(run("registry", "ls", "--json").stdout) == []


def test_a_stopped_launcher_stops_every_process_and_leaves_nothing(
    started: dict[str, tuple[list[str], str]], home: Path
) -> None:
    arguments, begun = started["adapter"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv-backend", "c10d"]
    launcher += ["--rdzv-endpoint", "localhost:0", "-m", "shopfit"]
    process = stopped([*launcher, *arguments], begun, signal.SIGTERM, ACCELERATE_USE_CPU="true")
    assert process.returncode != 0
    assert set(state(home)) <= {"checkpoints"}
    assert [path for path in home.iterdir() if path.name.startswith(".")] == []


def test_a_stopped_run_is_gone_on_with_by_the_command_that_it_names(
    shop: Path, home: Path, forks: Forks, run: Run, tmp_path: Path
) -> None:
    recipe = ["acme", str(shop / "sentiment.yaml"), "--data", str(shop), "--set", "tune.epochs=60", "--no-instant"]
    whole = tmp_path / "whole"
    done = run("adapter", *recipe, SHOPFIT_HOME=str(whole))
    assert done.returncode in {0, 3}, done.stderr
    process = stopped([str(forks.shim), "adapter", *recipe], "epoch 1:", signal.SIGTERM)
    assert process.returncode == 143, process.stderr
    (named,) = re.findall(r"run `shopfit (.*)`", process.stderr)
    assert shlex.split(named) == ["adapter", *recipe, "--resume"]
    assert "checkpoints" in state(home)
    again = run(*shlex.split(named))
    assert again.returncode in {0, 3}, again.stderr
    assert "goes on from what was kept" in again.stdout
    assert weights(home) == weights(whole)
    assert "checkpoints" not in state(home)


@pytest.mark.proof
def test_processes_of_a_launcher_go_on_together_and_the_instant_version_is_made_once(
    shop: Path, home: Path, tiny_encoder: Path, run: Run
) -> None:
    recipe = ["adapter", "acme", str(shop / "sentiment.yaml"), "--data", str(shop), "--set", f"base={tiny_encoder}"]
    recipe += ["--set", "tune.epochs=40", "--set", "blend=false"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv-backend", "c10d"]
    launcher += ["--rdzv-endpoint", "localhost:0", "-m", "shopfit"]
    first = stopped([*launcher, *recipe], "epoch 1:", signal.SIGTERM, ACCELERATE_USE_CPU="true")
    assert first.returncode != 0
    made = json.loads(run("registry", "ls", "--json").stdout)
    done = subprocess.run(
        [*launcher, *recipe, "--resume"],
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert "goes on from what was kept" in done.stdout, done.stderr
    assert len(json.loads(run("registry", "ls", "--json").stdout)) == len(made) + 1, done.stderr
    assert made, "this tests nothing without an instant version"
    assert "checkpoints" not in state(home)


def weights(home: Path) -> dict[str, bytes]:
    (folder,) = (path.parent for path in (home / "cache").glob("*/bundle.json"))
    return {path.name: path.read_bytes() for path in folder.rglob("*.safetensors")}


def stopped(
    command: list[str], begun: str, number: signal.Signals, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Start a command, send it a signal when a line of its output has `begun` in it, and wait for its end."""
    with subprocess.Popen(
        command,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_again,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if begun in line:
                    process.send_signal(number)
                    break
            else:
                pytest.fail(f"it never began: {process.stderr.read()}")  # type: ignore[union-attr]
            shown, errors = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
    return subprocess.CompletedProcess(command, process.returncode, shown, errors)
