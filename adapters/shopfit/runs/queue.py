"""The queue of runs: what waits, in two lanes. One worker a lane takes them in turn; a run that fails stops none."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from shopfit.errors import UnknownReference
from shopfit.runs.folder import Job, Run, find_run
from shopfit.settings import runs

Lane = Literal["tuning", "asking"]
LANES: tuple[Lane, ...] = get_args(Lane)
"""tuning: what trains. asking: what people wait for at a page."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run in the queue.

    Args:
        run: that waits.
        entry: its file.
        resume: whether it goes on from what it kept.
    """

    run: Run
    entry: Path
    resume: bool


def lane_of(job: Job) -> Lane:
    """Where a job waits."""
    return "tuning" if job in ("adapter", "curve") else "asking"


def enqueue(home: Path, run: Run, *, by: str, resume: bool = False) -> None:
    """Let a run wait for its turn.

    Args:
        home: SHOPFIT_HOME.
        run: that is to be done.
        by: who queues it.
        resume: whether it goes on from what it kept.
    """
    (run.folder / "stop").unlink(missing_ok=True)
    lane = _lane(home, lane_of(run.asked.job))
    lane.mkdir(parents=True, exist_ok=True)
    run.tell("queued", by=by, resume=resume)
    entry = lane / f"{time.time_ns()}-{run.asked.merchant}-{run.id}.json"
    unfinished = entry.with_suffix(".new")
    unfinished.write_text(json.dumps({"merchant": run.asked.merchant, "id": run.id, "resume": resume}))
    unfinished.rename(entry)


def withdraw(home: Path, run: Run) -> None:
    """Take a run out of the queue; one that was taken by a worker meanwhile goes on."""
    for one in waiting(home, lane_of(run.asked.job)):
        if one.run.id == run.id:
            try:
                one.entry.unlink()
            except FileNotFoundError:
                return
            run.tell("stopped")


def waiting(home: Path, lane: Lane) -> list[Waiting]:
    """What waits in a lane, in turn; entries whose run is gone, as after an erasure, are removed."""
    found = []
    for entry in sorted(_lane(home, lane).glob("*.json")):
        try:
            kept = json.loads(entry.read_bytes())
            found.append(Waiting(find_run(home, kept["merchant"], kept["id"]), entry, bool(kept["resume"])))
        except FileNotFoundError:
            continue
        except (UnknownReference, ValueError, KeyError, TypeError):
            entry.unlink(missing_ok=True)
    return found


def lane_lock(home: Path, lane: Lane) -> Path:
    """The file that the worker of a lane holds."""
    return _lane(home, lane) / "worker.lock"


def _lane(home: Path, lane: Lane) -> Path:
    return runs(home, ".queue") / lane
