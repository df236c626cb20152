"""The text of one answer while its tokens arrive: stop strings, and what of it can be shown already."""

from collections.abc import Sequence
from typing import Any


class Writing:
    """Turns tokens into text. What was shown never changes, and all of it together is the answer.

    Args:
        tokenizer: of the base.
        stops: texts that end the answer and are not part of it.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str] = ()) -> None:
        self.tokens: list[int] = []
        self.stopped = False
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._text = ""
        self._shown = 0

    def add(self, token: int) -> None:
        """One more token."""
        self.tokens.append(token)
        self._text = self._tokenizer.decode(self.tokens, skip_special_tokens=True)
        end = min((place for stop in self._stops if (place := self._text.find(stop)) >= 0), default=-1)
        if end >= 0:
            self._text, self.stopped = self._text[:end], True

    @property
    def text(self) -> str:
        """The answer so far, without the space around it, and without halves of characters."""
        return _whole(self._text)

    def fresh(self, *, over: bool) -> str:
        """What can be shown since the last call: nothing that a later token may still change.

        Args:
            over: whether this was the last token, so that everything is certain.
        """
        text = self._text
        if not over:
            text = text.rstrip("\ufffd")  # a character whose bytes are not all there
            held = max((_begun(text, stop) for stop in self._stops), default=0)
            text = text[: len(text) - held]
        text = _whole(text)
        part = text[self._shown :]
        self._shown += len(part)
        return part


def _whole(text: str) -> str:
    """A text without what is left of a character whose other bytes were never written, nor the space around it."""
    while (bare := text.strip().strip("\ufffd")) != text:
        text = bare
    return text


def _begun(text: str, stop: str) -> int:
    """Characters at the end of `text` that may be the beginning of `stop`."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
