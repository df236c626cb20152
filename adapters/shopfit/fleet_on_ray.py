"""A fleet on a Ray cluster: workers that are fleets of their own, one a device; where one dies, others take over.

Merchants are dealt out in hands, and each outcome comes back as soon as it is there. Of a worker that is killed those
are dealt again whose outcome has not come; what it registered in that moment is found on a home that both can read.
"""

import logging
import os
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
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

LOCAL = "local"
_HANDS = 2  # of slots that a worker is dealt: one while the other is trained
_DEATHS = 2  # of workers under a merchant, after which it is not dealt again


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

    def run(self, folders: Sequence[str], resume: bool) -> Iterator[Outcome | ShopfitError]:
        """Onboard merchants, and yield each outcome as soon as it is there.

        Args:
            folders: of the merchants.
            resume: as for `onboard_fleet`.

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
                    resume=resume,
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
        address: of the cluster, such as `auto` or `ray://host:10001`; `local` starts one on this machine.
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
        ShopfitError: if Ray is not installed, the cluster is not there, or a worker can make nothing at all.
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
        options = {"actor": actor, "instant": instant, "slots": slots}
        cluster = _Cluster(ray, workers, recipe, settings, options)
        _deal(cluster, left, slots, resume, reporter, over)
    finally:
        ray.shutdown()
    return [found[merchant.name] for merchant in merchants]


def _deal(
    cluster: "_Cluster",
    left: deque[Merchant],
    slots: int,
    resume: bool,
    reporter: Reporter,
    over: Callable[[Outcome], None],
) -> None:
    """Deal merchants out until all have an outcome."""
    hands: dict[Any, tuple[int, dict[str, Merchant]]] = {}
    free = list(range(cluster.size))
    deaths: Counter[str] = Counter()
    while left or hands:
        while left and free:
            number = free.pop(0)
            size = min(_HANDS * slots, -(-len(left) // (len(free) + 1)))
            hand = {merchant.name: merchant for merchant in (left.popleft() for _ in range(size))}
            for name in hand:
                reporter(name, "worker", f"{number + 1} of {cluster.size}, process {cluster.process(number)}")
            again = resume or any(deaths[name] for name in hand)
            hands[cluster.run(number, [str(one.folder.absolute()) for one in hand.values()], again)] = number, hand
        outcomes = cluster.ready(list(hands))
        number, hand = hands[outcomes]
        try:
            said = cluster.next(outcomes)
        except WorkerDiedError:
            cluster.replace(number)
            deaths.update(hand.keys())
            for name, merchant in hand.items():
                if deaths[name] < _DEATHS:
                    left.append(merchant)
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
        del hands[outcomes]
        free.append(number)


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
        there = ray.cluster_resources()
        machines = sum(node["Alive"] for node in ray.nodes())
        if machines > 1 and settings.registry.startswith("sqlite"):
            raise ShopfitError(
                f"the {machines} machines of the cluster have no registry in common: {settings.registry} is a file",
                next_step="set SHOPFIT_REGISTRY to a PostgreSQL URL and SHOPFIT_BLOBS to where all reach it",
            )
        self._ray = ray
        self.size = workers or int(there.get("GPU", 0)) or machines
        cores = int(there.get("CPU", 0)) // self.size
        if cores < 1:
            raise ShopfitError(
                f"{self.size} workers want a core each, and the cluster has {int(there.get('CPU', 0))}",
                next_step="say less with --workers",
            )
        gpus = min(1.0, there.get("GPU", 0) / self.size)
        kind = ray.remote(Worker).options(num_cpus=cores, num_gpus=gpus)
        self._new: Callable[[], Any] = lambda: kind.remote(recipe, settings, options)
        self._workers = [self._new() for _ in range(self.size)]

    def process(self, number: int) -> int:
        """The number of a worker's process.

        Raises:
            ShopfitError: if it does not start.
        """
        try:
            return int(self._ray.get(self._workers[number].process.remote()))
        except self._ray.exceptions.RayError as error:
            raise ShopfitError(
                f"a worker does not start: {str(error).splitlines()[0]}",
                next_step=f"install shopfit {__version__} with the same Python on every machine of the cluster",
            ) from error

    def run(self, number: int, folders: Sequence[str], resume: bool) -> Any:
        """Have a worker run; what is returned stands for the outcomes to come."""
        return self._workers[number].run.options(num_returns="streaming").remote(folders, resume)

    def ready(self, outcomes: Sequence[Any]) -> Any:
        """One of those that have something to tell."""
        while True:
            there, _ = self._ray.wait(outcomes, num_returns=1, timeout=1.0)
            if there:
                return there[0]

    def next(self, outcomes: Any) -> Outcome | ShopfitError | None:
        """The next outcome, or None after the last.

        Raises:
            WorkerDiedError: if the worker's process is gone.
        """
        try:
            return self._ray.get(next(outcomes))  # type: ignore[no-any-return]
        except StopIteration:
            return None
        except self._ray.exceptions.RayActorError as error:
            raise WorkerDiedError from error

    def replace(self, number: int) -> None:
        """Put a new worker in the place of one that died."""
        self._workers[number] = self._new()


def _opened(address: str) -> Any:
    """Ray, in a cluster.

    Raises:
        ShopfitError: if it is not installed, or not there.
    """
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
            address=None if address == LOCAL else address,
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
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10.0).close()
