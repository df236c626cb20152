"""Libraries that are for programmers, made quiet, and given a folder to write in where they have none."""

import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

from shopfit.settings import Settings, may_write

_IMPORTING = threading.Lock()
_GLANCE = 0.1  # seconds of looking how busy the machine is
_BUSY = 25.0  # percent of its cores, from which threads leave them to others


def quiet() -> None:
    """Silence libraries' warnings and progress bars, and give them a home."""
    _house()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    leave_cores_to_torch()
    os.environ.setdefault("TQDM_DISABLE", "1")  # commands show their own bar
    warnings.simplefilter("ignore")
    for name in ("bitsandbytes", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def quiet_ray() -> None:
    """Have Ray report nothing to its makers, and warn of no change to come. To be called before it is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


@contextmanager
def compiled_late() -> Iterator[None]:
    """A context for imports: what they compile with `torch.compile` is compiled when it is first called.

    PEFT imports bitsandbytes wherever that is installed, which compiles functions that few runs call, and for that
    alone imports torch's compiler: a fifth of the time that PEFT's imports take.
    """
    if "peft" in sys.modules:
        yield
        return
    import torch

    with _IMPORTING:
        compile_now = torch.compile

        def compile_late(model: Any = None, **options: Any) -> Any:
            if model is None:
                return partial(compile_late, **options)
            if isinstance(model, torch.nn.Module):
                return compile_now(model, **options)
            compiled: list[Any] = []

            @wraps(model)
            def call(*args: Any, **kwargs: Any) -> Any:
                if not compiled:
                    compiled.append(compile_now(model, **options))
                return compiled[0](*args, **kwargs)

            return call

        torch.compile = compile_late
        try:
            yield
        finally:
            torch.compile = compile_now


def share_cores() -> None:
    """Give long work a thread a core that this process may use, have them leave others' work alone, and bound what is
    kept.

    To be called before torch is imported. OpenMP knows the cores that a process is bound to, not a container's quota of
    them.
    """
    leave_cores_to_torch()
    # oneDNN keeps what it has made for 1,024 shapes of operands, with memory for each: a third of a small training's
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    if (cores := usable_cores()) < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))
    if "OMP_WAIT_POLICY" not in os.environ:
        for name, value in openmp_waits(_busy(cores)).items():
            os.environ.setdefault(name, value)


def openmp_waits(busy: float) -> dict[str, str]:
    """How OpenMP's threads wait for each other, as environment variables of GNU's library.

    A training on small texts is thousands of products a second. On two free cores it took 60 s where threads sleep at
    once, 45 s where they stay awake for some microseconds (1,000 turns) first, and 41 s with 10,000; beside two busy
    processes 89, 113 and 138 s.

    Args:
        busy: of the machine's cores before this work begins, in percent.
    """
    if busy >= _BUSY:
        return {"OMP_WAIT_POLICY": "PASSIVE"}
    return {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "1000"}


def _busy(usable: int) -> float:
    """How busy the cores are that this process may use, in percent; wholly so where a quota leaves it a part of them.

    Args:
        usable: cores, by quota too.
    """
    import psutil

    loads = psutil.cpu_percent(_GLANCE, percpu=True)
    bound = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(len(loads)))
    mine = [loads[core] for core in bound if core < len(loads)]
    return 100.0 if usable < len(bound) or not mine else sum(mine) / len(mine)


def leave_cores_to_torch() -> None:
    """Have numpy multiply on one thread: its own would fight torch's for the cores. To be called before numpy is
    imported.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def usable_cores() -> int:
    """Cores that this process may use: by its affinity and the quotas of its control groups."""
    from joblib import cpu_count

    return int(cpu_count())


def crowded(load: float, cores: int) -> str:
    """A warning that other work takes the cores of a run; empty where it leaves one of them.

    Args:
        load: processes that run or want to, on average over the last minute.
        cores: of the machine.
    """
    if load < cores:
        return ""
    times = (load + cores) / cores
    return f"{load:.1f} other processes are busy on {cores} cores: this takes about {times:.1f} times as long as alone"


def _house() -> None:
    """Where containers leave no home or no temporary folder to write in, libraries get a folder in SHOPFIT_HOME."""
    folder = Settings.from_environment().home / "libraries"
    if not may_write(os.path.expanduser("~")):  # noqa: PTH111 - which says "~" where there is no home
        os.environ.setdefault("XDG_CACHE_HOME", str(folder))  # Hugging Face's, torch's
        os.environ.setdefault("XDG_CONFIG_HOME", str(folder))  # matplotlib's
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["TMPDIR"] = str(folder)
