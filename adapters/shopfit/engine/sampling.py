"""Sampling of the next tokens: greedy, or with temperature and top-p (arXiv:1904.09751), with OpenAI's penalties."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

_COLDEST = 1e-6  # lower temperatures are greedy too, and overflow float32


@dataclass(slots=True)
class Sampling:
    """How one row's tokens are chosen. The draws depend on the seed alone, not on the batch.

    Args:
        temperature: 0 takes the most probable token.
        top_p: share of the probability that is drawn from, 0 to 1.
        seed: of the random draws.
        frequency_penalty: taken from a token's logit for each time that it was written.
        presence_penalty: taken from it once if it was written at all.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | str = 0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    draws: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.draws = random.Random(self.seed)


def penalize(logits: Tensor, rows: Sequence[Sampling], written: Sequence[Sequence[int]]) -> None:
    """Lower in place the logits of tokens that were written already, of the rows that ask for it.

    Args:
        logits: (B, V).
        rows: B of them.
        written: tokens of each row's answer so far.
    """
    for row, sampling, tokens in zip(logits, rows, written, strict=True):
        if tokens and (sampling.frequency_penalty or sampling.presence_penalty):
            counts = Counter(tokens)
            lower = [sampling.frequency_penalty * count + sampling.presence_penalty for count in counts.values()]
            row[list(counts)] -= row.new_tensor(lower)


def pick(logits: Tensor, rows: Sequence[Sampling]) -> list[int | None]:
    """A token for each of B rows.

    Args:
        logits: (B, V), -inf for tokens that are not allowed.
        rows: B of them.

    Returns:
        None for a row without usable logits: NaN or infinite, or no token allowed.
    """
    highest, places_of_highest = logits.max(1)  # NaN counts as the highest
    finite = highest.isfinite().tolist()
    tokens: list[int | None] = [
        token if good else None for token, good in zip(places_of_highest.tolist(), finite, strict=True)
    ]
    drawn = [place for place, row in enumerate(rows) if row.temperature > 0 and finite[place]]
    if not drawn:
        return tokens
    chosen = [rows[place] for place in drawn]
    temperatures = logits.new_tensor([max(row.temperature, _COLDEST) for row in chosen], dtype=torch.float32)
    top_p = logits.new_tensor([row.top_p for row in chosen], dtype=torch.float32)
    points = logits.new_tensor([row.draws.random() for row in chosen], dtype=torch.float32)
    lower = logits[drawn].float() - highest[drawn].float()[:, None]  # 0 at most: no temperature makes it infinite
    ordered, order = (lower / temperatures[:, None]).sort(dim=1, descending=True)
    shares = ordered.softmax(1)
    before = shares.cumsum(1) - shares
    mass = torch.where(before < top_p[:, None], shares, 0.0).cumsum(1)  # the most probable token always counts
    places = torch.searchsorted(mass, points[:, None] * mass[:, -1:], right=True).clamp_max(shares.shape[1] - 1)
    allowed = (mass < mass[:, -1:]).sum(1, keepdim=True)  # rounding never leads outside of the nucleus
    for place, token in zip(drawn, order.gather(1, torch.minimum(places, allowed)).squeeze(1).tolist(), strict=True):
        tokens[place] = token
    return tokens
