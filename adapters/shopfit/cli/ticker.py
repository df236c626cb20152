"""Says that a run goes on, where nothing else did for some seconds."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shopfit.cli.screen import Screen
    from shopfit.tune.reporter import Reporter


class Ticker:
    """A reporter that names the stage again whenever some seconds have passed without a line, outside a terminal.

    Args:
        screen: where lines are printed.
        reporter: prints a resolved choice or finished stage.
        every: seconds between two lines, at most.
        clock: gives seconds, as `time.monotonic`.
    """

    def __init__(
        self,
        screen: "Screen",
        reporter: "Reporter",
        *,
        every: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._screen, self._reporter, self._every, self._clock = screen, reporter, every, clock
        self._stage, self._since = "starting", clock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="shopfit-ticker", daemon=True)

    def __call__(self, what: str, detail: str) -> None:
        """Report it; that is the stage from now on."""
        self._reporter(what, detail)
        if what != self._stage:
            self._stage, self._since = what, self._clock()

    def __enter__(self) -> "Ticker":
        if not self._screen.is_terminal:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _tick(self) -> None:
        silent = 0.0
        while not self._ended.wait(self._every - silent):
            silent = self._screen.silent_for()
            if silent >= self._every:
                self._screen.row(self._stage, f"goes on, {self._clock() - self._since:.0f} s so far")
                silent = 0.0
