"""Incremental detokenization of one answer: stop strings, and which part of the text can be streamed already.

The cost of a token depends on its own characters, not on the length of the answer or its stop strings.
"""

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import ByteLevel

_HALF = "\ufffd"  # what a tokenizer decodes an incomplete character to
AROUND = "".join(filter(str.isspace, map(chr, range(0x3001)))) + _HALF  # there is no space above U+3000
"""What answers have none of at their ends: white space, and incomplete characters."""


class IncrementalDetokenizer:
    """Turns tokens into text. The parts that were shown never change, and joined they are the answer.

    Args:
        tokenizer: of the base.
        stops: texts that end the answer and are not part of it.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str] = ()) -> None:
        self.tokens: list[int] = []
        self.stopped = False
        self._tokenizer = tokenizer
        self._adds_up = _adds_up(tokenizer)
        self._stops = [Stop(stop) for stop in stops]
        self._text = ""
        self.shown = 0
        """Characters that `fresh` has gone through, with the white space at the beginning."""
        self._whole, self._read = "", 0  # text up to the last complete character, and its number of tokens

    def add(self, token: int) -> None:
        """Append a token."""
        self.tokens.append(token)
        if self._adds_up:
            self._text = self._whole + self._decode(self.tokens[self._read :])
            if not self._text.endswith(_HALF):
                self._whole, self._read = self._text, len(self.tokens)
        else:
            self._text = self._decode(self.tokens)
        end = min((place for stop in self._stops if (place := stop.find(self._text)) >= 0), default=-1)
        if end >= 0:
            self._text, self.stopped = self._text[:end], True

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    @property
    def text(self) -> str:
        """The answer so far, without white space around it, and without incomplete characters."""
        return self._text.strip(AROUND)

    @property
    def length(self) -> int:
        """Characters so far, without incomplete ones."""
        return len(self._text.rstrip(_HALF))

    @property
    def cut(self) -> int | None:
        """Characters before the stop that ended the answer; None if none did."""
        return len(self._text) if self.stopped else None

    def fresh(self, *, over: bool) -> str:
        """The text that is new since the last call, without what a later token may still change.

        Args:
            over: whether this was the last token, so that all of the text is final.
        """
        text = self._text
        if not over and not self.stopped:
            text = text.rstrip(_HALF)
            text = text[: len(text) - max((stop.begun for stop in self._stops), default=0)]
        text = text.rstrip(AROUND)
        part = text[self.shown :] if self.shown else text.lstrip(AROUND)
        self.shown = max(self.shown, len(text))
        return part


class Stop:
    """Finds a stop string in a growing text, with about one comparison for each new character (Knuth-Morris-Pratt).

    The match at the end of the text can grow by at most as many characters as the text has grown by, so each failed
    comparison is paid for by an earlier character.

    Args:
        stop: the text to find, not empty.
    """

    def __init__(self, stop: str) -> None:
        self.begun = 0
        """Characters at the end of the text, incomplete ones left out, that may be the beginning of the stop."""
        self.tried = 0
        """Number of comparisons so far."""
        self._stop = stop
        self._settled = ""

    def find(self, text: str) -> int:
        """Index of the stop in a text that extends the one of the last call; -1 if it is not there."""
        if not text.startswith(self._settled):  # a later token changed how earlier ones are decoded
            self._settled, self.begun = "", 0
        before = len(self._settled) - self.begun
        if len(text) - before >= len(self._stop) and (place := text.find(self._stop, before)) >= 0:
            return place
        self._settled = text.rstrip(_HALF)
        for size in range(min(len(self._settled) - before, len(self._stop) - 1), 0, -1):
            self.tried += 1
            if self._settled.endswith(self._stop[:size]):
                self.begun = size
                return -1
        self.begun = 0
        return -1


def _adds_up(tokenizer: Any) -> bool:
    """Whether decoding two runs of tokens and joining the texts equals decoding them together."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    return isinstance(decoder, ByteLevel) and not tokenizer.clean_up_tokenization_spaces
