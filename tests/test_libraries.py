"""Threads for the cores that a process may use, and a warning where others use them."""

import os
import subprocess
import sys

from shopfit.libraries import crowded

THREADS = (
    "from shopfit.libraries import share_cores; share_cores(); import os; print(os.environ.get('OMP_NUM_THREADS'))"
)


def threads(**environment: str) -> int:
    known = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", THREADS]
    done = subprocess.run(command, env=known | environment, capture_output=True, text=True, timeout=600, check=True)
    return int(done.stdout)


def test_a_quota_of_cores_bounds_the_threads() -> None:
    assert threads(LOKY_MAX_CPU_COUNT="1") == 1  # what stands for a container's quota, where there is none to test with
    assert threads(LOKY_MAX_CPU_COUNT="1", OMP_NUM_THREADS="2") == 2, "who sets it is heeded"


def test_busy_cores_are_told_of() -> None:
    assert crowded(0.9, 2) == ""
    assert crowded(2.0, 2).endswith("about 2.0 times as long as alone")
    assert crowded(9.0, 2) == "9.0 other processes are busy on 2 cores: this takes about 5.5 times as long as alone"
