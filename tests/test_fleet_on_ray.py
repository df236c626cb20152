"""A fleet on a local Ray cluster makes what a fleet alone makes, and goes on when a worker is killed."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from shopfit import fleet_workers
from shopfit.errors import ShopfitError
from shopfit.fleet import Outcome, onboard_fleet
from shopfit.fleet_on_ray import onboard_on_ray
from shopfit.libraries import usable_cores
from shopfit.merchant.merchant import Merchant
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry
from shopfit.settings import Settings
from tests.cli.conftest import review, write_rows
from tests.test_fleet import apart, recipe

pytest.importorskip("ray", reason="the extra `ray` is not installed")
NAMES = ("acme", "bolt", "crane", "dune", "elm", "fir")


pytestmark = pytest.mark.proof


@pytest.fixture
def yard(tmp_path: Path) -> list[Merchant]:
    for name in NAMES:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "merchant.yaml").write_text(f"name: {name}\n")
        write_rows(folder / "reviews.jsonl", [review(row, name) for row in range(8)])
        write_rows(folder / "reviews.test.jsonl", [review(row, f"{name} test") for row in range(6)])
    return [Merchant.open(tmp_path / name) for name in NAMES]


def test_a_killed_workers_merchants_are_dealt_again(
    yard: list[Merchant], tmp_path: Path, settings: Settings, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "64")  # of this process, not of workers with a core each
    of = recipe(tmp_path, tiny_base, epochs=1)
    (yard[2].folder / "reviews.jsonl").write_text('{"text": "no label"}\n')
    alone = onboard_fleet(yard, of, settings=apart(settings, tmp_path / "alone"), actor="test")
    processes: dict[str, list[int]] = {name: [] for name in NAMES}
    killed: list[int] = []
    threads: set[bytes] = set()

    def dealt(merchant: str, _what: str, detail: str) -> None:
        processes[merchant].append(int(detail.rpartition(" ")[2]))
        variables = Path(f"/proc/{processes[merchant][-1]}/environ").read_bytes().split(b"\0")
        threads.update(one for one in variables if one.startswith(b"OMP_NUM_THREADS="))

    def ended(outcome: Outcome) -> None:
        if not killed:
            killed.append(processes[outcome.merchant][-1])
            os.kill(killed[0], signal.SIGKILL)

    outcomes = onboard_on_ray(
        yard,
        of,
        address="local",
        workers=2,
        settings=settings,
        actor="test",
        slots=2,
        reporter=dealt,
        ended=ended,
    )
    assert threads == {b"OMP_NUM_THREADS=%d" % max(1, usable_cores() // 2)}
    assert any(len(mine) > 1 for mine in processes.values())  # dealt to the worker that was killed, and again
    assert all(mine[-1] != killed[0] for mine in processes.values() if len(mine) > 1)
    assert [outcome.merchant for outcome in outcomes] == list(NAMES)
    for one, other in zip(outcomes, alone, strict=True):
        assert (one.state, one.metric, one.problems) == (other.state, other.metric, other.problems)
        assert one.after == pytest.approx(other.after, abs=5e-3)
    assert outcomes[2].state == "failed"
    with Registry.open(settings) as registry:
        for outcome in outcomes:
            assert bool(registry.versions(outcome.merchant)) == (outcome.state != "failed")


def killed_at(merchant: str, times: int) -> Callable[[str, str, str], None]:
    """A reporter that kills the worker to whom a merchant is dealt, the first times."""
    dealt: list[str] = []

    def reporter(name: str, _what: str, detail: str) -> None:
        dealt.append(name)
        if name == merchant and dealt.count(name) <= times:
            os.kill(int(detail.rpartition(" ")[2]), signal.SIGKILL)

    return reporter


def test_only_the_merchant_under_whom_workers_die_fails(
    yard: list[Merchant], tmp_path: Path, settings: Settings, tiny_base: Path
) -> None:
    of = recipe(tmp_path, tiny_base, steps=1)
    outcomes = onboard_on_ray(
        yard, of, address="local", workers=1, settings=settings, actor="test", slots=2, reporter=killed_at("dune", 9)
    )
    assert [one.merchant for one in outcomes if one.state == "failed"] == ["dune"]
    assert "its worker died 2 times" in outcomes[3].reason


def test_what_an_earlier_fleet_made_is_made_anew_where_a_worker_dies(
    yard: list[Merchant], tmp_path: Path, settings: Settings, tiny_base: Path
) -> None:
    of = recipe(tmp_path, tiny_base, steps=1)
    onboard_fleet(yard, of, settings=settings, actor="test")
    outcomes = onboard_on_ray(
        yard, of, address="local", workers=1, settings=settings, actor="test", reporter=killed_at("fir", 1)
    )
    assert [(one.version, one.earlier) for one in outcomes] == [(f"{name}/r@2", False) for name in NAMES]


@pytest.mark.skipif("SHOPFIT_FILL_MEMORY" not in os.environ, reason="it fills the machine's memory: see `make soak`")
def test_a_worker_without_memory_has_its_merchants_dealt_again(
    yard: list[Merchant], tmp_path: Path, settings: Settings, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, gigabyte = psutil.virtual_memory(), 2**30
    if memory.available < 10 * gigabyte:
        pytest.skip("10 GB of memory must be free")
    share = 1 - (memory.available - 4 * gigabyte) / memory.total
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{share:.4f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    dealt: dict[str, list[int]] = {name: [] for name in NAMES}
    killed: list[int] = []

    def ended(outcome: Outcome) -> None:
        if killed:
            return
        killed.append(dealt[outcome.merchant][-1])
        taken = []
        while psutil.pid_exists(killed[0]) and len(taken) < 16:
            taken.append(b"x" * (gigabyte // 2))
            time.sleep(0.5)

    outcomes = onboard_on_ray(
        yard,
        recipe(tmp_path, tiny_base, steps=1),
        address="local",
        workers=1,
        settings=settings,
        actor="test",
        slots=1,
        reporter=lambda merchant, _, detail: dealt[merchant].append(int(detail.rpartition(" ")[2])),
        ended=ended,
    )
    assert all(one.version for one in outcomes), outcomes
    assert len({process for mine in dealt.values() for process in mine}) == 2


def on_machines(
    cluster: Any, yard: list[Merchant], of: Recipe, settings: Settings, postgresql: str, **options: Any
) -> list[Outcome]:
    """What comes of merchants on a cluster of several machines, which share a registry; one at a time on each."""
    shared = Settings(home=settings.home, registry=postgresql, blobs=settings.blobs)
    return onboard_on_ray(yard, of, address=cluster.address, settings=shared, actor="test", slots=1, **options)


def test_a_fleet_goes_on_without_a_machine_that_went_down(
    yard: list[Merchant], tmp_path: Path, settings: Settings, tiny_base: Path, postgresql: str
) -> None:
    from ray.cluster_utils import Cluster

    of = recipe(tmp_path, tiny_base, steps=1)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    machines = [cluster.add_node(num_cpus=1)]

    def ended(_: Outcome) -> None:
        while machines:
            cluster.remove_node(machines.pop(), allow_graceful=False)

    try:
        outcomes = on_machines(cluster, yard, of, settings, postgresql, ended=ended)
    finally:
        cluster.shutdown()
    assert all(one.version for one in outcomes), outcomes


def test_a_machine_that_cannot_go_on_leaves_its_merchants_to_the_others(
    yard: list[Merchant], tmp_path: Path, settings: Settings, tiny_base: Path, postgresql: str
) -> None:
    from ray.cluster_utils import Cluster

    of, dealt, refused = recipe(tmp_path, tiny_base, steps=1), set[int](), set[int]()
    lacking = {"PGOPTIONS": "-c nothing=1"}  # the registry refuses who says that

    def note(_merchant: str, _what: str, detail: str) -> None:
        dealt.add(int(detail.rpartition(" ")[2]))
        until = time.monotonic() + 120
        while not refused:  # until both are up, or one would have done all the work before
            assert time.monotonic() < until
            time.sleep(0.1)
            refused.update(workers_with(lacking))

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1, env_vars=lacking)
        outcomes = on_machines(cluster, yard, of, settings, postgresql, reporter=note)
    finally:
        cluster.shutdown()
    assert all(one.version for one in outcomes), outcomes
    assert refused & dealt, "some were dealt to that machine first"


def workers_with(variables: dict[str, str]) -> set[int]:
    """Processes of workers that are up, on a machine with some environment variables."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            title = process.cmdline()[:1]
            if title and title[0].startswith("ray::Worker") and "__init__" not in title[0]:
                found |= {process.pid} if variables.items() <= process.environ().items() else set()
    return found


def test_a_folder_that_is_gone_fails_its_merchant_alone(
    yard: list[Merchant], tmp_path: Path, settings: Settings, tiny_base: Path
) -> None:
    def check(merchant: Merchant) -> None:
        if merchant.name in {"bolt", "fir"}:
            shutil.rmtree(merchant.folder)

    outcomes = onboard_on_ray(
        yard[:3] + yard[5:],
        recipe(tmp_path, tiny_base, steps=1),
        address="local",
        settings=settings,
        actor="test",
        slots=1,
        check=check,
    )
    assert [bool(one.version) for one in outcomes] == [True, False, True, False]
    assert "bolt" in outcomes[1].reason


@pytest.mark.parametrize(("workers", "machines"), [(None, [(1, 1)]), (3, [(2, 1), (1, 1)])])  # cores and GPUs
def test_every_worker_has_room_on_a_machine(
    yard: list[Merchant],
    tmp_path: Path,
    settings: Settings,
    tiny_base: Path,
    postgresql: str,
    workers: int | None,
    machines: list[tuple[int, int]],
) -> None:
    import ray
    from ray.cluster_utils import Cluster

    def placed(*_: str) -> None:
        until = time.monotonic() + 120
        while ray.available_resources().get("GPU", 0) > 0.5:
            assert time.monotonic() < until
            time.sleep(0.1)

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "num_gpus": 0})
    try:
        for cores, gpus in machines:
            cluster.add_node(num_cpus=cores, num_gpus=gpus)
        of = recipe(tmp_path, tiny_base, steps=1)
        outcomes = on_machines(cluster, yard, of, settings, postgresql, workers=workers, reporter=placed)
    finally:
        cluster.shutdown()
    assert all(one.version for one in outcomes), outcomes


@pytest.fixture
def crowded() -> Iterator[str]:
    """The address of a cluster whose only core another program has."""
    import ray
    from ray.cluster_utils import Cluster

    class Other:
        def there(self) -> bool:
            return True

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        ray.init(address=cluster.address, namespace="other", log_to_driver=False)
        other: Any = ray.remote(Other).options(num_cpus=1, name="other", lifetime="detached").remote()
        assert ray.get(other.there.remote())
        ray.shutdown()
        yield cluster.address
    finally:
        cluster.shutdown()


def test_workers_that_find_no_room_are_said(
    yard: list[Merchant],
    tmp_path: Path,
    settings: Settings,
    tiny_base: Path,
    crowded: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet_workers, "PATIENCE", 3.0)
    with pytest.raises(ShopfitError, match="no worker of the cluster is up after 3 s") as caught:
        onboard_on_ray(yard, recipe(tmp_path, tiny_base), address=crowded, settings=settings, actor="test")
    assert "--resume" in (caught.value.next_step or "")


def test_what_stops_every_worker_is_said_once(yard: list[Merchant], tmp_path: Path, settings: Settings) -> None:
    of = recipe(tmp_path, tmp_path / "no-base")
    with pytest.raises(ShopfitError, match="no-base"):
        onboard_on_ray(yard, of, address="local", settings=settings, actor="test")


def test_a_cluster_that_is_not_there_is_said(yard: list[Merchant], tmp_path: Path, settings: Settings) -> None:
    of = recipe(tmp_path, tmp_path / "no-base")
    with pytest.raises(ShopfitError, match=r"no Ray cluster at 127\.0\.0\.1:9"):
        onboard_on_ray(yard, of, address="127.0.0.1:9", settings=settings, actor="test")


def test_rays_client_is_refused(yard: list[Merchant], tmp_path: Path, settings: Settings) -> None:
    of = recipe(tmp_path, tmp_path / "no-base")
    with pytest.raises(ShopfitError, match="through Ray's client"):
        onboard_on_ray(yard, of, address="ray://localhost:10001", settings=settings, actor="test")


def test_machines_without_a_registry_in_common_are_refused(
    yard: list[Merchant], tmp_path: Path, settings: Settings, tiny_base: Path
) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        with pytest.raises(ShopfitError, match="the 2 machines of the cluster have no registry in common"):
            onboard_on_ray(yard, recipe(tmp_path, tiny_base), address=cluster.address, settings=settings, actor="test")
    finally:
        cluster.shutdown()
