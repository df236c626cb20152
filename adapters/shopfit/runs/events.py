"""What happened in a run, a line each in its `events.jsonl`: appended, never changed, and whole after any crash."""

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

Kind = Literal["queued", "started", "stage", "begin", "step", "epoch", "version", "failed", "stopped", "ended"]
"""queued, started, stopped, failed and ended move the run on; the others tell of it while it is under way."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line.

    Args:
        kind: what happened.
        at: when, with time zone.
        facts: what is told of it, as plain JSON.
    """

    kind: Kind
    at: datetime
    facts: dict[str, Any] = field(default_factory=dict, hash=False)


def append(file: Path, kind: Kind, /, **facts: Any) -> None:
    """Add an event to a file, in one write.

    Raises:
        OSError: if it cannot be written.
    """
    line = json.dumps({"event": kind, "at": datetime.now(UTC).isoformat(), **facts}, ensure_ascii=False) + "\n"
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode("utf-8", "replace"))
    finally:
        os.close(descriptor)


def read(file: Path) -> list[Event]:
    """The events in a file, oldest first; a line that a crash cut short is passed over, and so is a missing file."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return []
    events = []
    for line in content.splitlines():
        try:
            facts = json.loads(line)
            events.append(Event(facts.pop("event"), datetime.fromisoformat(facts.pop("at")), facts))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return events
