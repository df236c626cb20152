from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopfit.errors import DataError, ShopfitError
from shopfit.merchant.merchant import Merchant
from shopfit.recipe.shipped import sample_merchants


def folder(tmp_path: Path, text: str) -> Path:
    (tmp_path / "merchant.yaml").write_text(text)
    return tmp_path


def test_what_a_folder_says(tmp_path: Path) -> None:
    merchant = Merchant.open(folder(tmp_path, "name: acme-3\nlanguage: no\ndescription: Tents.\nshare: true\n"))
    assert merchant == Merchant(name="acme-3", language="no", description="Tents.", share=True, folder=tmp_path)


def test_only_the_name_is_needed(tmp_path: Path) -> None:
    merchant = Merchant.open(folder(tmp_path, "name: acme"))
    assert (merchant.language, merchant.description, merchant.share) == ("en", "", False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae: acme", ":1 nmae: is not a key; did you mean 'name'?"),
        ("language: en", "name: is missing"),
        ("name: Acme", ":1 name: 'Acme' is not accepted (allowed: 1-63 of a-z"),
        ("name: a.b", "name: 'a.b' is not accepted"),
        ("name: 5", "name: 5 is not text; write it in quotes"),
        ("name: a\nlanguage: english!", ":2 language: 'english!' must be the tag of a language, such as en, zh, de"),
        ("name: a\nshare: sometimes", ":2 share: 'sometimes' is not accepted (allowed: true, false)"),
        ("name: a\nname: b", ":2 name: stands a second time, after line 1"),
        ("[a]", "describes nothing"),
        ("", "describes nothing"),
        ("name: [", "is not YAML"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        Merchant.open(folder(tmp_path, text))
    assert message in str(caught.value)


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        Merchant.open(folder(tmp_path, "name: A\nfoo: 1\nshare: x\n"))
    assert len(caught.value.problems) == 3


def test_a_missing_folder_names_the_samples_and_the_next_step(tmp_path: Path) -> None:
    for place, message in [(tmp_path / "nowhere", "there is no merchant folder"), (tmp_path, "has no merchant.yaml")]:
        with pytest.raises(DataError, match=message) as caught:
            Merchant.open(place)
        assert str(place) in str(caught.value)
        assert all(name in str(caught.value) for name in sample_merchants())
        assert "name: <merchant>" in caught.value.next_step


def test_its_catalog(tmp_path: Path) -> None:
    (tmp_path / "catalog.jsonl").write_text('{"id": "t1", "title": "Tent"}\n')
    assert list(Merchant.open(folder(tmp_path, "name: a")).catalog("catalog.jsonl")) == ["t1"]


PIECES = [
    "name",
    "language",
    "share",
    ":",
    ": ",
    "acme",
    "\n",
    "\n ",
    "[",
    "{",
    "&a",
    "*a",
    "0x" + "f" * 5000,
    ".nan",
    "\\ud800",
    '"',
]


@given(text=st.lists(st.sampled_from(PIECES), max_size=20).map("".join).map(str.encode) | st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_description_raises_anything_else(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "merchant.yaml").write_bytes(text)
    try:
        Merchant.open(tmp_path)
    except ShopfitError as error:
        message = str(error)
        assert len(message.encode()) < 10_000
