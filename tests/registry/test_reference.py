import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfit.errors import UnknownReference
from shopfit.registry import Reference

SLUGS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True).filter(str.isascii)
NUMBERS = st.integers(1, 999_999_999)
ALIASES = st.from_regex(r"[a-z][a-z-]{0,31}", fullmatch=True).filter(str.isascii)
ALLOWED = set(string.ascii_lowercase + string.digits + "-/@")


@given(SLUGS, SLUGS, NUMBERS | ALIASES)
def test_what_is_written_is_what_is_read(merchant: str, recipe: str, which: int | str) -> None:
    number, alias = (which, None) if isinstance(which, int) else (None, which)
    reference = Reference(merchant, recipe, number, alias)
    assert Reference.parse(f"{merchant}/{recipe}@{which}") == reference
    assert Reference.parse(str(reference)) == reference


@given(st.text() | st.text(alphabet=sorted(ALLOWED | set("A\n.\\ ٣é%_")), max_size=30))
def test_any_text_is_refused_or_harmless(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except UnknownReference:
        return
    assert set(text) <= ALLOWED
    assert text.count("/") == 1
    assert str(reference) in {text, f"{text}@production"}


def test_without_a_version_it_is_production() -> None:
    assert (
        Reference.parse("acme/review") == Reference("acme", "review") == Reference("acme", "review", alias="production")
    )
    assert str(Reference.parse("acme/review")) == "acme/review@production"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "acme",
        "acme/",
        "/review",
        "acme/review/more",
        "acme/review@",
        "acme/review@0",
        "acme/review@07",
        "acme/review@1000000000",
        "acme/review@-1",
        "acme/review@+7",
        "acme/review@٣",
        "acme/review@7\n",
        "acme/review\n",
        "\nacme/review",
        "acme/review@Candidate",
        "acme/review@-x",
        "acme/review@" + "a" * 33,
        "acme/review@7@8",
        "../review",
        "acme/..",
        "acme/review@..",
        "Acme/review",
        "ácme/review",
        "acme/review@%",
        "-acme/review",
        "acme-/review",
        "a" * 64 + "/review",
        "acme /review",
        "acme\0/review",
    ],
)
def test_what_is_not_a_reference(text: str) -> None:
    with pytest.raises(UnknownReference, match="is not a reference") as caught:
        Reference.parse(text)
    assert "merchant/recipe@7" in caught.value.message
    assert "shopfit registry ls" in caught.value.next_step


@pytest.mark.parametrize(
    "parts",
    [
        ("acme", "review", 7, "candidate"),
        ("acme", "review", 0, None),
        ("acme", "review", None, "7"),
        ("acme", "review", None, ""),
        ("acme", "review@7", None, None),
        ("acme/x", "review", None, None),
        ("..", "review", None, None),
        ("acme", "review", True, None),
    ],
)
def test_parts_are_held_to_the_same_pattern(parts: tuple[str, str, int | None, str | None]) -> None:
    with pytest.raises(UnknownReference, match="is not a reference"):
        Reference(*parts)


def test_a_long_text_is_not_repeated_in_full() -> None:
    with pytest.raises(UnknownReference) as caught:
        Reference.parse("x" * 10_000)
    assert len(caught.value.message) < 500
