"""A task's questions, asked of a base with an adapter on it, by evaluation, serving and tuning's own checks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shopfit.adapter.voice import Voice
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter, Question
from shopfit.engine.answering import score, write
from shopfit.merchant.examples import Fields

Floats = NDArray[np.float64]
_BRANCHES = 128  # answers a question: the mask grows with the square of a row's tokens


def ask_choose(voice: Voice, prompter: Prompter, labels: Sequence[str], rows: Sequence[Fields]) -> list[Floats]:
    """Probability of each of the L labels for each of N rows: N arrays (L,) that sum to 1."""
    answers = tuple(prompter.label(label) for label in labels)
    scores = score(
        voice, [Question(prompter.encode(row), answers) for row in rows], pad=prompter.tokenizer.pad_token_id
    )
    return [softmax(row) for row in scores]


def ask_rank(voice: Voice, prompter: Prompter, rows: Sequence[tuple[Fields, Sequence[str]]]) -> list[Floats]:
    """Score of each candidate for each of N (fields, candidates) rows: N arrays, higher is better."""
    questions, owners = [], []
    for owner, (fields, candidates) in enumerate(rows):
        prompt = prompter.encode(fields)
        for start in range(0, len(candidates), _BRANCHES):
            questions.append(
                Question(prompt, tuple(prompter.item(item) for item in candidates[start : start + _BRANCHES]))
            )
            owners.append(owner)
    parts: list[list[Floats]] = [[] for _ in rows]
    for owner, part in zip(owners, score(voice, questions, pad=prompter.tokenizer.pad_token_id), strict=True):
        parts[owner].append(part)
    return [np.concatenate(part) if part else np.empty(0) for part in parts]


def ask_generate(voice: Voice, base: Base, prompter: Prompter, rows: Sequence[Fields], *, seed: int = 0) -> list[str]:
    """The generated answer to each of N rows."""
    return write(voice, base, [prompter.encode(row) for row in rows], prompter.recipe.serve, seed=seed)


def softmax(scores: Floats) -> Floats:
    """Numbers of any size to probabilities."""
    raised: Floats = np.exp(scores - scores.max())
    return raised / raised.sum()  # type: ignore[no-any-return]
