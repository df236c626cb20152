"""A fleet on a Ray cluster: workers that are fleets of their own, one a device; where one dies, others take over.

Merchants are dealt out in hands, and each outcome comes back as soon as it is there. Of a worker that is killed those
are dealt again whose outcome has not come, each alone, so that it is known under whom workers die; what it registered
in that moment is found on a home that both can read. Nobody waits for a worker that is not up while others are.
"""

import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from shopfit import __version__
from shopfit.errors import ShopfitError
from shopfit.fleet import Outcome, Reporter, check_merchants, on_one_base, onboard_fleet
from shopfit.libraries import quiet, quiet_ray, share_cores
from shopfit.merchant.merchant import Merchant
from shopfit.recipe.schema import Recipe
from shopfit.settings import Settings
from shopfit.tune.fleet import SLOTS, check_fleet

logger = logging.getLogger(__name__)

LOCAL = "local"
_HANDS = 2  # of slots that a worker is dealt: one while the other is trained
_DEATHS = 2  # of workers that had a merchant alone, after which it is not dealt again
_STARTS = 3  # of a worker, after which it is not started again
_SAME = f"install shopfit {__version__} with the same Python on every machine of the cluster"
_LOOK = "see with `ray status` which machines are up and what else runs there, and go on with --resume"
PATIENCE = 600.0  # seconds to wait for workers while none is up


class Worker:
    """What a device does: fleets of the merchants that it is dealt.

    Args:
        recipe: what to make.
        settings: where state lives, on this machine as on others.
        options: of `onboard_fleet`.
    """

    def __init__(self, recipe: Recipe, settings: Settings, options: dict[str, Any]) -> None:
        share_cores()
        quiet()
        self._recipe, self._settings, self._options = recipe, settings, options

    def process(self) -> int:
        """The number of its process."""
        return os.getpid()

    def run(self, folders: Sequence[str]) -> Iterator[Outcome | ShopfitError]:
        """Onboard merchants, and yield each outcome as soon as it is there.

        Args:
            folders: of the merchants.

        Yields:
            outcomes; at last, if the fleet could not go on, what was wrong.
        """
        told: SimpleQueue[Outcome | ShopfitError | None] = SimpleQueue()

        def work() -> None:
            try:
                merchants = [Merchant.open(Path(folder)) for folder in folders]
                onboard_fleet(
                    merchants,
                    self._recipe,
                    settings=self._settings,
                    ended=told.put,
                    **self._options,
                )
            except ShopfitError as error:
                told.put(error)
            except Exception as error:  # said where the fleet was begun
                told.put(ShopfitError(f"a worker broke off: {type(error).__name__}: {error}"))
            finally:
                told.put(None)

        threading.Thread(target=work, name="shopfit-fleet", daemon=True).start()
        while (said := told.get()) is not None:
            yield said


def onboard_on_ray(
    merchants: Sequence[Merchant],
    recipe: Recipe,
    *,
    address: str,
    workers: int | None = None,
    settings: Settings,
    actor: str,
    instant: bool = False,
    resume: bool = False,
    slots: int = SLOTS,
    check: Callable[[Merchant], None] = lambda _: None,
    reporter: Reporter = lambda _merchant, _what, _detail: None,
    ended: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Make, evaluate and register an adapter for each of many merchants, on a Ray cluster.

    Every machine reads the folders of merchants and base, and `settings.home`, at the same paths, and has the registry.
    Ray's processes trust each other: whoever has the cluster's token, or reaches one without, can run code there.

    Args:
        merchants: as for `onboard_fleet`, as is what is not said here.
        recipe: what to make.
        address: of the cluster, such as `auto` or `host:6379`; `local` starts one on this machine.
        workers: fleets at a time; one a GPU by default, else one a machine.
        settings: where state lives.
        actor: who asks.
        instant: whether each gets the version that needs no training first.
        resume: whether to leave out those that the same fleet registered before.
        slots: trainings at a time, of each worker.
        check: refuses a merchant, before it is dealt.
        reporter: told which worker a merchant is dealt to.
        ended: told of each outcome.

    Returns:
        the outcomes, in the order of the merchants.

    Raises:
        ShopfitError: if Ray is not installed, the cluster is not there, no worker is left, or one can make nothing.
    """
    check_fleet(recipe)
    check_merchants(merchants)
    recipe = on_one_base(recipe, merchants)
    found: dict[str, Outcome] = {}

    def over(outcome: Outcome) -> None:
        found[outcome.merchant] = outcome
        ended(outcome)

    left = deque[Merchant]()
    for merchant in merchants:
        try:
            check(merchant)
        except ShopfitError as error:
            over(Outcome.of(merchant.name, error))
        else:
            left.append(merchant)
    ray = _opened(address)
    try:
        options = {
            "actor": actor,
            "instant": instant,
            "resume": resume,
            "attempt": secrets.token_hex(8),
            "slots": slots,
        }
        cluster = _Cluster(ray, workers, recipe, settings, options)
        _deal(cluster, left, slots, reporter, over)
    finally:
        ray.shutdown()
    return [found[merchant.name] for merchant in merchants]


def _deal(
    cluster: "_Cluster",
    left: deque[Merchant],
    slots: int,
    reporter: Reporter,
    over: Callable[[Outcome], None],
) -> None:
    """Deal merchants out until all have an outcome."""
    hands: dict[Any, tuple[int, dict[str, Merchant]]] = {}
    suspects = deque[Merchant]()  # under whom a worker died
    deaths: Counter[str] = Counter()
    while left or suspects or hands:
        while cluster.free and (queue := left or suspects):
            size = min(_HANDS * slots, -(-len(left) // cluster.awaited)) if left else 1
            number = cluster.free.pop(0)
            hand = {merchant.name: merchant for merchant in (queue.popleft() for _ in range(size))}
            for name in hand:
                reporter(name, "worker", f"{number + 1} of {cluster.size}, process {cluster.processes[number]}")
            hands[cluster.run(number, [str(one.folder.absolute()) for one in hand.values()])] = number, hand
        outcomes = cluster.ready(list(hands))
        if outcomes is None:
            continue
        number, hand = hands[outcomes]
        try:
            said = cluster.next(outcomes)
        except WorkerDiedError:
            cluster.replace(number)
            for name, merchant in hand.items():
                deaths[name] += len(hand) == 1
                if deaths[name] < _DEATHS:
                    suspects.append(merchant)
                    continue
                step = "see how much memory the worker had; `shopfit adapter` trains this one alone"
                over(Outcome.of(name, ShopfitError(f"its worker died {_DEATHS} times", next_step=step)))
        else:
            if isinstance(said, ShopfitError):
                raise said
            if said is not None:
                del hand[said.merchant]
                over(said)
                continue
            cluster.free.append(number)
        del hands[outcomes]


class WorkerDiedError(Exception):
    """A worker's process is gone."""


class _Cluster:
    """The workers on a cluster that is open.

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
        kind = ray.remote(Worker).options(num_cpus=cores, num_gpus=gpus)
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

    def run(self, number: int, folders: Sequence[str]) -> Any:
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
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._workers[number])
        self._start(number)

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


def _opened(address: str) -> Any:
    """Ray, in a cluster.

    Raises:
        ShopfitError: if it is not installed, or not there, or outcomes would not come one by one.
    """
    if address.startswith("ray://"):
        raise ShopfitError(
            f"{address} is reached through Ray's client, which brings no outcomes of a fleet",
            next_step="run the fleet on a machine of the cluster, with --ray auto",
        )
    quiet_ray()
    try:
        import ray
    except ImportError:
        raise ShopfitError(
            "a fleet over machines needs Ray, which is not installed",
            next_step="run `pip install 'shopfit[ray]'` on every machine, or leave out --ray",
        ) from None
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        if address != LOCAL:
            _reach(address)
        ray.init(
            address=address,  # `local` starts a new one; without an address it would join one that is there
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ShopfitError(
            f"there is no Ray cluster at {address}: {str(error).splitlines()[0]}",
            next_step="start one with `ray start --head`, and give its address; `--ray local` starts one for this run",
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():  # Ray's own would end the run without its clean-up
                signal.signal(number, handler)
    return ray


def _reach(address: str) -> None:
    """See that somebody listens, where a place is named: Ray would wait for minutes.

    Raises:
        OSError: if nobody does.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10.0).close()
