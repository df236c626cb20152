"""Questions are bounded in what a row holds of them, and hold nothing without tokens."""

from collections.abc import Callable

import pytest

from shopfit.base.scoring.questions import ClassIndex, Question, Text
from shopfit.errors import RequestError

PROMPT = (1, 2, 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Question((), ((1,),)),
        lambda: Question(PROMPT, ((1,), ())),
        lambda: Question(PROMPT, ((1,),), more=((),)),
        lambda: Text(()),
    ],
)
def test_what_has_no_tokens_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(RequestError, match="has no tokens"):
        make()


def test_what_fits_in_one_row_stays_as_it_is() -> None:
    question = Question(PROMPT, tuple((4,) * 8 for _ in range(128)))  # 128 answers, 1,024 tokens
    assert question.parts() == [question]
    assert Question(PROMPT, ()).parts() == []


@pytest.mark.parametrize(
    "answers", [[(4,)] * 300, [(4,) * 40] * 60, [(4,) * 2000, (5,), (6,) * 2000], [ClassIndex(0)] * 200]
)
def test_parts_hold_all_answers_in_order_and_no_row_is_long(answers: list[tuple[int, ...] | ClassIndex]) -> None:
    question = Question(PROMPT, tuple(answers), more=((7, 8),), recurring=True)
    parts = question.parts()
    assert len(parts) > 1
    assert [answer for part in parts for answer in part.answers] == answers
    for part in parts:
        assert (part.prompt, part.more, part.recurring) == (PROMPT, ((7, 8),), True)
        assert len(part.answers) <= 128
        assert len(part.answers) == 1 or sum(len(one) for one in part.answers if isinstance(one, tuple)) <= 1024


def test_a_long_prompt_gives_its_answers_more_room() -> None:
    answers = tuple((4,) * 40 for _ in range(60))
    assert len(Question((1,) * 5000, answers).parts()) == 1


def test_short_answers_of_a_training_share_a_row() -> None:
    question = Question(PROMPT, tuple((4, 5) for _ in range(300)))
    assert question.parts(most=300) == [question]
    assert [len(part.answers) for part in question.parts()] == [128, 128, 44]


def test_tokens_of_a_row_and_of_its_longest_line() -> None:
    question = Question(PROMPT, ((4, 5), (6, 7, 8, 9), (10,)))
    assert (question.tokens, question.longest, question.key) == (3 + 1 + 3, 3 + 3, None)
    assert Question(PROMPT, (ClassIndex(7),)).tokens == 3
    assert (Text(PROMPT).tokens, Text(PROMPT).longest, Text(PROMPT).key) == (3, 3, None)
    assert Text(PROMPT, recurring=True).key == PROMPT
