"""Mutual exclusion on a base's layers: stacks take turns, forward by forward, and training has them exclusively.

A base is one model in memory, which many objects share. Changes of a stack or a training to its layers would reach the
rows of any other forward that runs at the same time, so all of them acquire the layers here first.
"""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shopfit.errors import BaseError

_LATER = "close what uses it first, or load the base once more"


class Turns:
    """The lock on one model's layers."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._worn = False
        self._training: weakref.ref[Training] | None = None

    @contextmanager
    def forward(self, name: str) -> Iterator[None]:
        """Hold the layers for a forward with adapters; other threads that want them wait until it ends.

        Args:
            name: of the base, for messages.

        Raises:
            BaseError: if an adapter is being trained on the base, or this thread holds the layers already.
        """
        with self._lock:
            self.check(name)
            if self._worn:
                raise BaseError(f"the base {name} is in the middle of a forward on this thread", next_step=_LATER)
            self._worn = True
            try:
                yield
            finally:
                self._worn = False

    def check(self, name: str) -> None:
        """Refuse to run the model while an adapter in training is in its layers.

        Raises:
            BaseError: if one is.
        """
        if self._training is not None and self._training() is not None:
            raise BaseError(f"the base {name} has an adapter in training on it and is not free", next_step=_LATER)

    def train(self, name: str) -> "Training":
        """Acquire the layers for a training, until `end` or until the returned object is garbage collected.

        Args:
            name: of the base, for messages.

        Raises:
            BaseError: if another training has them, or this thread holds them for a forward.
        """
        with self._lock:
            self.check(name)
            if self._worn:
                raise BaseError(f"the base {name} is in the middle of a forward on this thread", next_step=_LATER)
            training = Training(self)
            self._training = weakref.ref(training)
            return training

    def end(self) -> None:
        """The training is over."""
        self._training = None


class Training:
    """Exclusive use of the layers of a model by a training."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def end(self) -> None:
        """Release the layers."""
        self._turns.end()


_turns: "weakref.WeakKeyDictionary[Any, Turns]" = weakref.WeakKeyDictionary()
_making = threading.Lock()


def turns_of(model: Any) -> Turns:
    """The `Turns` of a model: one object a model."""
    with _making:
        return _turns.setdefault(model, Turns())
