"""What starting up costs, and the whole main job as a process of its own."""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shopfit.settings import Settings
from tests.bench.results import Row

RUNS = 9


def measure() -> list[Row]:
    """The rows of this benchmark."""
    python = [sys.executable]
    bare = _seconds([*python, "-c", "pass"])
    imported = _seconds([*python, "-c", "import shopfit"])
    shown = _seconds([str(Path(sys.executable).with_name("shopfit")), "--help"])
    minutes, memory = _main_job()
    return [
        Row("import shopfit (peer: python alone)", imported, bare, "s", "under 0.3 s", imported < 0.3, imported / bare),
        Row("shopfit --help (peer: python alone)", shown, bare, "s", "under 0.6 s", shown < 0.6, shown / bare),
        Row("64-shot review-sentiment, the whole main job", minutes, None, "min", "under 5 min", minutes < 5),
        Row("64-shot review-sentiment, peak memory", memory, None, "GB", "under 3 GB", memory < 3),
    ]


def _seconds(command: list[str]) -> float:
    times = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])  # the first one warms up


def _main_job() -> tuple[float, float]:
    bases = Settings.from_environment().home / "bases"
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "bases").symlink_to(bases)
        started = time.perf_counter()
        command = [sys.executable, "-m", "shopfit", "adapter", "crema", "review-sentiment", "--set", "data.shots=64"]
        subprocess.run(
            command, env={"SHOPFIT_HOME": home, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "2"}, check=False
        )
        seconds = time.perf_counter() - started
    return seconds / 60, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
