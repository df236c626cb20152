"""Runs: jobs of a merchant, each with a folder that tells all of it, and the queue that they wait in."""

from shopfit.runs.events import Event
from shopfit.runs.folder import OVER, Asked, Job, Run, State, all_runs, create_run, find_run, run_in
from shopfit.runs.queue import LANES, Lane, enqueue, lane_of, waiting, withdraw

__all__ = [
    "LANES",
    "OVER",
    "Asked",
    "Event",
    "Job",
    "Lane",
    "Run",
    "State",
    "all_runs",
    "create_run",
    "enqueue",
    "find_run",
    "lane_of",
    "run_in",
    "waiting",
    "withdraw",
]
