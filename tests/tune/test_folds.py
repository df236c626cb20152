"""Folds: what a merchant's examples are held against."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.tune.reviews import LABELS, RECIPE, reviews, training_set

from shopfit.adapter.initial_weights import Start
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example
from shopfit.recipe.schema import Recipe
from shopfit.tasks import ChoosePredictions, RankPredictions
from shopfit.tune.folds import calibrated_loss, folds, held_out_of, in_batches, loss_at, predictions_of, scored, trained
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import TrainingSet
from shopfit.tune.training_loop import total_steps


def test_folds_hold_every_example_out_once_and_never_train_on_it(base: Base) -> None:
    rows = reviews(13)
    parts = folds(RECIPE, training_set(base, rows[:9], rows[9:]))
    assert sorted(row.id for part in parts for row in part.valid) == sorted(row.id for row in rows)
    for part in parts:
        assert not {row.id for row in part.train} & {row.id for row in part.valid}
        assert {row.label for row in part.train} == set(LABELS)
    many = training_set(base, reviews(90), reviews(10, seed=2))
    assert folds(RECIPE, many) == [many]


def test_folds_keep_what_one_shopper_did_on_one_side(base: Base) -> None:
    rows = [replace(row, group=f"shopper {number // 3}") for number, row in enumerate(reviews(12))]
    parts = folds(RECIPE, training_set(base, rows))
    assert sorted(row.id for part in parts for row in part.valid) == sorted(row.id for row in rows)
    for part in parts:
        assert not {row.group for row in part.train} & {row.group for row in part.valid}
    two = [replace(row, group=f"shopper {number % 2}") for number, row in enumerate(reviews(12))]
    assert folds(RECIPE, training_set(base, two)) == []  # the third part would be empty


def test_a_fold_learns_from_what_the_adapter_learns_from_but_for_what_repeats_a_held_out_row(base: Base) -> None:
    rows = [replace(row, group=f"shopper {number}") for number, row in enumerate(reviews(12))]
    rows[0] = replace(rows[0], fields={"text": "nothing else in the kitchen is as quiet"})
    pairs = [Example(f"pair {number}", {"text": f"a description of thing number {number}"}) for number in range(3)]
    beside = [
        *(replace(row, label=LABELS[0], weight=0.2) for row in pairs),
        Example("copy", rows[0].fields, label=LABELS[1]),
        Example("same shopper", {"text": "something else"}, label=LABELS[1], group=rows[1].group),
    ]
    mine = replace(training_set(base, rows), beside=beside)
    for part in folds(RECIPE, mine):
        held = {row.id for row in part.valid}
        out = ({"copy"} if rows[0].id in held else set()) | ({"same shopper"} if rows[1].id in held else set())
        assert [row.id for row in part.beside] == [row.id for row in beside if row.id not in out]
        assert part.training_examples == [*part.beside, *part.train]
        with trained(Trainer(base, make_accelerator(RECIPE)), RECIPE, part, Start()) as tuned:
            assert (
                tuned.steps == total_steps(RECIPE, len(part.training_examples)) > total_steps(RECIPE, len(part.train))
            )
    assert sum(len(part.beside) for part in folds(RECIPE, mine)) == 3 * len(beside) - 2


def test_a_training_and_its_held_out_answers_go_by_one_recipe(base: Base) -> None:
    """Whatever recipe wrote the prompts: a search, for instance, tries others."""
    hot = RECIPE.model_copy(update={"tune": RECIPE.tune.model_copy(update={"temperature": 2.0})})
    other = training_set(base, reviews(12), reviews(6, seed=2))
    mine = other.under(hot)
    tuned = []
    for one in (other, mine):
        tuned.append(
            Trainer(base, make_accelerator(hot)).fit(TrainingSet(one.train, one.valid, LABELS, one.prompter), hot)
        )
        tuned[-1].adapter.detach()
    parts = [
        predictions_of(Trainer(base, make_accelerator(hot)), hot, folds(hot, one), Start())() for one in (other, mine)
    ]
    answers = [[*one.held_out, *(said for _, said in part)] for one, part in zip(tuned, parts, strict=True)]
    for found, wanted in zip(*answers, strict=True):
        assert isinstance(found, ChoosePredictions)
        assert isinstance(wanted, ChoosePredictions)
        np.testing.assert_array_equal(found.probabilities, wanted.probabilities)


def test_what_is_held_out_is_asked_at_every_step_of_its_history(base: Base) -> None:
    rank = Recipe.model_validate(
        {
            "name": "r",
            "task": "rank",
            "data": {"file": "x", "catalog": "c"},
            "prompt": {"template": "Seen: {history}"},
            "adapter": {"rank": 2},
            "tune": {"epochs": 1, "negatives": 2},
            "evaluate": {"metric": "mrr"},
        }
    )
    items = Catalog({name: Item(name, f"item {name}", {"id": name, "title": f"item {name}"}) for name in "abcdef"})
    rows = [Example(str(place), {"history": ("a", "b", "c")}, relevant=("def"[place % 3],)) for place in range(6)]
    shop = TrainingSet(rows, [], (), Prompter(rank, base.tokenizer, items))
    found = predictions_of(Trainer(base, make_accelerator(rank)), rank, folds(rank, shop), Start())()
    assert [len(part.valid) for part, _ in found] == [6, 6, 6]  # two rows a part, three steps each
    for part, held_out in found:
        assert isinstance(held_out, RankPredictions)
        assert [set(right) for right in held_out.relevant] == [set(row.relevant) for row in part.valid]
        assert {len(pool) for pool in held_out.candidates} == {5, 4, 3}  # what was seen is not asked again


def test_labels_that_a_fold_did_not_teach_are_not_asked(base: Base) -> None:
    """The adapter that is served has learned them: what one that has not says of them tells nothing of it."""
    labels = [f"kind {number}" for number in range(10)]
    rows = [Example(str(number), {"text": f"text {number}"}, label=label) for number, label in enumerate(labels)]
    twice = [*rows, *(replace(row, id=f"{row.id}/2", label=labels[0]) for row in rows)]
    recipe = RECIPE.model_copy(update={"tune": RECIPE.tune.model_copy(update={"epochs": 1})})
    for shown, asked in ((rows, 0), (twice, 11)):
        shop = TrainingSet(shown, [], labels, Prompter(recipe, base.tokenizer))
        found = predictions_of(Trainer(base, make_accelerator(recipe)), recipe, folds(recipe, shop), Start())()
        for part, held_out in found:
            assert isinstance(held_out, ChoosePredictions)
            assert {row.label for row in part.valid} <= {row.label for row in part.train}
            assert len(held_out.gold) == len(part.valid)
        assert sum(len(part.valid) for part, _ in found) == asked


def test_a_calibrated_loss_prefers_what_tells_right_from_wrong(base: Base) -> None:
    batches = in_batches(RECIPE, reviews(16), training_set(base, reviews(16)))

    def loss_of(separation: float, *, turned: int = 0) -> tuple[float, float]:
        """Answers that are right by so much, but for a few that are as wrong."""
        answers = []
        for batch in batches:
            right = batch.gold.clone()
            right[: 2 * turned] = ~right[: 2 * turned]
            answers.append((torch.where(right, separation, 0.0) * batch.questions.lengths, batch))
        return loss_at(answers, RECIPE, RECIPE.tune.temperature), calibrated_loss(answers, RECIPE)

    (sure, sure_calibrated), (none, none_calibrated) = loss_of(2.0, turned=2), loss_of(0.0)
    assert sure > none == pytest.approx(math.log(2), abs=1e-5)  # too sure of two wrong answers
    assert sure_calibrated < 0.6 < none_calibrated
    surer = loss_of(8.0, turned=2)[1]
    assert surer == pytest.approx(sure_calibrated, rel=0.1)  # how sure does not matter


@pytest.mark.parametrize("kind", ["base", "encoder"])
def test_what_was_scored_for_the_loss_is_not_asked_again(kind: str, request: pytest.FixtureRequest) -> None:
    base: Base = request.getfixturevalue(kind)
    prompter, trainer = Prompter(RECIPE, base.tokenizer, scorer=base.scorer), Trainer(base, make_accelerator(RECIPE))
    rows = [*reviews(20), Example("rare", {"text": "nobody knows"}, label="unheard of")]
    part = TrainingSet(rows[:10], rows[10:], [*LABELS, "unheard of"], prompter)
    with trained(trainer, RECIPE, part, Start()) as tuned:
        answers = scored(base, RECIPE, part, tuned)
        (_, derived), (held, asked) = (held_out_of(trainer, RECIPE, part, tuned, known) for known in (answers, ()))
    assert isinstance(derived, ChoosePredictions)
    assert isinstance(asked, ChoosePredictions)
    assert [row.id for row in held.valid] == [row.id for row in rows[10:20]]  # none of the label without an example
    assert np.allclose(derived.probabilities, asked.probabilities, atol=1e-5)
    assert list(derived.gold) == list(asked.gold)


def test_a_fresh_prefix_begins_with_what_its_part_trains_on(base: Base) -> None:
    adapter = {"method": "prefix", "virtual_tokens": 4}
    recipe = Recipe.model_validate(RECIPE.model_dump(by_alias=True) | {"adapter": adapter})
    trainer, parts = Trainer(base, make_accelerator(recipe)), folds(recipe, training_set(base, reviews(12)))
    together = predictions_of(trainer, recipe, parts, Start(kept=True))()
    apart = [held for part in parts for held in predictions_of(trainer, recipe, [part], Start(kept=True))()]
    for (_, said), (_, wanted) in zip(together, apart, strict=True):
        assert isinstance(said, ChoosePredictions)
        assert isinstance(wanted, ChoosePredictions)
        assert np.allclose(said.probabilities, wanted.probabilities, atol=1e-5)


@pytest.mark.parametrize("kind", ["base", "encoder"])
def test_what_is_not_trained_is_asked_once_for_all_parts(kind: str, request: pytest.FixtureRequest) -> None:
    base: Base = request.getfixturevalue(kind)
    recipe = Recipe.model_validate(
        {
            "name": "r",
            "task": "rank",
            "data": {"file": "x.jsonl", "catalog": "c.jsonl"},
            "prompt": {"template": "Search: {query}\nProduct:"},
            "evaluate": {"metric": "mrr", "candidates": 4},
        }
    )
    names = [f"tent {number}" for number in range(9)]
    catalog = Catalog({name: Item(name, name, {"id": name, "title": name}) for name in names})
    rows = [Example(f"{row}", {"query": f"a {name}"}, relevant=(name,)) for row, name in enumerate(names)]
    shop = TrainingSet(rows, [], (), Prompter(recipe, base.tokenizer, catalog, scorer=base.scorer))
    trainer, parts = Trainer(base, make_accelerator(recipe)), folds(recipe, shop)
    layer = next(name for name, _ in base.model.named_modules() if name.endswith(("mlp", "intermediate")))
    read: list[int] = []
    hook = base.model.get_submodule(layer).register_forward_hook(lambda _, args, __: read.append(len(args[0])))
    try:
        together = predictions_of(trainer, recipe, parts, Start(kept=True))()
        at_once = sum(read)
        apart = [held for part in parts for held in predictions_of(trainer, recipe, [part], Start(kept=True))()]
    finally:
        hook.remove()
    assert at_once <= sum(read) - at_once
    if kind == "encoder":  # of which each item is read once
        assert at_once < sum(read) - at_once
    for (mine, said), (alone, wanted) in zip(together, apart, strict=True):
        assert [row.id for row in mine.valid] == [row.id for row in alone.valid]
        assert isinstance(said, RankPredictions)
        assert isinstance(wanted, RankPredictions)
        assert said.candidates == wanted.candidates
        for one, other in zip(said.scores, wanted.scores, strict=True):
            assert np.allclose(one, other, atol=1e-5)


def test_a_head_that_is_not_trained_reads_each_text_once_for_all_parts(encoder: Base) -> None:
    shop = TrainingSet(reviews(12), [], LABELS, Prompter(RECIPE, encoder.tokenizer, scorer=encoder.scorer))
    trainer, parts = Trainer(encoder, make_accelerator(RECIPE)), folds(RECIPE, shop)
    layer = next(name for name, _ in encoder.model.named_modules() if name.endswith("intermediate"))
    read: list[int] = []
    hook = encoder.model.get_submodule(layer).register_forward_hook(lambda _, args, __: read.append(len(args[0])))
    try:
        together = predictions_of(trainer, RECIPE, parts, Start(kept=True))()
        at_once = sum(read)
        apart = [
            held
            for part in parts
            for held in predictions_of(Trainer(encoder, make_accelerator(RECIPE)), RECIPE, [part], Start(kept=True))()
        ]
    finally:
        hook.remove()
    assert at_once + len(shop.train) <= sum(read) - at_once
    for (_, said), (_, wanted) in zip(together, apart, strict=True):
        assert isinstance(said, ChoosePredictions)
        assert isinstance(wanted, ChoosePredictions)
        assert np.allclose(said.probabilities, wanted.probabilities, atol=1e-5)
