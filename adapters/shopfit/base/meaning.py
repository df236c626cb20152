"""Scores of answers under an encoder: how near the vector of an answer is to that of the question.

A dual encoder (Sentence-BERT, arXiv:1908.10084): questions and answers are texts of their own, mean-pooled to vectors
of length 1. In training every answer of a batch is there once, however many questions it belongs to. The answers of
`choose` are the rows of a head, one a label, once an adapter has learned one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from shopfit.base.prompt import Question

SHARPNESS = 4.0
"""Score of two equal directions: at the temperature of 0.2 that suits decoders, cosines are then divided by 0.05."""
_ALIKE = 0.75  # texts at least this share of the longest are read with it


@dataclass(frozen=True, slots=True)
class Pairs:
    """B questions with A answers, laid out for one forward over R texts of T tokens.

    Args:
        input_ids: (R, T) tokens, the longest text first.
        mask: (R, T) 1 for a token, 0 for padding.
        parts: rows and tokens of each run of texts of like length; the rows sum to R.
        question: (A, M) rows of each answer's question, the last one repeated where it has fewer than M texts.
        answer: (A,) row of each answer's text, or of the head.
        lengths: (A,) ones: a score here is no sum over tokens.
        counts: answers of each question, B numbers.
    """

    input_ids: Tensor
    mask: Tensor
    parts: tuple[tuple[int, int], ...]
    question: Tensor
    answer: Tensor
    lengths: Tensor
    counts: tuple[int, ...]

    def to(self, device: torch.device | str) -> "Pairs":
        """The same on `device`."""
        return Pairs(
            self.input_ids.to(device),
            self.mask.to(device),
            self.parts,
            self.question.to(device),
            self.answer.to(device),
            self.lengths.to(device),
            self.counts,
        )


def pair(questions: Sequence[Question], pad: int, *, headed: bool) -> Pairs:
    """Lay questions out for an encoder.

    Args:
        questions: B of them.
        pad: token id that fills rows up.
        headed: whether an answer is not a text, but `(row,)` of a head.
    """
    texts = {text for question in questions for text in (question.prompt, *question.more)}
    if not headed:
        texts |= {answer for question in questions for answer in question.answers}
    ordered = sorted(texts, key=lambda text: (-len(text), text))
    rows = {text: row for row, text in enumerate(ordered)}
    most = 1 + max(len(question.more) for question in questions)
    of = [_asked(rows, question, most) for question in questions for _ in question.answers]
    answers = [answer[0] if headed else rows[answer] for question in questions for answer in question.answers]
    input_ids, mask = fill_up(ordered, pad)
    counts = tuple(len(question.answers) for question in questions)
    parts = _parts([len(text) for text in ordered])
    return Pairs(input_ids, mask, parts, torch.tensor(of), torch.tensor(answers), torch.ones(len(of)), counts)


def _asked(rows: Mapping[tuple[int, ...], int], question: Question, most: int) -> list[int]:
    """Rows of a question's texts, `most` of them."""
    found = [rows[text] for text in (question.prompt, *question.more)]
    return found + found[-1:] * (most - len(found))


def _parts(lengths: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Rows and tokens of each run of texts of like length.

    Args:
        lengths: of the texts, falling.
    """
    parts: list[tuple[int, int]] = []
    for length in lengths:
        rows, width = parts[-1] if parts else (0, 0)
        if parts and length >= _ALIKE * width:
            parts[-1] = rows + 1, width
        else:
            parts.append((1, length))
    return tuple(parts)


def fill_up(texts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """R texts as (R, T) tokens, filled up on the right, and the (R, T) mask of what is text."""
    width = max(map(len, texts))
    input_ids = torch.full((len(texts), width), pad)
    mask = torch.zeros((len(texts), width), dtype=torch.long)
    for row, tokens in enumerate(texts):
        input_ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    return input_ids, mask


def text_vectors(model: Any, input_ids: Tensor, mask: Tensor) -> Tensor:
    """(R, D) mean of the last hidden states of each text's tokens, of length 1.

    Args:
        model: an encoder of transformers.
        input_ids: (R, T).
        mask: (R, T) 1 for a token, 0 for padding.
    """
    hidden = model(input_ids=input_ids, attention_mask=mask).last_hidden_state  # (R, T, D)
    shown = mask.unsqueeze(-1).to(hidden.dtype)  # (R, T, 1)
    return normalize((hidden * shown).sum(1) / shown.sum(1), dim=-1)


def answer_nearness(model: Any, pairs: Pairs, head: Tensor | None = None) -> Tensor:
    """Cosine of each answer with its question, the nearest text of it, times `SHARPNESS`.

    Args:
        model: an encoder of transformers.
        pairs: B questions with A answers in all, on the model's device.
        head: (L, D) where answers are rows of it.

    Returns:
        (A,) float32.
    """
    vectors = _vectors(model, pairs, whole=head is not None).float()
    answers = vectors if head is None else normalize(head, dim=-1)
    near = (vectors[pairs.question] * answers[pairs.answer].unsqueeze(1)).sum(-1)  # (A, M)
    return SHARPNESS * near.amax(1)


def _vectors(model: Any, pairs: Pairs, *, whole: bool) -> Tensor:
    """(R, D) vectors of the texts. On a CPU, where padding costs as much as text does, a part at a time."""
    if whole or pairs.input_ids.device.type != "cpu":
        return text_vectors(model, pairs.input_ids, pairs.mask)
    vectors, first = [], 0
    for rows, width in pairs.parts:
        last = first + rows
        vectors.append(text_vectors(model, pairs.input_ids[first:last, :width], pairs.mask[first:last, :width]))
        first = last
    return torch.cat(vectors)
