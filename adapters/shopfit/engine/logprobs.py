"""Log-probabilities of generated tokens, of the requests that ask for them; the others cost nothing."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from shopfit.tasks.generate import WrittenToken


class TokenTexts(dict[int, str]):
    """The text of each token by itself, decoded once. Any thread may ask.

    Args:
        tokenizer: of the base.
    """

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def __missing__(self, token: int) -> str:
        text: str = self._tokenizer.decode([token])
        self[token] = text
        return text


@dataclass(slots=True, eq=False)
class LogProbs:
    """The log-probabilities of one answer's tokens.

    Args:
        top: of how many of the most probable tokens they are kept, at each place; 0 or more.
        texts: of the tokens.
    """

    top: int
    texts: TokenTexts
    _tokens: list[WrittenToken] = field(init=False, default_factory=list)
    _begins: list[int] = field(init=False, default_factory=list)
    _given: int = field(init=False, default=0)
    _next: tuple[float, tuple[tuple[str, float], ...]] = field(init=False, default=(0.0, ()))

    def keep(self, logs: Sequence[float], tokens: Sequence[int], chosen: float) -> None:
        """Keep what the next token that is added is like.

        Args:
            logs: of the most probable tokens, falling.
            tokens: which they are.
            chosen: its own log-probability.
        """
        top = zip(tokens[: self.top], logs[: self.top], strict=True)
        self._next = chosen, tuple((self.texts[token], log) for token, log in top)

    def add(self, token: int, begin: int) -> None:
        """Append the token that was kept.

        Args:
            token: it is.
            begin: characters of the answer before it.
        """
        chosen, top = self._next
        self._tokens.append(WrittenToken(self.texts[token], chosen, top))
        self._begins.append(max(begin, self._begins[-1] if self._begins else 0))

    def before(self, end: int | None) -> tuple[WrittenToken, ...]:
        """The tokens that begin before a character of the answer; all without one."""
        return tuple(self._tokens[: self._count(end)])

    def fresh(self, end: int | None) -> tuple[WrittenToken, ...]:
        """Those of `before` that no earlier call has returned."""
        first, self._given = self._given, max(self._given, self._count(end))
        return tuple(self._tokens[first : self._given])

    def _count(self, end: int | None) -> int:
        return len(self._tokens) if end is None else bisect_left(self._begins, end)


def keep_logprobs(logits: Tensor, rows: Sequence[LogProbs], tokens: Sequence[int | None]) -> None:
    """Keep the log-probabilities of the next token of each of B rows.

    Args:
        logits: (B, V) float32 of the model, before anything else was done to them.
        rows: B of them.
        tokens: B that were chosen; None where nothing could be.
    """
    logs = logits.log_softmax(1)
    chosen = torch.tensor([0 if token is None else token for token in tokens], device=logs.device)
    own = logs.gather(1, chosen[:, None]).squeeze(1).tolist()
    values, places = logs.topk(min(max(row.top for row in rows), logs.shape[1]), dim=1)
    for row, mine, best, ids in zip(rows, own, values.tolist(), places.tolist(), strict=True):
        row.keep(best, ids, mine)
