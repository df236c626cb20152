"""Losses over the scores of questions' answers."""

from collections.abc import Sequence

import torch
from torch import Tensor


def cross_entropy(scores: Tensor, gold: Tensor, counts: Sequence[int]) -> Tensor:
    """(B,) cross-entropy of each right answer against the wrong ones, averaged over a question's right answers."""
    losses = []
    for mine, right in zip(*(torch.split(values, list(counts)) for values in (scores, gold)), strict=True):
        good, bad = mine[right], mine[~right]
        against = torch.cat([good[:, None], bad.expand(len(good), -1)], dim=1)  # (right, 1 + wrong)
        losses.append((against.logsumexp(1) - good).mean())
    return torch.stack(losses)


def uniform_cross_entropy(scores: Tensor, counts: Sequence[int]) -> Tensor:
    """(B,) cross-entropy of all answers of a question, each with the same share."""
    return torch.stack([(mine.logsumexp(0) - mine).mean() for mine in torch.split(scores, list(counts))])
