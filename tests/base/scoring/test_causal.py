"""Tree scoring gives what scoring each answer alone gives, whatever the mix."""

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopfit.base.load import Base
from shopfit.base.scoring.causal import CausalScorer
from shopfit.base.scoring.questions import Question

tokens = st.integers(1, 300)
questions = st.builds(
    Question,
    prompt=st.lists(tokens, min_size=1, max_size=12).map(tuple),
    answers=st.lists(st.lists(tokens, min_size=1, max_size=6).map(tuple), min_size=1, max_size=5).map(tuple),
)


def alone(base: Base, question: Question) -> list[float]:
    sums = []
    for answer in question.answers:
        logits = base.model(torch.tensor([question.prompt + answer])).logits[0].log_softmax(-1)
        start = len(question.prompt) - 1
        sums.append(sum(logits[start + place, token].item() for place, token in enumerate(answer)))
    return sums


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(questions, min_size=1, max_size=4))
def test_equals_each_answer_scored_alone(base: Base, batch: list[Question]) -> None:
    with torch.inference_mode():
        got = CausalScorer(0).collate(batch).forward(base.model)
        wanted = [value for question in batch for value in alone(base, question)]
    torch.testing.assert_close(got, torch.tensor(wanted), rtol=1e-4, atol=1e-4)


def test_head_in_chunks_gives_the_same_numbers_and_gradients(base: Base) -> None:
    """More positions than one head product takes, against the same questions in batches that it does take."""
    questions = [Question((5, 6, 7 + number), ((8, 9, 10), (11,), (12, 13))) for number in range(150)]
    weight = base.model.get_input_embeddings().weight.requires_grad_()
    results = []
    for size in (150, 75):
        parts = [CausalScorer(0).collate(questions[at : at + size]).forward(base.model) for at in range(0, 150, size)]
        sums = torch.cat(parts)
        results.append((sums.detach(), torch.autograd.grad(sums.mean(), weight)[0]))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])
    assert len(CausalScorer(0).collate(questions).sources) > 512 > len(CausalScorer(0).collate(questions[:75]).sources)


def test_an_answer_does_not_see_its_neighbours(base: Base) -> None:
    with torch.inference_mode():
        one = CausalScorer(0).collate([Question((5, 6, 7), ((8, 9), (10, 11, 12)))]).forward(base.model)
        two = CausalScorer(0).collate([Question((5, 6, 7), ((200, 201, 202), (10, 11, 12)))]).forward(base.model)
    torch.testing.assert_close(one[1], two[1])
    assert not torch.isclose(one[0], two[0])


def test_very_many_answers_take_rows_of_bounded_length(base: Base) -> None:
    """Together they give what the planned rows give, each by itself, and the state of a prompt is that of its first."""
    many = Question((5, 6, 7), tuple((8, 9 + number % 200, 10) for number in range(500)))
    few = Question((11, 12), ((13, 14),))
    tree = CausalScorer(0).collate([many, few])
    assert many.tokens == 1003
    assert tree.input_ids.shape == (3, 3 + 2 * 341)  # 341 answers have 1,023 tokens
    assert tree.counts == (500, 1)
    plan = base.scorer.plan([many, few])
    planned = plan.scores([base.scorer.compute(base.model, [row])[0] for row in plan.rows])
    with torch.inference_mode():
        together = tree.forward(base.model) / tree.lengths
    wanted = torch.cat([torch.tensor(part) for part in planned]).float()
    torch.testing.assert_close(together, wanted, rtol=1e-5, atol=1e-5)
    places = torch.arange(tree.input_ids.numel()).view(*tree.input_ids.shape, 1)
    assert tree.prompt_states(None, places).flatten().tolist() == [2, 2 * tree.input_ids.shape[1] + 1]
