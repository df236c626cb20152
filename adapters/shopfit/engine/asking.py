"""A task's questions, asked of a base with an adapter on it, by evaluation, serving and tuning's own checks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopfit.adapter.head import Head
from shopfit.adapter.voice import Voice
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter, Question
from shopfit.engine.answering import score, write
from shopfit.engine.constraints import Constraint, Constraints
from shopfit.merchant.examples import Fields
from shopfit.recipe.rules import Rules

Floats = NDArray[np.float64]
_BRANCHES = 128  # answers a question
_ROOM = 1024  # tokens of its answers, where the prompt is not longer: the mask grows with the square of a row's tokens


def choose_questions(
    prompter: Prompter, labels: Sequence[str], fields: Fields, head: Head | None = None
) -> list[Question]:
    """Which of the labels fits; the answers are rows of a head, where there is one."""
    answers = [prompter.label(label) if head is None else (head.place(label),) for label in labels]
    return _questions(prompter.encode(fields), answers)


def rank_questions(prompter: Prompter, fields: Fields, candidates: Sequence[str]) -> list[Question]:
    """Which candidates fit; none without candidates."""
    prompt, *more = prompter.asking(fields)
    return _questions(prompt, [prompter.item(item) for item in candidates], tuple(more))


def _questions(
    prompt: tuple[int, ...], answers: Sequence[tuple[int, ...]], more: tuple[tuple[int, ...], ...] = ()
) -> list[Question]:
    """As many questions with the same prompt as it takes, so that no row becomes much longer than its prompt."""
    room = max(_ROOM, len(prompt) // 2)
    questions: list[Question] = []
    start = taken = 0
    for place, answer in enumerate(answers):
        if place > start and (place - start == _BRANCHES or taken + len(answer) > room):
            questions.append(Question(prompt, tuple(answers[start:place]), more))
            start, taken = place, 0
        taken += len(answer)
    if answers:
        questions.append(Question(prompt, tuple(answers[start:]), more))
    return questions


def joined(parts: Sequence[Floats]) -> Floats:
    """Scores of one row's questions as those of one question."""
    return np.concatenate(parts) if parts else np.empty(0)


def ask_choose(voice: Voice, prompter: Prompter, labels: Sequence[str], rows: Sequence[Fields]) -> list[Floats]:
    """Probability of each of the L labels for each of N rows: N arrays (L,) that sum to 1, as trained."""
    temperature = prompter.recipe.tune.temperature
    asked = [choose_questions(prompter, labels, row, voice.head) for row in rows]
    return [softmax(row / temperature) for row in _answers(voice, prompter, asked)]


def ask_rank(voice: Voice, prompter: Prompter, rows: Sequence[tuple[Fields, Sequence[str]]]) -> list[Floats]:
    """Score of each candidate for each of N (fields, candidates) rows: N arrays, higher is better."""
    asked = [rank_questions(prompter, fields, candidates) for fields, candidates in rows]
    return _answers(voice, prompter, asked)


def _answers(voice: Voice, prompter: Prompter, asked: Sequence[Sequence[Question]]) -> list[Floats]:
    """Scores of each row's questions, as those of one question."""
    scores = iter(score(voice, [question for row in asked for question in row], pad=prompter.tokenizer.pad_token_id))
    return [joined([next(scores) for _ in row]) for row in asked]


def ask_generate(voice: Voice, base: Base, prompter: Prompter, rows: Sequence[Fields], *, seed: int = 0) -> list[str]:
    """The generated answer to each of N rows."""
    serve = prompter.recipe.serve
    constraints = Constraints(base.tokenizer, base.model.get_output_embeddings().out_features)
    bound = [answer_constraint(constraints, prompter, serve.json_schema) for _ in rows]
    return write(voice, base, [prompter.encode(row) for row in rows], serve, constraints=bound, seed=seed)


def answer_constraint(
    constraints: Constraints, prompter: Prompter, json_schema: Mapping[str, Any] | None
) -> Constraint | None:
    """What a generated answer must be: of the schema if there is one, else a title where the recipe wants one.

    Raises:
        RequestError: if the schema cannot be used, or the recipe wants titles and no item is in stock.
    """
    before, _, after = prompter.recipe.prompt.answer.partition("{output}")
    if json_schema is not None:
        return constraints.json(json_schema, (before, after))
    if not prompter.recipe.serve.titles:
        return None
    items = (prompter.catalog or {}).values()
    return constraints.choice([item.title for item in items if Rules().allow(item.fields)], (before, after))


def softmax(scores: Floats) -> Floats:
    """Numbers of any size to probabilities."""
    raised: Floats = np.exp(scores - scores.max())
    return raised / raised.sum()  # type: ignore[no-any-return]
