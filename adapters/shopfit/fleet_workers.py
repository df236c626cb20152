"""A fleet's workers on a Ray cluster: each a process with a device, which onboards what it is dealt.

One that dies is started again; one that cannot go on, such as where a machine does not reach the registry, is not.
"""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from shopfit import __version__
from shopfit.errors import ShopfitError
from shopfit.fleet import Outcome, onboard_fleet
from shopfit.libraries import openmp_waits, quiet
from shopfit.merchant.merchant import Merchant
from shopfit.recipe.schema import Recipe
from shopfit.settings import Settings

logger = logging.getLogger(__name__)

PATIENCE = 600.0  # seconds to wait for workers while none is up
_STARTS = 3  # of a worker, after which it is not started again
_SAME = f"install shopfit {__version__} with the same Python on every machine of the cluster"
_LOOK = "see with `ray status` which machines are up and what else runs there, and go on with --resume"


class Worker:
    """What a device does: fleets of the merchants that it is dealt.

    Args:
        recipe: what to make.
        settings: where state lives, on this machine as on others.
        options: of `onboard_fleet`.
    """

    def __init__(self, recipe: Recipe, settings: Settings, options: dict[str, Any]) -> None:
        quiet()
        self._recipe, self._settings, self._options = recipe, settings, options

    def process(self) -> int:
        """The number of its process."""
        return os.getpid()

    def run(self, folders: Mapping[str, str]) -> Iterator[Outcome | ShopfitError]:
        """Onboard merchants, and yield each outcome as soon as it is there.

        Args:
            folders: of the merchants, by their names.

        Yields:
            outcomes; at last, if the fleet could not go on, what was wrong.
        """
        told: SimpleQueue[Outcome | ShopfitError | None] = SimpleQueue()

        def work() -> None:
            try:
                merchants, failed = _opened(folders)
                for outcome in failed:
                    told.put(outcome)
                if merchants:
                    onboard_fleet(merchants, self._recipe, settings=self._settings, ended=told.put, **self._options)
            except ShopfitError as error:
                told.put(error)
            except Exception as error:  # said where the fleet was begun
                told.put(ShopfitError(f"a worker broke off: {type(error).__name__}: {error}"))
            finally:
                told.put(None)

        threading.Thread(target=work, name="shopfit-fleet", daemon=True).start()
        while (said := told.get()) is not None:
            yield said


def _opened(folders: Mapping[str, str]) -> tuple[list[Merchant], list[Outcome]]:
    """Merchants by their names, and the outcomes of those whose folder cannot be opened.

    Raises:
        ShopfitError: if that is none of several: then it is the machine that lacks them.
    """
    merchants, failed = [], list[Outcome]()
    for name, folder in folders.items():
        try:
            merchants.append(Merchant.open(Path(folder)))
        except ShopfitError as error:
            failed.append(Outcome.of(name, error))
            if len(failed) == len(folders) > 1:
                raise
    return merchants, failed


class WorkerDiedError(Exception):
    """A worker's process is gone."""


class Workers:
    """Those on a cluster that is open.

    Args:
        ray: the library.
        workers: how many; None for one a GPU, else one a machine.
        recipe: of the workers.
        settings: likewise.
        options: likewise.
    """

    def __init__(
        self, ray: Any, workers: int | None, recipe: Recipe, settings: Settings, options: dict[str, Any]
    ) -> None:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if len(machines) > 1 and settings.registry.startswith("sqlite"):
            raise ShopfitError(
                f"the {len(machines)} machines of the cluster have no registry in common: "
                f"{settings.registry} is a file",
                next_step="set SHOPFIT_REGISTRY to a PostgreSQL URL and SHOPFIT_BLOBS to where all reach it",
            )
        self._ray = ray
        self.size = workers or int(sum(machine.get("GPU", 0) for machine in machines)) or len(machines)
        cores, gpus = _share(machines, self.size)
        threads = {"OMP_NUM_THREADS": str(cores), "OPENBLAS_NUM_THREADS": "1", **openmp_waits(busy=0.0)}
        options_of_ray = {"num_cpus": cores, "num_gpus": gpus, "runtime_env": {"env_vars": threads}}
        kind = ray.remote(Worker).options(**options_of_ray)
        self._new: Callable[[], Any] = lambda: kind.remote(recipe, settings, options)
        self._workers: dict[int, Any] = {}
        self._starting: dict[Any, int] = {}
        self._failed: Counter[int] = Counter()
        self._lost: ShopfitError | None = None
        self.free: list[int] = []
        self.processes: dict[int, int] = {}
        for number in range(self.size):
            self._start(number)

    @property
    def awaited(self) -> int:
        """How many workers are free, or starting."""
        return len(self.free) + len(self._starting)

    def run(self, number: int, folders: Mapping[str, str]) -> Any:
        """Have a worker run; what is returned stands for the outcomes to come."""
        return self._workers[number].run.options(num_returns="streaming").remote(folders)

    def ready(self, outcomes: Sequence[Any]) -> Any:
        """One of those that have something to tell, or None if a worker has become free or is known not to start.

        Raises:
            ShopfitError: if no worker is up, and none comes.
        """
        until = time.monotonic() + PATIENCE
        while outcomes or (self._starting and time.monotonic() < until):
            there, _ = self._ray.wait([*self._starting, *outcomes], num_returns=1, timeout=1.0)
            if there and there[0] in self._starting:
                return self._started(there[0])
            if there:
                return there[0]
        if self._lost is not None and not self._starting:
            raise self._lost
        raise ShopfitError(f"no worker of the cluster is up after {PATIENCE:.0f} s", next_step=_LOOK)

    def next(self, outcomes: Any) -> Outcome | ShopfitError | None:
        """The next outcome, or None after the last.

        Raises:
            WorkerDiedError: if the worker's process is gone, or its outcomes are.
        """
        try:
            return self._ray.get(next(outcomes))  # type: ignore[no-any-return]
        except StopIteration:
            return None
        except self._ray.exceptions.RayTaskError as error:
            return ShopfitError(f"a worker broke off: {error.cause}", next_step=_SAME)
        except self._ray.exceptions.RayError as error:
            raise WorkerDiedError from error

    def replace(self, number: int) -> None:
        """Put a new worker in the place of one that died, or cannot be reached: it must not go on beside it."""
        self._end(number)
        self._start(number)

    def retire(self, number: int, said: ShopfitError) -> None:
        """Let a worker go that cannot go on: what it was dealt is for the others."""
        logger.warning("worker %d of %d goes no further: %s", number + 1, self.size, said.message)
        self._lost = said
        self._end(number)

    def _end(self, number: int) -> None:
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._workers[number])

    def _start(self, number: int) -> None:
        self._workers[number] = self._new()
        self._starting[self._workers[number].process.remote()] = number

    def _started(self, process: Any) -> None:
        """A worker is up, or died before it was; if it cannot be started, the others do its work."""
        number = self._starting.pop(process)
        try:
            self.processes[number] = self._ray.get(process)
        except self._ray.exceptions.RayError as error:
            self._failed[number] += 1
            unfit = getattr(error, "actor_init_failed", False)
            if self._failed[number] < _STARTS and not unfit:
                self._start(number)
                return
            said = f"a worker does not start: {str(error).splitlines()[0]}"
            self._lost = ShopfitError(said, next_step=_SAME if unfit else _LOOK)
            logger.warning("%s", said)
        else:
            self._failed[number] = 0
            self.free.append(number)


def _share(machines: Sequence[Mapping[str, float]], size: int) -> tuple[int, float]:
    """The cores and the part of a GPU of each worker: as many as leave room for all, none of them on two machines.

    Raises:
        ShopfitError: if there is no room for them with a core each.
    """
    cores, gpus = (sum(int(machine.get(kind, 0)) for machine in machines) for kind in ("CPU", "GPU"))
    on_one = max(1, -(-size // gpus)) if gpus else 0  # workers a GPU

    def room(cores: int) -> int:
        rooms = [(int(machine.get("CPU", 0)) // cores, int(machine.get("GPU", 0)) * on_one) for machine in machines]
        return sum(min(room) if gpus else room[0] for room in rooms)

    found = next((number for number in range(cores // size, 0, -1) if room(number) >= size), 0)
    if not found:
        raise ShopfitError(
            f"{size} workers want a core each, and the cluster has room for {room(1)}",
            next_step="say less with --workers",
        )
    return found, 10_000 // on_one / 10_000 if gpus else 0.0  # Ray counts in parts of 10,000
