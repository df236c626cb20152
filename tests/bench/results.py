"""A benchmark's table: printed, and kept as build/bench/<target>.json with command, commit, machine and libraries."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "evaluate")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing.

    Args:
        what: is measured.
        ours: our number.
        peer: the peer's, or None where there is none.
        unit: of both.
        reach: the number to reach, in words.
        met: whether it was; None where there is nothing to reach.
        ratio: ours over the peer's, or None.
    """

    what: str
    ours: float
    peer: float | None
    unit: str
    reach: str
    met: bool | None
    ratio: float | None = None


def best_time(work: Callable[[], Any], runs: int) -> float:
    """Seconds of the fastest of `runs` runs, after one that warms up."""
    work()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def in_own_process(script: str, *options: object) -> dict[str, float]:
    """What a Python script prints as JSON in its last line, run in a process of its own.

    Args:
        script: its text.
        options: its arguments, as text.
    """
    command = [sys.executable, "-c", script, *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def memory(key: str) -> int:
    """Bytes of this process, as Linux tells them: `VmRSS` are those in memory now, `VmHWM` the most at a time."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def publish(target: str, rows: list[Row]) -> None:
    """Print the table and write the JSON of a `make` target."""
    print(f"\n{'what':<66}{'ours':>10}{'peer':>10}{'ratio':>8}  {'unit':<12}{'reach':<16}met")
    for row in rows:
        peer = "" if row.peer is None else f"{row.peer:.3f}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        met = {True: "yes", False: "NO", None: ""}[row.met]
        print(f"{row.what:<66}{row.ours:>10.3f}{peer:>10}{ratio:>8}  {row.unit:<12}{row.reach:<16}{met}")
    command = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    document = {
        "command": f"make {target}",
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "libraries": {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        "rows": [asdict(row) for row in rows],
    }
    path = ROOT / "build" / "bench" / f"{target}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")
    print(f"\nwritten to {path.relative_to(ROOT)}")
