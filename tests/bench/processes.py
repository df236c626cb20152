"""Two processes of one thread against one of two: `make bench-processes`.

The same training as `make bench` measures (`tests.bench.tuning`), by the Trainer alone, on the CPU: Accelerate's two
processes over gloo, and one process with as many threads, in turn. Each is a program of its own that trains once to
warm up; the median of the rounds is reported. Options: `--rounds 3`, `--sets reviews,profiles`, `--rows 64` of each.
"""

import argparse
import os
import statistics
import subprocess
import sys

import torch

from shopfit.base.load import load_base
from shopfit.base.prompt import Prompter
from shopfit.libraries import quiet
from shopfit.settings import Settings
from shopfit.tune.trainer import make_accelerator
from tests.bench.results import Row, publish
from tests.bench.tuning import profiles, reviews, tuned

SETS = {"reviews": reviews, "profiles": profiles}
REACH = 0.9
LAUNCHER = ("-m", "torch.distributed.run", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0")


def rate(name: str, rows: int, processes: int) -> float:
    """Examples a second of a training in so many processes, of two threads together."""
    launched = [*LAUNCHER, "--nproc_per_node", str(processes)] if processes > 1 else []
    worker = ["-m", "tests.bench.processes", "--work", name, "--rows", str(rows), "--threads", str(2 // processes)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *launched, *worker],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": str(2 // processes)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(next(line for line in done.stdout.splitlines() if line.startswith("rate ")).split()[1])


def work(name: str, rows: int, threads: int) -> None:
    """Train, as one of the processes; the first one says how many examples a second it took."""
    torch.set_num_threads(threads)
    recipe, examples = SETS[name]()
    base = load_base("smollm2-135m", Settings.from_environment().home, device="cpu")
    prompter = Prompter(recipe, base.tokenizer)
    rates = [tuned(base, recipe, examples[:rows], prompter)[0] for _ in range(2)]
    if make_accelerator(recipe).is_main_process:
        print(f"rate {rates[-1]}", flush=True)


def main() -> None:
    """Measure the sets that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.rows, options.threads)
        return
    table = []
    for name in options.sets.split(","):
        found = [[rate(name, options.rows, processes) for processes in (2, 1)] for _ in range(options.rounds)]
        two, one = (statistics.median(rates) for rates in zip(*found, strict=True))
        what = f"{name}: 2 processes of 1 thread against 1 of 2, examples a second"
        table.append(Row(what, two, one, "1/s", f"at least {REACH}x", two / one >= REACH, two / one))
    publish("bench-processes", table)


if __name__ == "__main__":
    quiet()
    main()
