"""Inputs of scorers, as token ids: a question with its answers, and a text to encode."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shopfit.errors import RequestError

Tokens = tuple[int, ...]

_BRANCHES = 128  # answers a row, except in training
_ROOM = 1024  # tokens of its answers, where the prompt is not longer: the mask grows with the square of a row's tokens


@dataclass(frozen=True, slots=True)
class ClassIndex:
    """An answer that is not a text but a class with a trained prototype.

    Args:
        row: index of the prototype; 0 or more.
    """

    row: int


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and the answers to compare.

    Args:
        prompt: at least one token.
        answers: texts of at least one token each; for a dual encoder, maybe classes.
        more: for a dual encoder: more texts of the question; an answer's score is that with the nearest of them.
        recurring: whether the question's texts are of a catalog, so that they recur in other requests.
        recurring_answers: whether those of the answers do.

    Raises:
        RequestError: if any text has no tokens.
    """

    prompt: Tokens
    answers: tuple[Tokens | ClassIndex, ...]
    more: tuple[Tokens, ...] = ()
    recurring: bool = False
    recurring_answers: bool = True

    def __post_init__(self) -> None:
        _check("prompt", (self.prompt,))
        _check("answer", self.answers)
        _check("text that asks", self.more)

    @property
    def texts(self) -> tuple[Tokens, ...]:
        """Its answers, all of them texts, as on every base that writes."""
        texts = tuple(answer for answer in self.answers if not isinstance(answer, ClassIndex))
        assert len(texts) == len(self.answers), "what writes text has learned no classes"
        return texts

    @property
    def tokens(self) -> int:
        """Tokens that a forward over it reads: the prompt once, and each answer but for its last token."""
        asked = len(self.prompt) + sum(map(len, self.more))
        return asked + sum(len(answer) - 1 for answer in self.answers if isinstance(answer, tuple))

    @property
    def longest(self) -> int:
        """Tokens of its longest branch: the prompt, and an answer but for its last token."""
        longest = max((len(answer) for answer in self.answers if isinstance(answer, tuple)), default=1)
        return len(self.prompt) + longest - 1

    @property
    def key(self) -> None:
        """None: results of a question are not reused."""
        return

    def parts(self, most: int = _BRANCHES) -> list["Question"]:
        """Split into questions with the same prompt, so that no row becomes much longer than its prompt.

        Args:
            most: answers a part; 1 or more.
        """
        room = max(_ROOM, len(self.prompt) // 2)
        cuts = [0]
        taken = 0
        for place, answer in enumerate(self.answers):
            length = len(answer) if isinstance(answer, tuple) else 1
            if place > cuts[-1] and (place - cuts[-1] == most or taken + length > room):
                cuts.append(place)
                taken = 0
            taken += length
        if len(cuts) == 1:
            return [self] if self.answers else []
        ends = [*cuts[1:], len(self.answers)]
        return [replace(self, answers=self.answers[start:end]) for start, end in zip(cuts, ends, strict=True)]


@dataclass(frozen=True, slots=True)
class Text:
    """A text to encode.

    Args:
        ids: at least one token.
        recurring: whether other requests need it too, so that its vector is cached.

    Raises:
        RequestError: if it has no tokens.
    """

    ids: Tokens
    recurring: bool = False

    def __post_init__(self) -> None:
        _check("text", (self.ids,))

    @property
    def tokens(self) -> int:
        """Tokens that a forward over it reads."""
        return len(self.ids)

    @property
    def longest(self) -> int:
        """The same number."""
        return len(self.ids)

    @property
    def key(self) -> Tokens | None:
        """The cache key of its vector; None if it does not recur."""
        return self.ids if self.recurring else None


Row = Question | Text
"""The input of one row of a forward."""


def _check(what: str, texts: Sequence[Tokens | ClassIndex]) -> None:
    for place, tokens in enumerate(texts, start=1):
        if not tokens:
            raise RequestError(
                f"{what} {place} of {len(texts)} of a question has no tokens",
                next_step="send texts, labels and items that show something",
            )
