import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shopfit.errors import RecipeError
from shopfit.evaluation import ChoosePredictions, System, measure
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example
from shopfit.tasks import Learned, task_of

TITLES = {
    "t1": "Ridge tent for two",
    "t2": "Family tent",
    "s1": "Gas stove",
    "b1": "Down sleeping bag",
    "b2": "Summer sleeping bag",
    "p1": "Zelt für zwei",
}
CATALOG = Catalog({key: Item(key, title, {"id": key, "title": title}) for key, title in TITLES.items()})
POOL = tuple(sorted(TITLES))


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Words hashed into 384 places, counted, of unit length: what shares words is near."""
    vectors = np.zeros((len(texts), 384), np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            vectors[row, int(hashlib.sha256(word.encode()).hexdigest(), 16) % 384] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)


def text(example: Example) -> str:
    return str(example.fields.get("text", ""))


def fit(name: str, train: Sequence[Example] = (), **options: Any) -> System:
    asked = {"text": text, "query_text": text, "catalog": CATALOG, "embed": embed} | options
    if name == "minilm-logreg":
        task = task_of("choose")
    else:
        task = task_of("generate" if any(example.output is not None for example in train) else "rank")
    return task.baseline(name, Learned(train, **asked))


def best(system: System, **fields: Any) -> str:
    answers: Any = system.predict([Example("q", fields, relevant=("t1",))], [POOL])
    assert answers.catalog_size == len(TITLES)
    return POOL[int(answers.scores[0].argmax())]


@pytest.mark.parametrize("name", ["bm25", "minilm-cosine"])
def test_ranking_finds_the_item_with_the_words(name: str) -> None:
    system = fit(name)
    assert (system.name, system.kind) == (name, "baseline")
    assert best(system, text="a warm DOWN sleeping bag") == "b1"
    assert best(system, text="stove") == "s1"
    assert best(system, text="zelt für zwei") == "p1"


@pytest.mark.parametrize("name", ["bm25", "minilm-cosine"])
def test_ranking_without_a_catalog_takes_titles_as_items(name: str) -> None:
    answers: Any = fit(name, catalog=None).predict(
        [Example("q", {"text": "stove"}, relevant=("Gas stove",))], [("Family tent", "Gas stove")]
    )
    assert answers.scores[0].argmax() == 1
    assert answers.catalog_size == 2


def test_bm25_of_words_that_are_nowhere_is_all_ties() -> None:
    for query in ("xylophone", "", "?"):
        answers: Any = fit("bm25").predict([Example("q", {"text": query}, relevant=("t1",))], [POOL])
        assert len(set(answers.scores[0].tolist())) == 1
        assert answers.scores[0].shape == (len(POOL),)


def test_bm25_of_a_catalog_without_words() -> None:
    catalog = Catalog({"a": Item("a", "?", {"title": "?"})})
    answers: Any = fit("bm25", catalog=catalog).predict([Example("q", {"text": "tent"}, relevant=("a",))], [("a",)])
    assert answers.scores[0].tolist() == [0]


def test_cosine_looks_at_the_history_where_there_are_no_words() -> None:
    system = fit("minilm-cosine")
    assert best(system, history=["b1"]) == "b1"
    assert best(system, history=["s1", "b1"]) in {"s1", "b1"}
    without: Any = system.predict([Example("q", {"text": "stove"}, relevant=("t1",))], [POOL])
    with_bag: Any = system.predict([Example("q", {"text": "stove", "history": ["b1"]}, relevant=("t1",))], [POOL])
    np.testing.assert_allclose(with_bag.scores[0], without.scores[0], atol=1e-6)


def test_the_history_may_be_of_another_catalog() -> None:
    ads = Catalog(
        {"ad": Item("ad", "Sale on stove", {"title": "Sale on stove"}), "x": Item("x", "Hats", {"title": "Hats"})}
    )
    system = fit("minilm-cosine", catalog=ads, history=CATALOG)
    answers: Any = system.predict([Example("q", {"history": ["s1", "gone"]}, relevant=("ad",))], [("ad", "x")])
    assert answers.scores[0][0] > answers.scores[0][1]


def test_generating_copies_the_answer_to_the_nearest_training_text() -> None:
    train = [
        Example("1", {"text": "likes tents and rain"}, output={"interests": ["camping"]}),
        Example("2", {"text": "likes coffee"}, output={"interests": ["coffee"]}),
    ]
    answers: Any = fit("minilm-cosine", train).predict(
        [Example("3", {"text": "strong coffee"}, output={"interests": ["coffee"]})]
    )
    assert answers.outputs == ('{"interests": ["coffee"]}',)
    assert measure(answers, ["exact_match"]) == {"exact_match": 1.0}


def sentiments(each: int) -> list[Example]:
    words = {"bad": "awful broke refund", "good": "lovely great again"}
    return [
        Example(f"{label}{place}", {"text": f"{words[label].split()[place % 3]} w{place}"}, label=label)
        for place in range(each)
        for label in words
    ]


@pytest.mark.parametrize("each", [1, 3, 12])  # too few to cross-validate, and enough
def test_logistic_regression_learns_words(each: int) -> None:
    system = fit("minilm-logreg", sentiments(each), labels=("good", "never", "bad"))
    rows = [Example("a", {"text": "awful"}, label="bad"), Example("b", {"text": "lovely"}, label="good")]
    answers = system.predict(rows)
    assert isinstance(answers, ChoosePredictions)
    assert answers.labels == ("good", "never", "bad")
    assert answers.probabilities.sum(1) == pytest.approx(1, abs=1e-12)
    assert answers.probabilities[:, 1].tolist() == [0, 0]
    assert measure(answers, ["accuracy"]) == {"accuracy": 1.0}


def test_logistic_regression_is_balanced() -> None:
    rare = [*sentiments(3), *(Example(f"g{place}", {"text": "lovely"}, label="good") for place in range(60))]
    answers: Any = fit("minilm-logreg", rare, labels=("bad", "good")).predict(
        [Example("a", {"text": "??"}, label="bad")]
    )
    assert answers.probabilities[0, 0] > 0.3


def test_one_label_in_training_is_certain() -> None:
    only = [example for example in sentiments(3) if example.label == "good"]
    answers: Any = fit("minilm-logreg", only, labels=("bad", "good")).predict(only[:1])
    assert answers.probabilities.tolist() == [[0, 1]]


@pytest.mark.parametrize("name", ["minilm-logreg", "minilm-cosine", "bm25"])
def test_no_rows_no_answers(name: str) -> None:
    train = sentiments(5) if name == "minilm-logreg" else []
    assert measure(fit(name, train, labels=("bad", "good")).predict([]), []) == {}


def test_same_seed_same_answers() -> None:
    rows, train = sentiments(2), sentiments(12)
    first: Any = fit("minilm-logreg", train, labels=("bad", "good"), seed=3).predict(rows)
    second: Any = fit("minilm-logreg", train, labels=("bad", "good"), seed=3).predict(rows)
    assert (first.probabilities == second.probabilities).all()


def test_an_unknown_baseline_names_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"'tfidf' of task rank[\s\S]*bm25, minilm-cosine"):
        fit("tfidf")
