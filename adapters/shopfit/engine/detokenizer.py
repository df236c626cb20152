"""The text of one answer while its tokens arrive: stop strings, and what of it can be shown already.

What a token takes on the serving thread goes by its own characters, not by how long the answer or its stops are.
"""

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import ByteLevel

_HALF = "\ufffd"  # what is shown of a character whose bytes are not all there
_AROUND = "".join(filter(str.isspace, map(chr, range(0x3001)))) + _HALF  # there is no space above U+3000


class IncrementalDetokenizer:
    """Turns tokens into text. What was shown never changes, and all of it together is the answer.

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
        self._shown = 0
        self._whole, self._read = "", 0  # text up to where a character ended last, and the tokens that it is of

    def add(self, token: int) -> None:
        """One more token."""
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
        """The answer so far, without the space around it, and without halves of characters."""
        return self._text.strip(_AROUND)

    def fresh(self, *, over: bool) -> str:
        """What can be shown since the last call: nothing that a later token may still change.

        Args:
            over: whether this was the last token, so that everything is certain.
        """
        text = self._text
        if not over and not self.stopped:
            text = text.rstrip(_HALF)
            text = text[: len(text) - max((stop.begun for stop in self._stops), default=0)]
        part = text.strip(_AROUND)[self._shown :]
        self._shown += len(part)
        return part


class Stop:
    """Looks for one text in another that grows, and compares about once a new character (as Knuth, Morris and Pratt).

    What a text ends with can be at most so much longer a beginning of the stop as the text has grown: so each length
    that is tried in vain was paid for by a character.

    Args:
        stop: the text to find, not empty.
    """

    def __init__(self, stop: str) -> None:
        self.begun = 0
        """Characters at the end of the text, less halves of characters, that may be the beginning of the stop."""
        self.tried = 0
        """Comparisons so far."""
        self._stop = stop
        self._settled = ""

    def find(self, text: str) -> int:
        """Where the stop is in a text, which is the one of the last call and more; -1 if it is not there."""
        if not text.startswith(self._settled):  # a tokenizer thought better of what it wrote
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
    """Whether the text of some tokens and of those behind them, where a character ends, is the text of all of them."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    return isinstance(decoder, ByteLevel) and not tokenizer.clean_up_tokenization_spaces
