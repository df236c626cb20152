"""The text of a completion that vLLM streams, as our own engine would show it."""

from collections.abc import Mapping
from typing import Any

from shopfit.engine.detokenizer import AROUND
from shopfit.tasks.generate import TextPart, WrittenToken


class WrittenText:
    """A text as it comes, without white space around it, in parts that never change.

    Args:
        logprobs: how many of the most probable tokens are told at each place; None without log-probabilities.
    """

    def __init__(self, logprobs: int | None) -> None:
        self.tokens: list[WrittenToken] = []
        self._logprobs = logprobs
        self._whole = ""
        self._shown = 0
        self._given = 0

    @property
    def text(self) -> str:
        """The text so far."""
        return self._whole.strip(AROUND)

    def add(self, choice: Mapping[str, Any]) -> str:
        """The text that can be shown now that a choice of an event has come; empty if none can."""
        self._whole += choice["text"]
        if self._logprobs is not None and choice.get("logprobs"):
            self.tokens += _tokens(choice["logprobs"], self._logprobs)
        part = self.text[self._shown :]
        self._shown += len(part)
        return self._part(part) if part else ""

    def rest(self) -> str:
        """The tokens that no part had, as a part without text; a text without tokens if there are none."""
        return self._part("")

    def _part(self, text: str) -> str:
        fresh, self._given = self.tokens[self._given :], len(self.tokens)
        return TextPart(text, fresh) if fresh else text


def _tokens(said: Mapping[str, Any], most: int) -> list[WrittenToken]:
    tops = said.get("top_logprobs") or [None] * len(said["tokens"])
    found = []
    for text, logprob, top in zip(said["tokens"], said["token_logprobs"], tops, strict=True):
        best = sorted((top or {}).items(), key=lambda pair: -pair[1])[:most]
        found.append(WrittenToken(text, logprob, tuple(best)))
    return found
