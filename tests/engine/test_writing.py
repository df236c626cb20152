"""What is shown while an answer is written never changes, and all of it is the answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfit.engine.writing import Writing


@pytest.fixture(scope="module")
def tokenizer(tiny_base: object) -> object:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base)


def written(tokenizer: object, text: str, stops: list[str]) -> tuple[Writing, list[str]]:
    tokens = tokenizer(text)["input_ids"]  # type: ignore[operator]
    writing, parts = Writing(tokenizer, stops), []
    for number, token in enumerate(tokens):
        writing.add(token)
        over = writing.stopped or number == len(tokens) - 1
        parts.append(writing.fresh(over=over))
        if over:
            break
    return writing, parts


@given(
    st.text(st.sampled_from("ab \n,é✓😀"), min_size=1, max_size=30),
    st.lists(st.text(st.sampled_from("ab \n,é"), min_size=1, max_size=4), max_size=3),
)
def test_parts_make_up_the_answer(tokenizer: object, text: str, stops: list[str]) -> None:
    writing, parts = written(tokenizer, text, stops)
    assert "".join(parts) == writing.text
    said = tokenizer.decode(writing.tokens)  # type: ignore[attr-defined]
    first = min((place for stop in stops if (place := said.find(stop)) >= 0), default=len(said))
    assert writing.text == said[:first].strip()
    assert writing.stopped == (first < len(said))
    before = tokenizer.decode(writing.tokens[:-1])  # type: ignore[attr-defined]
    assert not any(stop in before for stop in stops)  # it ended with the very token that completed a stop


def test_a_stop_text_that_only_begins_is_held_back_and_then_shown(tokenizer: object) -> None:
    _, parts = written(tokenizer, "a##b", ["###"])
    assert "".join(parts) == "a##b"
    writing, parts = written(tokenizer, "a###b", ["###"])
    assert "".join(parts) == writing.text == "a"
    assert writing.stopped


def test_half_a_character_is_not_shown(tokenizer: object) -> None:
    _, parts = written(tokenizer, "x😀", [])
    assert all("\ufffd" not in part for part in parts)
    assert parts[-1].endswith("😀")


def test_an_answer_has_no_halves_of_characters(tokenizer: object) -> None:
    """Where it began or was ended between the bytes of a character."""
    tokens = tokenizer("✓ crema ✓")["input_ids"]  # type: ignore[operator]
    writing, parts = Writing(tokenizer), []
    kept = tokens[1:-1]
    for number, token in enumerate(kept):
        writing.add(token)
        parts.append(writing.fresh(over=number == len(kept) - 1))
    assert "\ufffd" in tokenizer.decode(kept)  # type: ignore[attr-defined]
    assert "".join(parts) == writing.text == "crema"
