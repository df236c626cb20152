"""What an engine holds, for monitoring."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Held:
    """An adapter in host memory.

    Args:
        name: that it was asked by last.
        digest: SHA-256 of its bundle; empty for what callers assembled.
        bytes: that it takes.
        seated: whether it is in a slot, too.
    """

    name: str
    digest: str
    bytes: int
    seated: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What an engine holds at a moment.

    Args:
        waiting: rows that wait for a forward.
        writing: answers being decoded.
        resident: adapters in slots.
        swaps: times an adapter was brought into a slot, so far.
        loaded: adapters in host memory.
        memory: bytes they take.
        paused: answers that were begun, and wait so that other merchants have their share of the rows.
        ended: why the engine has ended; empty while it runs.
        requests: that are under way: not answered yet, at whatever stage.
        queue: requests that one merchant may have under way while no other has any.
        slots: for adapters beside the base.
        rows: answers that can be decoded at a time.
        held: the adapters that were asked last, the last one first; 50 at most.
    """

    waiting: int
    writing: int
    resident: int
    swaps: int
    loaded: int
    memory: int
    paused: int = 0
    ended: str = ""
    requests: int = 0
    queue: int = 0
    slots: int = 0
    rows: int = 0
    held: tuple[Held, ...] = ()
