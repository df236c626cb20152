"""Work counted in forwards of the real model, and held up at will: so that no test here depends on a clock."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from shopfit.base.load import Base

GUARD = 300.0  # seconds after which something hangs


class Gate:
    """Counts the forwards of a base, and can keep the next one waiting."""

    def __init__(self) -> None:
        self.forwards = 0
        self.rows: list[Any] = []
        self._open = threading.Event()
        self._open.set()
        self._held = threading.Event()
        self._fail: Callable[[Any], bool] = lambda _: False
        self._error: type[BaseException] = RuntimeError

    def __call__(self, _module: Any, _arguments: Any, options: dict[str, Any]) -> None:
        self.forwards += 1
        ids = options["input_ids"]
        self.rows.append(ids.detach().clone())
        self._held.set()
        if not self._open.wait(GUARD):
            raise TimeoutError("the gate was never opened")
        if self._fail(ids):
            raise self._error("this forward cannot be done")

    def close(self) -> None:
        """Keep the next forward waiting."""
        self._held.clear()
        self._open.clear()

    def wait_until_held(self) -> None:
        """Until a forward waits."""
        assert self._held.wait(GUARD)

    def open(self) -> None:
        """Let forwards go on."""
        self._open.set()

    def fail(self, when: Callable[[Any], bool], error: type[BaseException] = RuntimeError) -> None:
        """Let forwards fail whose tokens (B, T) are such."""
        self._fail, self._error = when, error


@contextmanager
def gated(base: Base) -> Iterator[Gate]:
    """The base with a gate before its backbone."""
    gate = Gate()
    backbone = base.model.base_model
    handle = backbone.register_forward_pre_hook(gate, with_kwargs=True)
    try:
        yield gate
    finally:
        gate.open()
        handle.remove()
