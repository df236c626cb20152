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
        requests: that are under way: not answered yet, at whatever stage.
        queue: requests that one merchant may have under way while no other has any.
        slots: for adapters beside the base.
        rows: answers that can be decoded at a time.
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
