"""The queue of runs: what waits, in two lanes. One worker a lane takes them in turn; a run that fails stops none."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from shopfit.errors import ShopfitError, UnknownReference
from shopfit.runs.folder import Job, Run, find_run
from shopfit.settings import runs

Lane = Literal["tuning", "asking"]
"""tuning: what trains. asking: what people wait for at a page."""
LANES: tuple[Lane, ...] = get_args(Lane)
MOST_WAITING = 20
"""Runs of one merchant in a lane."""


class TooManyRuns(ShopfitError):  # noqa: N818 - reads as what it is
    """A merchant has as many runs in the queue as it may."""

    http_status = 429
    cure = "Wait for the end of some, or take them out of the queue."


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


def enqueue(home: Path, run: Run, *, by: str, resume: bool = False, first: bool = False) -> None:
    """Let a run wait for its turn.

    Args:
        home: SHOPFIT_HOME.
        run: that is to be done.
        by: who queues it.
        resume: whether it goes on from what it kept.
        first: whether it is the next one of its merchant, however many wait, as when its worker had to end.

    Raises:
        ShopfitError: if so many of the merchant's runs wait already, or it cannot be written.
    """
    own = sum(one.run.asked.merchant == run.asked.merchant for one in waiting(home, lane_of(run.asked.job)))
    if own >= MOST_WAITING and not first:
        raise TooManyRuns(
            f"{own} runs of {run.asked.merchant} wait already (allowed: {MOST_WAITING})",
            next_step="wait for the end of some, or take them out of the queue",
        )
    (run.folder / "stop").unlink(missing_ok=True)
    lane = _lane(home, lane_of(run.asked.job))
    lane.mkdir(parents=True, exist_ok=True)
    entry = lane / f"{0 if first else time.time_ns()}-{run.asked.merchant}-{run.id}.json"
    unfinished = entry.with_suffix(".new")
    unfinished.write_text(json.dumps({"merchant": run.asked.merchant, "id": run.id, "resume": resume}))
    unfinished.rename(entry)
    run.tell("queued", by=by, resume=resume)


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
    return _in_turn(found)


def _in_turn(entries: Sequence[Waiting]) -> list[Waiting]:
    """The first of every merchant, then the second of each, and so on: one that asks for much holds up nobody else."""
    before: Counter[str] = Counter()
    turns = []
    for place, entry in enumerate(entries):
        turns.append((before[entry.run.asked.merchant], place))
        before[entry.run.asked.merchant] += 1
    return [entries[place] for _, place in sorted(turns)]


def lane_lock(home: Path, lane: Lane) -> Path:
    """The file that the worker of a lane holds."""
    return _lane(home, lane) / "worker.lock"


def _lane(home: Path, lane: Lane) -> Path:
    return runs(home, ".queue") / lane
