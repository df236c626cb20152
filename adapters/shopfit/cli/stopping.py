"""Signals that end a command, each in the same way: clean-up runs, and the exit status names the signal."""

import signal
import weakref
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    @property
    def status(self) -> int:
        """What to exit with: 130 after Ctrl-C, 143 after SIGTERM, 129 when the terminal went away."""
        return 128 + self.number


def heed_signals() -> None:
    """Turn SIGINT, SIGTERM and SIGHUP into `Stopped`; what is ignored, as under nohup, stays ignored.

    While one is being handled, others change nothing: launchers send several, and clean-up must not be cut short.
    """
    being_handled: weakref.ref[Stopped] | None = None

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal being_handled
        if being_handled is not None and being_handled() is not None:
            return
        stopped = Stopped(number)
        being_handled = weakref.ref(stopped)
        try:
            raise stopped
        finally:
            del stopped  # this frame is in its traceback, and must not keep it

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
