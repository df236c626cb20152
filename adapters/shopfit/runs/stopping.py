"""Ends all runs of a merchant, so that what is removed of it is not written again."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shopfit.errors import Problem, ShopfitError
from shopfit.runs.folder import Run, all_runs, no_new_runs
from shopfit.runs.queue import LANES, waiting

_PATIENCE = 60.0  # seconds that runs have to save what they did
_AGAIN = 0.2
_QUIET = 3  # looks in a row that find nothing: a worker may just have taken one out of the queue


def under_way(home: Path, merchant: str) -> list[Run]:
    """A merchant's runs that are worked on, or wait."""
    return [run for run in all_runs(home, merchant) if run.state() in ("running", "queued")]


@contextmanager
def runs_ended(home: Path, merchant: str) -> Iterator[int]:
    """A merchant's runs are ended, as by `stop_runs`, and on this machine none begins as long as the context lasts.

    Raises:
        ShopfitError: if a run does not end, or somebody else has them ended already.
    """
    with no_new_runs(home, merchant):
        yield stop_runs(home, merchant)


def stop_runs(home: Path, merchant: str) -> int:
    """End a merchant's runs, and take those that wait out of the queue; it returns when none is worked on.

    Args:
        home: SHOPFIT_HOME.
        merchant: whose runs these are.

    Returns:
        how many runs were worked on or waited.

    Raises:
        ShopfitError: if one does not end.
    """
    stopped: set[str] = set()
    asked: set[int] = set()
    ends, quiet = time.monotonic() + _PATIENCE, 0
    while quiet < _QUIET:
        stopped |= _unqueue(home, merchant)
        going = [run for run in all_runs(home, merchant) if run.pid is not None]
        for run in going:
            stopped.add(run.id)
            if (pid := run.pid) is not None and pid not in asked:  # a second signal would cut its saving short
                asked.add(pid)
                run.interrupt()
        if going and time.monotonic() > ends:
            raise ShopfitError(
                f"not every run of {merchant} has ended",
                problems=[Problem(run.id, "is still under way") for run in going],
                next_step="wait for its end, then try again",
            )
        quiet = 0 if going else quiet + 1
        time.sleep(_AGAIN)
    return len(stopped)


def _unqueue(home: Path, merchant: str) -> set[str]:
    """Take a merchant's runs out of the queue; their ids."""
    own = [turn for lane in LANES for turn in waiting(home, lane) if turn.run.asked.merchant == merchant]
    for turn in own:
        turn.entry.unlink(missing_ok=True)
        turn.run.tell("stopped")
    return {turn.run.id for turn in own}
