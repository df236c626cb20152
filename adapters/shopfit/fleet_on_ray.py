"""A fleet on a Ray cluster: workers that are fleets of their own, one a device; where one dies, others take over.

Merchants are dealt out in hands, and each outcome comes back as soon as it is there. Of a worker that is killed those
are dealt again whose outcome has not come, each alone, so that it is known under whom workers die; what it registered
in that moment is found on a home that both can read. Nobody waits for a worker that is not up while others are, and one
that cannot go on, such as where a machine does not reach the registry, leaves the rest to the others.
"""

import logging
import secrets
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from shopfit.errors import ShopfitError
from shopfit.fleet import Outcome, Reporter, check_merchants, on_one_base
from shopfit.fleet_workers import WorkerDiedError, Workers
from shopfit.libraries import quiet_ray, usable_cores
from shopfit.merchant.merchant import Merchant
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry
from shopfit.settings import Settings
from shopfit.tune.fleet import SLOTS, check_fleet

LOCAL = "local"
_HANDS = 2  # of slots that a worker is dealt: one while the other is trained
_DEATHS = 2  # of workers that had a merchant alone, after which it is not dealt again


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
        ShopfitError: if Ray is not installed, the cluster or the registry is not there, or no worker is left: then what
            the last one said.
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
    with Registry.open(settings) as registry:
        erasures = registry.erasures([merchant.name for merchant in merchants])
    ray = _opened(address)
    try:
        options = {
            "erasures": erasures,
            "actor": actor,
            "instant": instant,
            "resume": resume,
            "attempt": secrets.token_hex(8),
            "slots": slots,
        }
        cluster = Workers(ray, workers, recipe, settings, options)
        _deal(cluster, left, slots, reporter, over)
    finally:
        ray.shutdown()
    return [found[merchant.name] for merchant in merchants]


def _deal(
    cluster: Workers,
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
            hands[cluster.run(number, {name: str(one.folder.absolute()) for name, one in hand.items()})] = number, hand
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
            if isinstance(said, Outcome):
                del hand[said.merchant]
                over(said)
                continue
            if said is None:
                cluster.free.append(number)
            else:
                cluster.retire(number, said)
                left.extendleft(reversed(hand.values()))
        del hands[outcomes]


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
            "a fleet over processes or machines needs Ray, which is not installed",
            next_step="run `pip install 'shopfit[ray]'` on every machine, or leave out --ray and --workers",
        ) from None
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        if address != LOCAL:
            _reach(address)
        ray.init(
            address=address,  # `local` starts a new one; without an address it would join one that is there
            num_cpus=usable_cores() if address == LOCAL else None,  # Ray's own count knows no affinity
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
