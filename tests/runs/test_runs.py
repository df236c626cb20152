"""A run is a folder that tells all of it: whoever reads it sees what was asked, what happened, and how it ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Run as Command

from shopfit.errors import ShopfitError, UnknownReference
from shopfit.registry import Registry
from shopfit.runs import Run, all_runs, create_run, enqueue, find_run, waiting, withdraw
from shopfit.runs.queue import MOST_WAITING, TooManyRuns
from shopfit.runs.worker import command_of, work
from shopfit.settings import Settings

LONG = ("--set", "tune.epochs=400", "--set", "tune.patience=400")


@pytest.fixture
def home(home: Path) -> Path:
    """SHOPFIT_HOME, which the processes of runs have, too."""
    home.mkdir(parents=True, exist_ok=True)
    return home


def asked(home: Path, shop: Path, *more: str, recipe: str = "sentiment.yaml") -> Run:
    arguments = ["--data", str(shop), "--no-instant", *more]
    return create_run(home, "adapter", "acme", str(shop / recipe), arguments, actor="tests")


def until(true: Callable[[], object]) -> None:
    while not true():
        time.sleep(0.02)


def kinds(run: Run) -> list[str]:
    return [event.kind for event in run.events]


def second_start(run: Run) -> int:
    """Where what happened since its second start begins."""
    starts = [index for index, kind in enumerate(kinds(run)) if kind == "started"]
    return starts[1] if len(starts) > 1 else len(kinds(run))


def worker() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "shopfit", "run", "work"], stderr=subprocess.DEVNULL)


def test_every_shopfit_adapter_is_a_run(run: Command, shop: Path, home: Path) -> None:
    done = run("adapter", "acme", str(shop / "sentiment.yaml"), "--data", str(shop), "--no-instant")
    assert done.returncode in (0, 3), done.stderr
    (found,) = all_runs(home)
    assert found.asked.merchant == "acme"
    assert found.asked.arguments == ("--data", str(shop), "--no-instant")
    assert found.state() == ("refused" if done.returncode == 3 else "done")
    told = kinds(found)
    assert (told[0], told[-2:]) == ("started", ["version", "ended"])
    assert 1 <= told.count("epoch") <= 12
    assert found.events[-2].facts["name"] == "acme/sentiment@1"
    assert found.events[-2].facts["metric"] == "accuracy"
    with Registry.open(Settings.from_environment()) as registry:
        kept = registry.resolve("acme/sentiment@1").summary
    assert kept is not None
    assert kept["value"] == found.events[-2].facts["value"]
    assert kept["rival"]["kind"] in ("prior", "baseline")


def test_runs_go_on_when_one_fails_and_that_one_says_the_row_the_reason_and_what_to_do(shop: Path, home: Path) -> None:
    broken, fine = asked(home, shop, "--set", "data.file=broken.jsonl"), asked(home, shop)
    (shop / "broken.jsonl").write_text('{"text": "lovely crema", "label": "positive"}\n{"text": 7}\n')
    for one in (broken, fine):
        enqueue(home, one, by="tests")
    assert [one.run.id for one in waiting(home, "tuning")] == [broken.id, fine.id]
    assert work(home, "tuning") == 2
    assert fine.state() in ("done", "refused")
    assert broken.state() == "failed"
    failure = broken.events[-1].facts
    assert any("broken.jsonl:2" in problem["where"] for problem in failure["problems"])
    assert failure["message"]
    assert waiting(home, "tuning") == []


def test_a_run_whose_worker_is_killed_goes_on_where_it_was(shop: Path, home: Path) -> None:
    killed = asked(home, shop, *LONG)
    enqueue(home, killed, by="tests")
    process = worker()
    until(lambda: "step" in kinds(killed))
    assert killed.state() == "running"
    pid = killed.pid
    assert pid is not None
    process.kill()
    os.kill(pid, signal.SIGKILL)
    process.wait()
    until(lambda: killed.state() == "lost")
    enqueue(home, killed, by="tests", resume=True)
    assert "--resume" in command_of(killed, resume=True)
    process = worker()
    until(lambda: "step" in kinds(killed)[second_start(killed) :])
    killed.keep_best()
    until(lambda: killed.state() in ("done", "refused"))
    process.wait()


def test_a_worker_that_is_asked_to_end_puts_its_run_back_to_go_on(shop: Path, home: Path) -> None:
    run = asked(home, shop, *LONG)
    enqueue(home, run, by="tests")
    process = worker()
    until(lambda: "step" in kinds(run))
    process.send_signal(signal.SIGTERM)
    process.wait()
    (back,) = waiting(home, "tuning")
    assert (back.run.id, back.resume, run.state()) == (run.id, True, "queued")
    assert "stopped" in kinds(run)
    withdraw(home, run)
    assert (waiting(home, "tuning"), run.state()) == ([], "stopped")


def test_a_training_that_is_asked_to_stop_keeps_its_best_and_is_evaluated(shop: Path, home: Path) -> None:
    run = asked(home, shop, *LONG)
    enqueue(home, run, by="tests")
    process = worker()
    until(lambda: "epoch" in kinds(run))
    run.keep_best()
    process.wait()
    assert run.state() in ("done", "refused")
    steps = next(event.facts["steps"] for event in run.events if event.kind == "begin")
    assert max(event.facts["step"] for event in run.events if event.kind == "step") < steps
    assert kinds(run)[-2:] == ["version", "ended"]


def test_a_run_is_worked_on_by_one_process(shop: Path, home: Path) -> None:
    run = asked(home, shop)
    with run.held():
        assert run.pid == os.getpid()
        with pytest.raises(ShopfitError, match="under way already"), run.held():
            pass
    assert run.pid is None


def test_a_line_that_a_crash_cut_short_is_passed_over(shop: Path, home: Path) -> None:
    run = asked(home, shop)
    run.tell("queued", by="tests", resume=False)
    with (run.folder / "events.jsonl").open("a") as file:
        file.write('{"event": "started", "at"')
    assert kinds(run) == ["queued"]


@pytest.mark.parametrize("name", ["..", "../rival", "Acme", "", "a/b", ".queue"])
def test_no_name_leads_out_of_the_runs(home: Path, name: str) -> None:
    with pytest.raises(UnknownReference):
        create_run(home, "adapter", name, "sentiment", actor="tests")
    with pytest.raises(UnknownReference):
        find_run(home, name, "20261129-000000-abcdef")
    with pytest.raises(UnknownReference):
        find_run(home, "acme", name)


def test_erasing_a_merchant_takes_its_runs_and_what_waits_of_it(shop: Path, home: Path) -> None:
    run = asked(home, shop)
    enqueue(home, run, by="tests")
    settings = Settings.from_environment()
    with Registry.open(settings) as registry:
        receipt = registry.erase("acme", settings, actor="tests")
    assert receipt.local["runs"].count > 0
    assert all_runs(home) == []
    assert waiting(home, "tuning") == []


def test_one_that_asks_for_much_holds_up_nobody_else(home: Path) -> None:
    def queued(merchant: str) -> Run:
        run = create_run(home, "adapter", merchant, "review-sentiment", actor="tests")
        enqueue(home, run, by="tests")
        return run

    much = [queued("acme") for _ in range(MOST_WAITING)]
    little = queued("rival")
    assert [one.run.id for one in waiting(home, "tuning")][:3] == [much[0].id, little.id, much[1].id]
    with pytest.raises(TooManyRuns, match="20 runs of acme wait already"):
        queued("acme")
    withdraw(home, much[0])
    queued("acme")


def test_a_run_of_a_key_that_may_not_promote_makes_a_candidate_at_most(shop: Path, home: Path) -> None:
    arguments = ["--data", str(shop), "--no-instant"]
    recipe = str(shop / "sentiment.yaml")
    run = create_run(home, "adapter", "acme", recipe, arguments, actor="key abc", promotes=False)
    enqueue(home, run, by="tests")
    work(home, "tuning")
    with Registry.open(Settings.from_environment()) as registry:
        version = registry.resolve("acme/sentiment@1")
    assert version.status == "ready"
    assert version.aliases == ("candidate",)
    told = next(event.facts for event in run.events if event.kind == "version")
    assert (told["promoted"], told["candidate"]) == (False, True)


def test_what_people_wait_for_at_a_page_ends_when_it_is_stopped(shop: Path, home: Path) -> None:
    run = create_run(home, "plan", "acme", str(shop / "sentiment.yaml"), ["--data", str(shop)], actor="tests")
    enqueue(home, run, by="tests")
    command = [sys.executable, "-m", "shopfit", "run", "work", "--lane", "asking"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until(lambda: run.pid is not None)
    assert run.pid != process.pid
    run.interrupt()
    process.wait()
    assert run.state() in ("stopped", "failed")
    assert waiting(home, "asking") == []
