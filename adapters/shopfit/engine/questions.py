"""Builds the questions of each task, and answers them with an adapted model outside of an engine."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shopfit.adapter.adapted_model import AdaptedModel
from shopfit.adapter.head import Head
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.base.scoring.questions import ClassIndex, Question
from shopfit.base.scoring.scorer import Floats
from shopfit.engine.constraints import Constraint, Constraints
from shopfit.engine.offline_scoring import score, write
from shopfit.merchant.examples import Fields
from shopfit.recipe.rules import Rules


def choose_question(prompter: Prompter, labels: Sequence[str], fields: Fields, head: Head | None = None) -> Question:
    """The question which label fits. A label is answered by its class if the head has it, else by its words."""
    rows = {} if head is None else {label: ClassIndex(row) for row, label in enumerate(head.labels)}
    answers = tuple(rows.get(label) or prompter.label(label) for label in labels)
    return Question(prompter.encode(fields), answers)


def rank_question(prompter: Prompter, fields: Fields, candidates: Sequence[str]) -> Question:
    """The question which candidates fit; without answers if there are no candidates."""
    prompt, *more = prompter.asking(fields)
    answers = tuple(prompter.item(item) for item in candidates)
    return Question(prompt, answers, tuple(more), recurring=prompter.asks_by_items(fields))


def ask_choose(
    adapted: AdaptedModel, prompter: Prompter, labels: Sequence[str], rows: Sequence[Fields]
) -> list[Floats]:
    """Probability of each of the L labels for each of N rows: N arrays (L,) that sum to 1, as trained."""
    temperature = prompter.recipe.tune.temperature
    asked = [choose_question(prompter, labels, row, adapted.head) for row in rows]
    return [softmax(row / temperature) for row in _answers(adapted, prompter, asked)]


def ask_rank(adapted: AdaptedModel, prompter: Prompter, rows: Sequence[tuple[Fields, Sequence[str]]]) -> list[Floats]:
    """Score of each candidate for each of N (fields, candidates) rows: N arrays, higher is better."""
    asked = [rank_question(prompter, fields, candidates) for fields, candidates in rows]
    return _answers(adapted, prompter, asked)


def _answers(adapted: AdaptedModel, prompter: Prompter, asked: Sequence[Question]) -> list[Floats]:
    """Scores of each row's answers, in parts of the same size on any base: a sum's last bits depend on the size."""
    parts = [question.parts() for question in asked]
    scores = iter(score(adapted, prompter.scorer, [part for row in parts for part in row]))
    return [np.concatenate([next(scores) for _ in row]) if row else np.empty(0) for row in parts]


def ask_generate(
    adapted: AdaptedModel, base: Base, prompter: Prompter, rows: Sequence[Fields], *, seed: int = 0
) -> list[str]:
    """The generated answer to each of N rows."""
    serve = prompter.recipe.serve
    constraints = Constraints(base.tokenizer, base.model.get_output_embeddings().out_features)
    bound = [answer_constraint(constraints, prompter, serve.json_schema) for _ in rows]
    return write(adapted, base, [prompter.encode(row) for row in rows], serve, constraints=bound, seed=seed)


def answer_constraint(
    constraints: Constraints, prompter: Prompter, json_schema: Mapping[str, Any] | None
) -> Constraint | None:
    """The constraint of a generated answer: the schema if there is one, else a title if the recipe wants one.

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
