"""Ending all runs of a merchant: those that wait and those that are worked on; others go on."""

import subprocess
import sys
from pathlib import Path

from shopfit.runs import all_runs, create_run, enqueue, waiting
from shopfit.runs.stopping import stop_runs, under_way

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
