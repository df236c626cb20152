"""Processes that publish and are killed; run as a script, with what to do as the first argument.

    publisher.py publish REGISTRY BLOBS BUNDLE TIMES   publish that often
    publisher.py die-at REGISTRY BLOBS BUNDLE          a child a step of opening and publishing, killed there
    publisher.py die-anytime REGISTRY BLOBS BUNDLE N   N children that publish for ever, each killed at a random moment
                                                       after its first version

Parents look, after each death, at what the registry holds, and print a line of JSON.
"""

import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import alembic.command
import psycopg
from sqlalchemy import Engine, Pool, event

from shopfit.adapter.bundle import Bundle, seal
from shopfit.registry import Registry
from shopfit.settings import Settings

GIVE_UP = 60.0  # seconds; a guard against hanging, and nothing else
IMPORTED_BEFORE_FORKING = (alembic.command, psycopg)


def varied(bundle: Path, folder: Path, text: str) -> Bundle:
    """A copy of `bundle` with other content, so that publishing it has blobs to write."""
    shutil.copytree(bundle, folder)
    (folder / "README.md").write_text(text)
    return seal(folder, Bundle.open(bundle).manifest)


def die_at(step: int, under: str, also: tuple[str, ...] = ()) -> None:
    """Kill this process at the `step`-th thing that it does to the files below `under` or to a database.

    `also` names more of Python's audit events on files that count as a thing.
    """
    left = step

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_file(name: str, arguments: tuple[object, ...]) -> None:
        if name in {"open", "os.rename", "os.mkdir", *also} and str(arguments[0]).startswith(under):
            count()

    sys.addaudithook(on_file)
    for moment in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(Engine, moment, count)
    event.listen(Pool, "checkin", count)


def child(action: Callable[[], None], *, killed_after: Callable[[], object] | None = None) -> bool:
    """Run `action` in a child process, and kill it when `killed_after` returns. Returns whether it lived to its end."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except BaseException as error:
            print(f"child: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if killed_after is not None:
        killed_after()
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in {0, -signal.SIGKILL}, status
    return status == 0


def look(settings: Settings) -> dict[str, list[Any]]:
    """What the registry holds now."""
    with Registry.open(settings) as registry:
        versions = registry.versions()
        return {
            "numbers": [version.number for version in versions],
            "production": [version.number for version in versions if "production" in version.aliases],
            "published": [e.reference for e in registry.audit() if e.action == "publish"],
            "problems": [str(problem) for _, problem in registry.verify()],
        }


def moment_after(settings: Settings, done: int) -> None:
    """Wait for a version after those `done`, however long that takes here, and then for a moment."""
    until = time.monotonic() + GIVE_UP
    with Registry.open(settings) as registry:
        while len(registry.versions()) == done and time.monotonic() < until:
            time.sleep(0.005)
    time.sleep(random.uniform(0, 0.05))


def main(what: str, url: str, blobs: str, bundle: str, times: int = 0) -> None:
    settings = Settings(home=Path(blobs).parent, registry=url, blobs=blobs)
    copies = Path(blobs).parent / "copies"

    def publish(registry: Registry, text: str) -> None:
        registry.publish(varied(Path(bundle), copies / text, text), promote=True, actor=str(os.getpid()))

    def open_until(step: int) -> None:
        die_at(step, blobs)
        Registry.open(settings).close()

    def publish_until(step: int) -> None:
        with Registry.open(settings) as registry:
            prepared = varied(Path(bundle), copies / str(step), str(step))
            die_at(step, blobs)
            registry.publish(prepared, promote=True, actor="child")

    def publish_for_ever() -> None:
        with Registry.open(settings) as registry:
            while True:
                publish(registry, f"{os.getpid()}-{time.monotonic_ns()}")

    if what == "publish":
        with Registry.open(settings) as registry:
            for attempt in range(times):
                publish(registry, f"{os.getpid()}-{attempt}")
    elif what == "die-at":
        step = next(step for step in itertools.count(1) if child(lambda: open_until(step)))  # noqa: B023 - runs at once
        print(json.dumps({"step": step, "lived": True, **look(settings)}), flush=True)
        step, lived = 0, False
        while not lived:
            step += 1
            lived = child(lambda: publish_until(step))  # noqa: B023 - runs at once
            print(json.dumps({"step": step, "lived": lived, **look(settings)}), flush=True)
    else:
        for _ in range(times):
            done = len(look(settings)["numbers"])
            assert not child(publish_for_ever, killed_after=lambda: moment_after(settings, done))  # noqa: B023
            print(json.dumps(look(settings)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:5], *map(int, sys.argv[5:]))
