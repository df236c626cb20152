"""A blend weighs its parts by what held-out examples say, and stands back where it does not help."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from shopfit.base.prompt import Prompter
from shopfit.evaluation.metrics import measure
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example
from shopfit.recipe.schema import Recipe
from shopfit.tasks import ChoosePredictions, RankPredictions
from shopfit.tune.score_fusion import LEAST, as_served, fit_fusion
from shopfit.tune.training_dataset import TrainingSet

WORDS = ["tent", "stove", "boots", "lamp", "rope", "knife", "mat", "pan"]
CATALOG = Catalog({word: Item(word, f"{word} one", {"id": word, "title": f"{word} one"}) for word in WORDS})


def by_word(texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors that know which of the words a text has."""
    vectors = np.array([[0.05 + text.lower().count(word) for word in WORDS] for text in texts])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def recipe(task: str) -> Recipe:
    rank = task == "rank"
    return Recipe.model_validate(
        {
            "name": "r",
            "task": task,
            "data": {"file": "x"} | ({"catalog": "c"} if rank else {}),
            "prompt": {"template": "Search: {query}" if rank else "Liked: {liked}\nText: {text}"},
            "evaluate": {"metric": "mrr" if rank else "auc"},
        }
    )


def ranked(rows: int, *, adapter: str, wanted: str = "word", seed: int = 0) -> tuple[TrainingSet, RankPredictions]:
    """Searches whose right item has the word that was searched for, or is drawn by a popularity."""
    draw = np.random.default_rng(seed)
    popularity = np.array([0.5, 0.3, 0.1, 0.04, 0.03, 0.01, 0.01, 0.01])
    examples, scores = [], []
    for number in range(2 * rows):
        said = WORDS[draw.integers(8)]
        right = said if wanted == "word" else WORDS[draw.choice(8, p=popularity)]
        examples.append(Example(str(number), {"query": f"a {said}"}, relevant=(right,)))
        knows = np.array([2.0 * (word == right) for word in WORDS])
        scores.append(0.2 * (knows if adapter == "wise" else 0) + 0.2 * draw.normal(size=8))
    prompter = Prompter(recipe("rank"), None, CATALOG)
    training_set = TrainingSet(examples[:rows], examples[rows:], (), prompter)
    relevant = tuple(frozenset(example.relevant) for example in training_set.valid)
    return training_set, RankPredictions((tuple(WORDS),) * rows, tuple(scores[rows:]), relevant, 8)


def test_search_helps_an_adapter_that_knows_nothing() -> None:
    training_set, held_out = ranked(40, adapter="blind")
    blend, losses = fit_fusion(recipe("rank"), training_set, [(training_set, held_out)], by_word)
    assert blend is not None
    assert "adapter" not in blend.weights or blend.weights["adapter"] < max(blend.weights.values()) / 2
    assert min(losses["bm25"], losses["minilm"]) < losses["adapter"]
    assert set(losses) == {"adapter", "popularity", "bm25", "minilm", "blend"}


def test_popularity_counts_where_it_is_all_there_is() -> None:
    training_set, held_out = ranked(60, adapter="blind", wanted="popular")
    blend, losses = fit_fusion(recipe("rank"), training_set, [(training_set, held_out)], by_word)
    assert blend is not None
    assert blend.weights["popularity"] == max(blend.weights.values())
    assert losses["popularity"] < losses["adapter"]
    assert sum(blend.popularity.values()) == 120  # all of the merchant's examples, once the weights are known


def test_parts_that_each_know_something_are_better_together() -> None:
    training_set, held_out = ranked(80, adapter="wise", wanted="popular")
    blend, losses = fit_fusion(recipe("rank"), training_set, [(training_set, held_out)], by_word)
    assert blend is not None
    assert {"adapter", "popularity"} <= set(blend.weights)
    assert losses["blend"] < min(losses["adapter"], losses["popularity"])


def test_an_adapter_that_is_best_by_itself_answers_alone() -> None:
    training_set, held_out = ranked(60, adapter="wise", wanted="popular")
    sure = RankPredictions(
        held_out.candidates, tuple(scores * 50 for scores in held_out.scores), held_out.relevant, held_out.catalog_size
    )
    certain = RankPredictions(
        sure.candidates,
        tuple(np.array([4.0 * (item in right) for item in WORDS]) for right in sure.relevant),
        sure.relevant,
        8,
    )
    blend, losses = fit_fusion(recipe("rank"), training_set, [(training_set, certain)], by_word)
    assert blend is None
    assert losses["adapter"] == min(losses[name] for name in losses if name != "blend")


@pytest.mark.parametrize(("rows", "kept"), [(12, True), (120, False)])
def test_an_adapter_gives_way_only_on_evidence(rows: int, kept: bool) -> None:
    draw = np.random.default_rng(0)
    labels, examples = ("no", "yes"), []
    for number in range(2 * rows):
        liked = number % 2
        word = WORDS[liked if draw.random() < 0.7 else 1 - liked]  # the text says a little
        examples.append(Example(str(number), {"text": word}, label=labels[liked]))
    training_set = TrainingSet(examples[:rows], examples[rows:], labels, Prompter(recipe("choose"), None))
    gold = np.arange(rows) % 2
    held_out = ChoosePredictions(labels, np.full((rows, 2), 0.5), gold)  # and the adapter nothing
    blend, losses = fit_fusion(recipe("choose"), training_set, [(training_set, held_out)], by_word)
    assert losses["minilm"] < losses["adapter"]
    assert (blend is None) == kept


@pytest.mark.parametrize("encoder", [True, False])
def test_labels_are_blended_with_likes_and_texts(encoder: bool) -> None:
    draw = np.random.default_rng(1)
    examples, said = [], []
    for number in range(120):
        likes = bool(draw.integers(2))
        fields = {
            "liked": ["x"] * (4 if likes else 1),
            "disliked": ["y"] * (1 if likes else 4),
            "text": WORDS[draw.integers(8)],
        }
        label = "yes" if (likes if draw.random() < 0.85 else not likes) else "no"
        examples.append(Example(str(number), fields, label=label))
        said.append([0.5, 0.5])
    labels = ("no", "yes")
    training_set = TrainingSet(examples[:60], examples[60:], labels, Prompter(recipe("choose"), None))
    gold = np.array([labels.index(str(example.label)) for example in training_set.valid])
    held_out = ChoosePredictions(labels, np.array(said[60:]), gold)
    blend, losses = fit_fusion(recipe("choose"), training_set, [(training_set, held_out)], by_word if encoder else None)
    assert blend is not None
    assert blend.weights["like-rate"] == max(blend.weights.values())
    assert losses["like-rate"] < losses["majority"]
    assert ("minilm" in losses) == encoder


def test_what_a_shopper_and_what_others_like_go_together_from_few_examples() -> None:
    draw = np.random.default_rng(3)
    examples = []
    for number in range(24):
        fond, good = bool(draw.integers(2)), bool(draw.integers(2))
        fields = {
            "liked": ["good"] * (4 if fond else 2),  # whoever has seen it likes the one and not the other
            "disliked": ["bad"] * (2 if fond else 4),
            "text": "lamp",
            "item": "good" if good else "bad",
        }
        label = "yes" if (good if draw.random() < 0.7 else fond) else "no"
        examples.append(Example(str(number), fields, label=label))
    labels = ("no", "yes")
    training_set = TrainingSet(examples[:12], examples[12:], labels, Prompter(recipe("choose"), None))
    gold = np.array([labels.index(str(example.label)) for example in training_set.valid])
    held_out = ChoosePredictions(labels, np.full((12, 2), 0.5), gold)
    blend, losses = fit_fusion(recipe("choose"), training_set, [(training_set, held_out)], None)
    assert blend is not None
    assert set(blend.weights) >= {"like-rate", "item-likes"}
    assert losses["like-rate and item-likes"] < losses["majority"]
    # a handful of lucky answers is no reason to give them up
    right = np.where(gold[:, None] == np.arange(2), 0.75, 0.25)
    lucky = ChoosePredictions(labels, right, gold)
    lucky_blend, losses = fit_fusion(recipe("choose"), training_set, [(training_set, lucky)], None)
    assert losses["adapter"] < losses["like-rate and item-likes"] < losses["adapter"] + 2 / 12
    assert lucky_blend is not None
    assert "like-rate" in lucky_blend.weights


def test_an_unlucky_draw_is_no_reason_to_give_biases_up() -> None:
    draw = np.random.default_rng(35)  # answers by chance, against what likes say
    labels, examples = ("no", "yes"), []
    for number in range(24):
        fond, good = bool(draw.integers(2)), bool(draw.integers(2))
        fields = {
            "liked": ["good"] * (9 if fond else 1),
            "disliked": ["bad"] * (1 if fond else 9),
            "text": "lamp",
            "item": "good" if good else "bad",
        }
        examples.append(Example(str(number), fields, label=labels[draw.integers(2)]))
    training_set = TrainingSet(examples[:12], examples[12:], labels, Prompter(recipe("choose"), None))
    gold = np.array([labels.index(str(row.label)) for row in training_set.valid])
    held_out = ChoosePredictions(labels, np.full((12, 2), 0.5), gold)
    blend, losses = fit_fusion(recipe("choose"), training_set, [(training_set, held_out)], None)
    assert losses["like-rate and item-likes"] > losses["adapter"] + 2 / 12
    assert blend is not None
    assert "like-rate" in blend.weights


def test_few_examples_are_no_evidence() -> None:
    training_set, held_out = ranked(LEAST - 1, adapter="blind")
    assert fit_fusion(recipe("rank"), training_set, [(training_set, held_out)], by_word) == (None, {})


def test_held_out_answers_as_they_would_be_served() -> None:
    """The blend's weights for a row come from others: what is drawn from noise is not believed."""
    training_set, held_out = ranked(80, adapter="wise", wanted="popular")
    parts = [(training_set, held_out)]
    blend, _ = fit_fusion(recipe("rank"), training_set, parts, by_word)
    assert blend is not None
    served = as_served(recipe("rank"), parts, blend, by_word)[0]
    assert isinstance(served, RankPredictions)
    assert (served.candidates, served.relevant) == (held_out.candidates, held_out.relevant)
    alone, together = (measure(one, ["mrr"])["mrr"] for one in (held_out, served))
    assert together > alone
    assert as_served(recipe("rank"), parts, None, by_word) == [held_out]


def test_held_out_choices_as_they_would_be_served() -> None:
    draw = np.random.default_rng(0)
    gold = draw.integers(0, 2, 60)
    sure = np.where(draw.random(60) < 0.7, gold, 1 - gold)  # right in 70 of 100, and always as good as certain
    wild = ChoosePredictions(("no", "yes"), np.where(np.eye(2)[sure] == 1, 0.999, 0.001), gold)
    training_set = TrainingSet([], [], ("no", "yes"), Prompter(recipe("choose"), None))
    halves = [
        ChoosePredictions(wild.labels, wild.probabilities[part], gold[part]) for part in np.split(np.arange(60), 2)
    ]
    parts = [(training_set, half) for half in halves]
    served = as_served(recipe("choose"), parts, None, None)
    assert [len(part.gold) for part in served if isinstance(part, ChoosePredictions)] == [30, 30]
    for before, after in zip(halves, served, strict=True):
        assert measure(after, ["log_loss"])["log_loss"] < measure(before, ["log_loss"])["log_loss"] / 2
        assert measure(after, ["accuracy"]) == measure(before, ["accuracy"])
