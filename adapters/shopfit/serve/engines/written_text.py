"""The text of a completion that vLLM streams, as our own engine would show it."""

from collections.abc import Mapping, Sequence
from typing import Any

from shopfit.engine.detokenizer import AROUND
from shopfit.tasks.generate import TextPart, WrittenToken

_HALF = "\ufffd"  # of a character: what a token that has no whole one is shown as


class WrittenText:
    """A text as it comes, without white space around it, in parts that never change.

    Args:
        logprobs: how many of the most probable tokens are told at each place; None without log-probabilities.

    Attributes:
        tokens: with their log-probabilities.
        ended: whether a token for the end came, which vLLM counts, and which is none of the text's.
    """

    def __init__(self, logprobs: int | None) -> None:
        self.tokens: list[WrittenToken] = []
        self.ended = False
        self._logprobs = logprobs
        self._whole = ""
        self._shown = 0
        self._given = 0
        self._begins = 0  # the next token that is given, in the text

    @property
    def text(self) -> str:
        """The text so far."""
        return self._whole.strip(AROUND)

    def add(self, choice: Mapping[str, Any]) -> str:
        """The text that can be shown now that a choice of an event has come; empty if none can."""
        self._whole += choice["text"]
        if self._logprobs is not None and choice.get("logprobs"):
            self.tokens += _tokens(choice["logprobs"], self._logprobs)
        if choice.get("finish_reason") == "stop":
            stop = choice.get("stop_reason")  # the text that ended it; none or a number for a token
            self.ended = not isinstance(stop, str)
            self.tokens = _before(stop, self.tokens) if isinstance(stop, str) else self.tokens[:-1]
        part = self.text[self._shown :]
        self._shown += len(part)
        return self._part(part, self._fresh()) if part else ""

    def rest(self) -> str:
        """The tokens that no part had, as a part without text; a text without tokens if there are none."""
        return self._part("", self.tokens[self._given :])

    def _part(self, text: str, tokens: Sequence[WrittenToken]) -> str:
        return TextPart(text, tokens) if tokens else text

    def _fresh(self) -> list[WrittenToken]:
        """Tokens that begin in the text so far, and not in what vLLM holds back because it may become a stop."""
        first = self._given
        while self._given < len(self.tokens) and self._begins < len(self._whole):
            self._begins += len(self.tokens[self._given].text.strip(_HALF))
            self._given += 1
        return self.tokens[first : self._given]


def _before(stop: str, tokens: list[WrittenToken]) -> list[WrittenToken]:
    """The tokens that begin before the stop that they end with: vLLM tells those of the stop, too.

    All of them if the stop has a character that is of several tokens: what these are is not told.
    """
    tail = ""
    for place in reversed(range(len(tokens))):
        tail = tokens[place].text + tail
        if (begin := tail.find(stop)) >= 0:
            return tokens[: place + bool(begin)]
    return tokens


def _tokens(said: Mapping[str, Any], most: int) -> list[WrittenToken]:
    tops = said.get("top_logprobs") or [None] * len(said["tokens"])
    found = []
    for text, logprob, top in zip(said["tokens"], said["token_logprobs"], tops, strict=True):
        best = sorted((top or {}).items(), key=lambda pair: -pair[1])[:most]
        found.append(WrittenToken(text, logprob, tuple(best)))
    return found
