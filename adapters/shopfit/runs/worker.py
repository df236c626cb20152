"""Works off a lane of the queue: each run in a process of its own, one after another.

A worker that is asked to end has its run saved, and puts it back as its merchant's next, to go on from there.
"""

import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shopfit.runs.folder import Job, Run, locked
from shopfit.runs.queue import Lane, Waiting, enqueue, lane_lock, waiting

IN_RUN = "{run}/"
"""How an argument begins that is a place in the run's own folder."""

_LINGER = 1.0  # seconds that an idle worker waits for another run
_AGAIN = 0.2
_REFUSED = 3
_OF_SIGNALS = frozenset({129, 130, 143})


def work(home: Path, lane: Lane) -> int:
    """Do what waits in a lane until nothing does; how many runs were done. None if another worker has the lane.

    Args:
        home: SHOPFIT_HOME.
        lane: of the queue.
    """
    done = 0
    with _alone(home, lane) as alone:
        if not alone:
            return 0
        idle = time.monotonic()
        while time.monotonic() - idle < _LINGER:
            queue = waiting(home, lane)
            if not queue:
                time.sleep(_AGAIN)
                continue
            _do(home, queue[0])
            done += 1
            idle = time.monotonic()
    return done


def command_of(run: Run, *, resume: bool) -> list[str]:
    """The command line of a run.

    Args:
        run: to be done.
        resume: whether it goes on from what it kept.
    """
    asked = run.asked
    command = [sys.executable, "-m", "shopfit", asked.job]
    named = [] if asked.job == "compare" else [asked.merchant, asked.recipe]  # its arguments are the two versions
    recorded = ["--run", str(run.folder)] if asked.job == "adapter" else []
    trains = asked.job == "adapter" and "--instant" not in asked.arguments
    again = ["--resume"] if resume and trains else []
    places = [_placed(argument, run.folder) for argument in asked.arguments]
    return [*command, *named, *places, "--json", *recorded, *again]


def _placed(argument: str, folder: Path) -> str:
    """An argument; one that begins with `{run}/` is a place in the run's own folder."""
    return str(folder / argument.removeprefix(IN_RUN)) if argument.startswith(IN_RUN) else argument


def _do(home: Path, turn: Waiting) -> None:
    run = turn.run
    with (run.folder / "log.txt").open("ab") as log, (run.folder / "result.new").open("wb") as result:
        process = subprocess.Popen(
            command_of(run, resume=turn.resume),
            stdin=subprocess.DEVNULL,
            stdout=result,
            stderr=log,
            start_new_session=True,  # Ctrl-C in a terminal is for this process, which then ends that one
        )
        try:
            if run.asked.job == "adapter":  # that process tells of itself; until it does, the run waits
                while process.poll() is None and run.state() == "queued":
                    time.sleep(_AGAIN)
                turn.entry.unlink(missing_ok=True)
                status = process.wait()
            else:
                with run.held(process.pid):
                    run.tell("started")
                    turn.entry.unlink(missing_ok=True)
                    status = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGTERM)
            process.wait()
            enqueue(home, run, by="the worker, which was ended", resume=True, first=True)
            raise
    (run.folder / "result.new").replace(run.folder / "result.json")
    _conclude(run, status, run.asked.job)


def _conclude(run: Run, status: int, job: Job) -> None:
    """Tell how a run ended, if its process could not."""
    if run.pid is not None:  # another one works on it, and will tell
        return
    state = run.state()
    if state in ("running", "lost") and job != "adapter" and status == 0:
        run.tell("ended", refused=False)
    elif state in ("queued", "running", "lost"):
        error = (run.result or {}).get("error") if isinstance(run.result, dict) else None
        if status in _OF_SIGNALS:
            run.tell("stopped")
        elif status < 0:
            run.tell("failed", message=f"its process was ended by {signal.Signals(-status).name}", problems=[], next="")
        else:
            last = run.log.strip().splitlines()[-1:] or [f"its process ended with status {status}"]
            facts = run.result if error else {"problems": [], "next": ""}
            run.tell("failed", message=error or last[0], problems=facts["problems"], next=facts.get("next", ""))


@contextmanager
def _alone(home: Path, lane: Lane) -> Iterator[bool]:
    """Whether this is the only worker of a lane, as long as the context lasts."""
    path = lane_lock(home, lane)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        yield locked(file)


def is_worked_on(home: Path, lane: Lane) -> bool:
    """Whether a worker has a lane."""
    try:
        with lane_lock(home, lane).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False
    except FileNotFoundError:
        return False
