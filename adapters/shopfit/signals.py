"""Signals that end a run wait until a step is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def held_back() -> Iterator[None]:
    """A context in which SIGINT, SIGTERM and SIGHUP are noted, and take effect at its end; a second one does at once.

    Only the main thread is sent signals; on others, nothing is held back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    noted: list[int] = []
    before = {number: signal.getsignal(number) for number in _ENDING}

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        if len(noted) > 1:
            _take_effect(before[number], number, frame)

    ending = [number for number, handler in before.items() if callable(handler)]  # ignored ones stay ignored
    for number in ending:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number in ending:
            signal.signal(number, before[number])
        if noted:
            _take_effect(before[noted[0]], noted[0], None)


def _take_effect(handler: object, number: int, frame: FrameType | None) -> None:
    if callable(handler):
        handler(number, frame)
