"""What is shown while an answer is written never changes, and all of it is the answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfit.engine.detokenizer import IncrementalDetokenizer, Stop


@pytest.fixture(scope="module")
def tokenizer(tiny_base: object) -> object:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base)


def written(tokenizer: object, text: str, stops: list[str]) -> tuple[IncrementalDetokenizer, list[str]]:
    tokens = tokenizer(text)["input_ids"]  # type: ignore[operator]
    writing, parts = IncrementalDetokenizer(tokenizer, stops), []
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
    writing, parts = IncrementalDetokenizer(tokenizer), []
    kept = tokens[1:-1]
    for number, token in enumerate(kept):
        writing.add(token)
        parts.append(writing.fresh(over=number == len(kept) - 1))
    assert "\ufffd" in tokenizer.decode(kept)  # type: ignore[attr-defined]
    assert "".join(parts) == writing.text == "crema"


@given(
    st.text(st.sampled_from("ab\ufffd"), min_size=1, max_size=60),
    st.text(st.sampled_from("ab"), min_size=1, max_size=12),
    st.integers(1, 5),
)
def test_a_stop_is_found_and_its_beginning_known_for_a_comparison_a_character(text: str, stop: str, step: int) -> None:
    search, calls = Stop(stop), 0
    for end in range(step, len(text) + step, step):
        so_far, calls = text[:end], calls + 1
        place = search.find(so_far)
        assert place == so_far.find(stop)
        if place >= 0:
            break
        settled = so_far.rstrip("\ufffd")
        assert search.begun == max(size for size in range(len(stop)) if settled.endswith(stop[:size]))
    assert search.tried <= len(text) + calls


@pytest.mark.parametrize(
    "stop", ["\x01" + "z" * 9_999, "a" * 9_999 + "b", "a" * 5_000 + "b" + "a" * 4_999, "ab" * 4_999 + "c"]
)
def test_a_long_stop_costs_a_token_no_more_than_a_short_one(stop: str) -> None:
    text = "a" * 6_000 + "ba" * 3_000 + "z" * 500
    search = Stop(stop)
    for end in range(1, len(text) + 1):
        assert search.find(text[:end]) == -1
    assert search.tried <= 2 * len(text)


def test_only_the_tokens_since_the_last_whole_character_are_decoded_again(tokenizer: object) -> None:
    decoded = []

    class Counted(type(tokenizer)):  # type: ignore[misc]
        def decode(self, tokens: list[int], **options: object) -> str:
            decoded.append(len(tokens))
            return super().decode(tokens, **options)  # type: ignore[no-any-return]

    tokens = tokenizer("lovely crema ✓ 😀 " * 20)["input_ids"]  # type: ignore[operator]
    writing = IncrementalDetokenizer(Counted(tokenizer_object=tokenizer.backend_tokenizer))  # type: ignore[attr-defined]
    for token in tokens:
        writing.add(token)
    assert writing.text == tokenizer.decode(tokens).strip()  # type: ignore[attr-defined]
    assert max(decoded) <= 4


def test_a_text_that_its_tokenizer_changes_afterwards_is_searched_anew() -> None:
    search = Stop("ab")
    assert search.find("xa") == -1
    assert search.begun == 1
    assert search.find("\ufffdab") == 1
