"""The reporter of a run: called with what it resolves and finishes."""

from typing import Protocol


class Reporter(Protocol):
    """Announces one resolved choice or finished stage."""

    def __call__(self, what: str, detail: str) -> None:
        """`what` in a word or two, `detail` in a line."""


def silent(what: str, detail: str) -> None:
    """Does nothing."""
