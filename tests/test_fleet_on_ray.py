"""A fleet on a local Ray cluster makes what a fleet alone makes, and goes on when a worker is killed."""

import os
import signal
from pathlib import Path

import pytest

from shopfit.errors import ShopfitError
from shopfit.fleet import Outcome, onboard_fleet
from shopfit.fleet_on_ray import onboard_on_ray
from shopfit.merchant.merchant import Merchant
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
    yard: list[Merchant], tmp_path: Path, settings: Settings, tiny_base: Path
) -> None:
    of = recipe(tmp_path, tiny_base, epochs=1)
    (yard[2].folder / "reviews.jsonl").write_text('{"text": "no label"}\n')
    alone = onboard_fleet(yard, of, settings=apart(settings, tmp_path / "alone"), actor="test")
    processes: dict[str, list[int]] = {name: [] for name in NAMES}
    killed: list[int] = []

    def dealt(merchant: str, _what: str, detail: str) -> None:
        processes[merchant].append(int(detail.rpartition(" ")[2]))

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
    assert any(len(mine) > 1 for mine in processes.values())  # dealt to the worker that was killed, and again
    assert len({process for mine in processes.values() for process in mine}) == 3
    assert [outcome.merchant for outcome in outcomes] == list(NAMES)
    for one, other in zip(outcomes, alone, strict=True):
        assert (one.state, one.metric, one.problems) == (other.state, other.metric, other.problems)
        assert one.after == pytest.approx(other.after, abs=5e-3)
    assert outcomes[2].state == "failed"
    with Registry.open(settings) as registry:
        for outcome in outcomes:
            assert bool(registry.versions(outcome.merchant)) == (outcome.state != "failed")


def test_what_stops_every_worker_is_said_once(yard: list[Merchant], tmp_path: Path, settings: Settings) -> None:
    of = recipe(tmp_path, tmp_path / "no-base")
    with pytest.raises(ShopfitError, match="no-base"):
        onboard_on_ray(yard, of, address="local", settings=settings, actor="test")


def test_a_cluster_that_is_not_there_is_said(yard: list[Merchant], tmp_path: Path, settings: Settings) -> None:
    of = recipe(tmp_path, tmp_path / "no-base")
    with pytest.raises(ShopfitError, match=r"no Ray cluster at 127\.0\.0\.1:9"):
        onboard_on_ray(yard, of, address="127.0.0.1:9", settings=settings, actor="test")


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
