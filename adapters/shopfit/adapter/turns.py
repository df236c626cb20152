"""Who may use a base's layers at a moment: stacks take turns, forward by forward, and a training has them to itself.

A base is one model in memory, whoever holds it. What a stack or a training does to its layers would reach the rows of
everybody else who runs it meanwhile, so that all of them ask here first.
"""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shopfit.errors import BaseError

_LATER = "close what uses it first, or load the base once more"


class Turns:
    """Whose turn it is on one model."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._worn = False
        self._training: weakref.ref[Training] | None = None

    @contextmanager
    def forward(self, name: str) -> Iterator[None]:
        """Run the model with adapters beside its layers; another thread that wants to waits until this ends.

        Args:
            name: of the base, for messages.

        Raises:
            BaseError: if the base is being trained on, or this very thread runs it already.
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
        """Refuse to run the model while an adapter in training lies in its layers.

        Raises:
            BaseError: if one does.
        """
        if self._training is not None and self._training() is not None:
            raise BaseError(f"the base {name} has an adapter in training on it and is not free", next_step=_LATER)

    def train(self, name: str) -> "Training":
        """Let a training have the layers until it ends, or until nobody holds what this returns.

        Args:
            name: of the base, for messages.

        Raises:
            BaseError: if another training has them, or this thread is in the middle of a forward.
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
    """A claim to the layers of a model."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def end(self) -> None:
        """Give the layers back."""
        self._turns.end()


_turns: "weakref.WeakKeyDictionary[Any, Turns]" = weakref.WeakKeyDictionary()
_making = threading.Lock()


def turns_of(model: Any) -> Turns:
    """The turns of a model: the same for everybody who asks."""
    with _making:
        return _turns.setdefault(model, Turns())
