"""Ending all runs of a merchant: those that wait and those that are worked on; others go on."""

import subprocess
import sys
from pathlib import Path

import pytest

from shopfit.errors import ShopfitError
from shopfit.runs import all_runs, create_run, enqueue, folder, waiting
from shopfit.runs.stopping import runs_ended, stop_runs, under_way

HELD = "import sys, time; from pathlib import Path; from shopfit.runs import run_in; run = run_in(Path(sys.argv[1]))\n"
HELD += "with run.held():\n    run.tell('started'); print('held', flush=True); time.sleep(3600)"


def test_what_waits_and_what_is_worked_on_ends_and_others_go_on(tmp_path: Path) -> None:
    waits, other = (create_run(tmp_path, "plan", name, "sentiment", actor="tests") for name in ("acme", "rival"))
    enqueue(tmp_path, waits, by="tests")
    enqueue(tmp_path, other, by="tests")
    held = create_run(tmp_path, "adapter", "acme", "sentiment", actor="tests")
    with subprocess.Popen([sys.executable, "-c", HELD, str(held.folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert {run.id for run in under_way(tmp_path, "acme")} == {waits.id, held.id}
        assert stop_runs(tmp_path, "acme") == 2
        process.wait()
    assert [turn.run.id for turn in waiting(tmp_path, "asking")] == [other.id]
    assert {run.state() for run in all_runs(tmp_path, "acme")} == {"stopped", "lost"}
    assert stop_runs(tmp_path, "acme") == 0


def test_no_run_of_a_merchant_begins_while_it_is_erased(tmp_path: Path) -> None:
    create_run(tmp_path, "plan", "acme", "sentiment", actor="tests")
    with runs_ended(tmp_path, "acme"):
        with pytest.raises(ShopfitError, match="acme is being erased"):
            create_run(tmp_path, "plan", "acme", "sentiment", actor="tests")
        with pytest.raises(ShopfitError, match="already"), runs_ended(tmp_path, "acme"):
            pass
        create_run(tmp_path, "plan", "rival", "sentiment", actor="tests")
    create_run(tmp_path, "plan", "acme", "sentiment", actor="tests")
    assert len(all_runs(tmp_path, "acme")) == 2


def test_of_runs_that_are_over_the_newest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "KEPT", 3)
    waits = create_run(tmp_path, "plan", "acme", "sentiment", actor="tests")
    enqueue(tmp_path, waits, by="tests")
    other = create_run(tmp_path, "plan", "rival", "sentiment", actor="tests")
    for _ in range(6):
        create_run(tmp_path, "plan", "acme", "sentiment", actor="tests").tell("ended", refused=False)
    newest = create_run(tmp_path, "plan", "acme", "sentiment", actor="tests")
    kept = {run.id: run.state() for run in all_runs(tmp_path, "acme")}
    assert (kept.pop(waits.id), kept.pop(newest.id)) == ("queued", "asked")  # they are not over
    assert list(kept.values()) == ["done"] * 3
    assert [run.id for run in all_runs(tmp_path, "rival")] == [other.id]
