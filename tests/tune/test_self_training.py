"""Self-training: sure answers become light, balanced examples, and only as long as that helps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.tune.reviews import LABELS
from tests.tune.reviews import reviews as made_up

from shopfit.adapter.initial_weights import Start
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.engine.offline_scoring import ask
from shopfit.merchant.examples import Example
from shopfit.recipe.schema import Recipe
from shopfit.tune.folds import folds, trained
from shopfit.tune.self_training import WEIGHT, SelfTrained, pseudo_labels, self_train
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import TrainingSet


def recipe(rounds: int, confidence: float = 0.5, **tune: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "r",
            "task": "choose",
            "data": {"file": "x.jsonl"},
            "prompt": {"template": "Review: {text}\nSentiment:"},
            "adapter": {"rank": 4},
            "tune": {"lr": 0.02, "epochs": 2, "batch_size": 8}
            | {"self_training": {"rounds": rounds, "confidence": confidence}}
            | tune,
            "evaluate": {"metric": "accuracy"},
        }
    )


def reviews(count: int, seed: int, *, upside_down: bool = False) -> list[Example]:
    return made_up(count, seed=seed, upside_down=upside_down, orders=1000)


def unlabeled(count: int) -> list[Example]:
    return [replace(row, label=None) for row in reviews(count, seed=9)]


def training_set(base: Base, train: list[Example], valid: list[Example] | None = None) -> TrainingSet:
    return TrainingSet(train, valid or [], LABELS, Prompter(recipe(0), base.tokenizer))


class Heard(list[tuple[str, str]]):
    def __call__(self, what: str, detail: str) -> None:
        self.append((what, detail))


def test_as_many_of_each_label_as_the_rarest_permits_the_surest_first() -> None:
    rows = [Example(str(number), {"text": "x"}, weight=2.0 if number == 4 else 1.0) for number in range(6)]
    positive = np.array([0.95, 0.91, 0.99, 0.6, 0.02, 0.08])
    shares = np.stack([1 - positive, positive], axis=1)
    made = pseudo_labels(rows, shares, LABELS, 0.9, most=9)
    assert [(row.id, row.label, row.weight) for row in made] == [
        ("unlabeled/4", "negative", 2 * WEIGHT),
        ("unlabeled/5", "negative", WEIGHT),
        ("unlabeled/2", "positive", WEIGHT),
        ("unlabeled/0", "positive", WEIGHT),
    ]
    assert [row.id for row in pseudo_labels(rows, shares, LABELS, 0.9, most=1)] == ["unlabeled/4", "unlabeled/2"]
    assert pseudo_labels(rows, shares, LABELS, 0.985, most=9) == []  # no negative one is that sure
    assert WEIGHT < 1


@pytest.mark.parametrize("count", [12, 40])
def test_rounds_are_measured_on_held_out_examples_and_told(base: Base, count: int) -> None:
    """Three folds of 12 examples; the validation set of 40."""
    rows = reviews(count, seed=1)
    mine = training_set(base, rows) if count < 40 else training_set(base, rows[:32], rows[32:])
    heard = Heard()
    with torch.no_grad():
        before = base.model(torch.tensor([[1, 2, 3]])).logits
    learned = self_train(
        Trainer(base, make_accelerator(recipe(2))), recipe(2), mine, unlabeled(20), start=Start(), reporter=heard
    )
    pseudo, rounds = learned.pseudo, learned.rounds
    with torch.no_grad():
        assert torch.equal(base.model(torch.tensor([[1, 2, 3]])).logits, before)
    assert 1 <= len(rounds) <= 2
    assert [one.number for one in rounds] == list(range(1, len(rounds) + 1))
    assert all(one.kept for one in rounds[:-1])
    kept = [one for one in rounds if one.kept]
    assert len(pseudo) == (kept[-1].pseudo_labels if kept else 0)
    labels = [row.label for row in pseudo]
    assert labels.count("negative") == labels.count("positive")
    assert all(0 <= value <= 1 for one in rounds for value in (one.before, one.after))
    assert [what for what, _ in heard] == [f"round {one.number}" for one in rounds]
    assert f"{rounds[0].pseudo_labels} pseudo-labels of 20 rows" in heard[0][1]
    if count < 40:
        assert (
            self_train(
                Trainer(base, make_accelerator(recipe(2))),
                recipe(2),
                mine,
                unlabeled(20),
                start=Start(),
                reporter=Heard(),
            )
            == learned
        )


def test_a_fold_has_the_pseudo_labels_of_an_adapter_that_has_not_seen_what_it_holds_out(base: Base) -> None:
    mine, rows, asked = training_set(base, reviews(24, seed=1)), unlabeled(20), recipe(1, epochs=4)
    learned = self_train(Trainer(base, make_accelerator(asked)), asked, mine, rows, start=Start(), reporter=Heard())
    assert learned.pseudo
    assert [part.valid for part in learned.parts] == [part.valid for part in folds(asked, mine)]
    for part, bare in zip(learned.parts, folds(asked, mine), strict=True):
        with trained(Trainer(base, make_accelerator(asked)), asked, bare, Start()) as pupil:
            answers = ask(pupil.adapter, mine.prompter, [row.fields for row in rows], labels=LABELS)
        mine_too = pseudo_labels(rows, np.array(answers), LABELS, 0.5, most=4 * len(bare.train) // 2)
        assert [(row.id, row.label) for row in part.beside] == [(row.id, row.label) for row in mine_too]
        assert part.training_examples == [*part.beside, *bare.train]


def test_a_round_that_does_harm_is_dropped_and_ends_it(base: Base) -> None:
    """The held-out examples say the opposite of the others, so learning the others' lesson better is worse."""
    mine = training_set(base, reviews(32, seed=1), reviews(8, seed=2, upside_down=True))
    heard = Heard()
    learned = self_train(
        Trainer(base, make_accelerator(recipe(3, epochs=1))),
        recipe(3, epochs=1),
        mine,
        unlabeled(40),
        start=Start(),
        reporter=heard,
    )
    pseudo, rounds = learned.pseudo, learned.rounds
    assert len(rounds) < 3
    assert [one.kept for one in rounds] == [True] * (len(rounds) - 1) + [False]
    assert rounds[-1].pseudo_labels > 0
    assert len(pseudo) == (rounds[-2].pseudo_labels if len(rounds) > 1 else 0)
    assert heard[-1][1].endswith("dropped")


def test_nothing_is_done_without_evidence_or_rows_or_confidence(base: Base) -> None:
    heard = Heard()
    few = training_set(base, reviews(4, seed=1))
    assert (
        self_train(
            Trainer(base, make_accelerator(recipe(1))), recipe(1), few, unlabeled(9), start=Start(), reporter=heard
        )
        == SelfTrained()
    )
    enough = training_set(base, reviews(8, seed=1))
    assert (
        self_train(Trainer(base, make_accelerator(recipe(1))), recipe(1), enough, [], start=Start(), reporter=heard)
        == SelfTrained()
    )
    assert (
        self_train(
            Trainer(base, make_accelerator(recipe(1, 0.9999))),
            recipe(1, 0.9999),
            enough,
            unlabeled(9),
            start=Start(),
            reporter=heard,
        )
        == SelfTrained()
    )
    for said, (_, detail) in zip(("too few examples", "no rows left", "not every label"), heard, strict=True):
        assert said in detail
    assert (
        self_train(
            Trainer(base, make_accelerator(recipe(0))),
            recipe(0),
            enough,
            unlabeled(9),
            start=Start(),
            reporter=heard,
        )
        == SelfTrained()
    )
    assert len(heard) == 3
