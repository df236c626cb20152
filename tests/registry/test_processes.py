"""Many processes on one registry, and processes that are killed."""

import json
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.registry.conftest import MakeBundle

from shopfit.registry import Registry
from shopfit.settings import Settings

PUBLISHER = Path(__file__).with_name("publisher.py")


def start(what: str, settings: Settings, bundle: Path, *more: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(PUBLISHER), what, settings.registry, settings.blobs, str(bundle), *map(str, more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    output, errors = process.communicate(timeout=1200)
    assert process.returncode == 0, errors
    return [json.loads(line) for line in output.splitlines()]


def test_eight_processes_count_without_gaps(durable: Settings, make_bundle: MakeBundle) -> None:
    bundles = [make_bundle("acme").folder, make_bundle("acme-b").folder]
    # the registry does not exist yet: all of them try to make it
    processes = [start("publish", durable, bundles[number % 4 == 0], 4) for number in range(8)]
    for process in processes:
        finish(process)
    with Registry.open(durable) as registry:
        assert [version.number for version in registry.versions("acme")] == list(range(1, 25))
        assert [version.number for version in registry.versions("acme-b")] == list(range(1, 9))
        assert registry.resolve("acme/review-sentiment").number == 24
        assert registry.resolve("acme/review-sentiment@previous").number == 23
        assert len(registry.audit()) == 2 * 32
        assert registry.verify() == []


def assert_whole(seen: list[dict[str, Any]]) -> None:
    for state in seen:
        count = len(state["numbers"])
        assert state["numbers"] == list(range(1, count + 1)), state
        assert state["production"] == ([count] if count else []), state
        assert state["published"] == [f"acme/review-sentiment@{number}" for number in state["numbers"]], state
        assert state["problems"] == [], state


@pytest.mark.proof
def test_killed_at_every_step_of_opening_and_publishing(durable: Settings, make_bundle: MakeBundle) -> None:
    seen = finish(start("die-at", durable, make_bundle().folder))
    assert_whole(seen)
    opened, *publishing = seen
    assert opened["step"] > 15
    assert opened["numbers"] == []
    assert [state["lived"] for state in publishing] == [False] * (len(publishing) - 1) + [True]
    counts = [len(state["numbers"]) for state in publishing]
    assert len(counts) > 25
    assert counts[:20] == [0] * 20  # killed before the commit: nothing
    assert counts[-1] == counts[-2] + 1


@pytest.mark.proof
def test_killed_at_any_time(settings: Settings, make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    seen = finish(start("die-anytime", settings, bundle.folder, 8))
    assert_whole(seen)
    done = len(seen[-1]["numbers"])
    assert done >= len(seen) == 8  # each child had published before it was killed
    with Registry.open(settings) as registry:
        assert registry.publish(bundle, promote=True, actor="ada").number == done + 1
        assert registry.verify() == []


def test_fetching_at_once_into_one_cache(settings: Settings, make_bundle: MakeBundle, tmp_path: Path) -> None:
    with Registry.open(settings) as registry:
        version = registry.publish(make_bundle(), promote=True, actor="ada")
    script = (
        "import sys; from pathlib import Path\n"
        "from shopfit.registry import Registry; from shopfit.settings import Settings\n"
        "with Registry.open(Settings(Path(sys.argv[1]), sys.argv[2], sys.argv[3])) as registry:\n"
        "    for attempt in range(15):\n"
        "        version = registry.resolve('acme/review-sentiment')\n"
        "        bundle = registry.fetch(version, Path(sys.argv[1]) / f'cache-{attempt}')\n"
        "        assert not bundle.problems()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), settings.registry, settings.blobs]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        _, errors = process.communicate(timeout=1200)
        assert process.returncode == 0, errors
    for attempt in range(15):
        assert [path.name for path in (tmp_path / f"cache-{attempt}").iterdir()] == [version.digest]


def test_collecting_while_others_publish(durable: Settings, make_bundle: MakeBundle) -> None:
    processes = [start("publish", durable, make_bundle().folder, 8) for _ in range(3)]
    with Registry.open(durable) as registry:
        while any(process.poll() is None for process in processes):
            registry.collect_garbage(grace=timedelta(0))  # no grace: only the order of locks protects them
            time.sleep(0.02)
        for process in processes:
            finish(process)
        assert len(registry.versions()) == 24
        assert registry.verify() == []
