"""Each text is read once, whatever asks for it, and what is known already is not read at all."""

import random

import numpy as np
import pytest
import torch

from shopfit.base.load import Base
from shopfit.base.scoring.questions import ClassIndex, Question, Text

TENT, BAG, MUG = (5, 6, 7), (8, 9), (10, 11, 12, 13)


def test_texts_of_any_length_are_read_together_as_each_by_itself(encoder: Base) -> None:
    draw = random.Random(0)
    texts = [tuple(draw.choices(range(5, 100), k=length)) for length in (3, 40, 4, 29, 38, 1, 30, 12, 3)]
    questions = [Question(text, tuple(draw.sample(texts, 4))) for text in texts]
    with torch.inference_mode():
        together = encoder.scorer.collate(questions).forward(encoder.model)
        alone = [encoder.scorer.collate([question]).forward(encoder.model) for question in questions]
        vectors = {text: encoder.scorer.compute(encoder.model, [Text(text)])[0] for text in texts}
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    wanted = [
        4.0 * vectors[question.prompt] @ vectors[answer]
        for question in questions
        for answer in question.answers
        if isinstance(answer, tuple)
    ]
    assert together.tolist() == pytest.approx(wanted, abs=1e-4)


def test_a_plan_scores_as_training_does(encoder: Base) -> None:
    questions = [Question(TENT, (BAG, MUG), more=(MUG,)), Question(BAG, (TENT, BAG, MUG))]
    plan = encoder.scorer.plan(questions)
    scores = plan.scores(encoder.scorer.compute(encoder.model, plan.rows))
    with torch.inference_mode():
        trained = encoder.scorer.collate(questions).forward(encoder.model)
    assert [len(part) for part in scores] == [2, 3]
    assert np.concatenate(scores).tolist() == pytest.approx(trained.tolist(), abs=1e-4)


def test_classes_are_scored_by_their_weights_and_biases(encoder: Base) -> None:
    classes = torch.randn(3, encoder.model.config.hidden_size + 1)
    questions = [Question(TENT, (ClassIndex(2), ClassIndex(0))), Question(BAG, (ClassIndex(1),))]
    plan = encoder.scorer.plan(questions, classes=classes.double().numpy())
    assert [row.ids for row in plan.rows] == [TENT, BAG]  # a class is no text to read
    scores = plan.scores(encoder.scorer.compute(encoder.model, plan.rows))
    with torch.inference_mode():
        trained = encoder.scorer.collate(questions).forward(encoder.model, classes=classes)
    [tent, bag] = (torch.from_numpy(part) for part in encoder.scorer.compute(encoder.model, plan.rows))
    weights, biases = classes[:, :-1].double(), classes[:, -1].double()
    wanted = 4 * torch.stack(
        [weights[2] @ tent + biases[2], weights[0] @ tent + biases[0], weights[1] @ bag + biases[1]]
    )
    assert np.concatenate(scores).tolist() == pytest.approx(wanted.tolist(), abs=1e-4)
    assert np.concatenate(scores).tolist() == pytest.approx(trained.tolist(), abs=1e-4)


def test_only_what_is_not_known_is_read_and_only_what_comes_again_has_a_key(encoder: Base) -> None:
    [known] = encoder.scorer.compute(encoder.model, [Text(MUG)])
    asked = Question(TENT, (BAG, MUG, BAG))
    plan = encoder.scorer.plan([asked], known={MUG: known})
    assert [(row.ids, row.key) for row in plan.rows] == [(TENT, None), (BAG, BAG)]
    whole = encoder.scorer.plan([asked])
    scores, wanted = (one.scores(encoder.scorer.compute(encoder.model, one.rows))[0] for one in (plan, whole))
    assert scores.tolist() == pytest.approx(wanted.tolist(), abs=1e-5)
    by_items = encoder.scorer.plan([Question(TENT, (BAG,), more=(MUG,), recurring=True)], known={MUG: known})
    assert [row.key for row in by_items.rows] == [TENT, BAG]
