"""What an engine holds, for monitoring."""

from dataclasses import dataclass


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
    """

    waiting: int
    writing: int
    resident: int
    swaps: int
    loaded: int
    memory: int
    paused: int = 0
    ended: str = ""
