"""The start that a merchant's own examples favour."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from tests.tune.reviews import LABELS, RECIPE, reviews, training_set

from shopfit.adapter.initial_weights import Start
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import BalancedTrainingDataset, TrainingSet
from shopfit.warm_start.selection import Candidate, Donor, candidates, choose_start, kept_and_trained


def learned(base: Base, name: str, *, upside_down: bool = False) -> Start:
    """An adapter that learned the task, or its opposite, from many rows of another shop."""
    recipe = RECIPE.model_copy(update={"tune": RECIPE.tune.model_copy(update={"epochs": 8})})
    rows = reviews(24, seed=5, upside_down=upside_down)
    tuned = Trainer(base, make_accelerator(recipe)).fit(
        TrainingSet(rows, [], LABELS, Prompter(recipe, base.tokenizer)), recipe
    )
    factors = {
        layer: (module.lora_A["default"].weight.detach().clone(), module.lora_B["default"].weight.detach() * 4.0)
        for layer, module in tuned.adapter.model.named_modules()
        if hasattr(module, "lora_A")
    }
    tuned.adapter.detach()
    return Start(name, factors=factors)


def named(name: str, _: TrainingSet) -> Start:
    return Start(name)


def test_a_start_that_knows_the_task_wins(base: Base) -> None:
    among = candidates(base, RECIPE, [Start()], [learned(base, "house/r@1")], [])
    heard = []
    choice = choose_start(
        Trainer(base, make_accelerator(RECIPE)),
        RECIPE,
        training_set(base, reviews(10)),
        among,
        on_loss=lambda name, loss: heard.append((name, loss)),
    )
    assert choice.start.name == "house/r@1"
    assert choice.losses["house/r@1"] < choice.losses["scratch"]
    assert heard == list(choice.losses.items())
    assert "3-fold" in choice.why
    assert not any(weight.requires_grad for weight in base.model.parameters())


def test_a_start_that_learned_the_opposite_loses(base: Base) -> None:
    among = candidates(base, RECIPE, [Start()], [learned(base, "house/r@1", upside_down=True)], [])
    choice = choose_start(Trainer(base, make_accelerator(RECIPE)), RECIPE, training_set(base, reviews(10)), among)
    assert choice.start.scratch
    assert choice.losses["scratch"] < choice.losses["house/r@1"]


def test_among_equals_the_simpler_one_wins(base: Base) -> None:
    among = [
        Candidate(name, partial(named, name), from_others=name != "scratch") for name in ("scratch", "one", "the same")
    ]
    told = reviews(8)
    silent = [replace(row, fields={"text": "no comment"}) for row in told]
    for rows, winner in ((silent, "scratch"), (told, "one")):  # where nobody can know anything, and where all know much
        choice = choose_start(Trainer(base, make_accelerator(RECIPE)), RECIPE, training_set(base, rows), among)
        assert len(set(choice.losses.values())) == 1
        assert choice.start.name == winner


def test_a_starter_may_stay_as_it_is(base: Base) -> None:
    among = candidates(base, RECIPE, [Start()], kept_and_trained(learned(base, "house/r@1")), [])
    assert [one.name for one in among] == ["scratch", "house/r@1 as it is", "house/r@1"]
    gentle = RECIPE.model_copy(update={"tune": RECIPE.tune.model_copy(update={"lr": 1e-9})})
    shop = training_set(base, reviews(10), reviews(4, seed=3))
    choice = choose_start(Trainer(base, make_accelerator(gentle)), gentle, shop, among)
    assert choice.start.kept  # training changes nothing
    assert choice.losses["house/r@1 as it is"] == pytest.approx(choice.losses["house/r@1"], rel=0.01)
    tuned = Trainer(base, make_accelerator(gentle)).fit(
        TrainingSet(shop.train, shop.valid, LABELS, shop.prompter), gentle, start=choice.start
    )
    assert (tuned.steps, tuned.best_epoch, tuned.curve) == (0, 0, [])
    assert len(tuned.held_out) == 1
    assert choice.start.factors is not None
    for layer, module in tuned.adapter.model.named_modules():
        if hasattr(module, "lora_A"):
            down, up = choice.start.factors[layer]
            ours = module.scaling["default"] * module.lora_B["default"].weight @ module.lora_A["default"].weight
            torch.testing.assert_close(ours, up @ down)
    tuned.adapter.detach()


def test_donors_are_weighed_by_what_they_know(base: Base) -> None:
    wise, fool = learned(base, "wise/r@1"), learned(base, "fool/r@1", upside_down=True)
    assert wise.factors is not None
    assert fool.factors is not None
    donors = [Donor("fool/r@1", fool.factors), Donor("wise/r@1", wise.factors)]
    among = candidates(base, RECIPE, [Start()], [], donors)
    assert [one.name for one in among] == ["scratch", "mean of the nearest of 2 donors", "weights over 2 donors"]
    choice = choose_start(Trainer(base, make_accelerator(RECIPE)), RECIPE, training_set(base, reviews(12)), among)
    assert choice.start.name.startswith("weights over fool/r@1")
    shares = {
        part.split()[0]: float(part.split()[1]) for part in choice.start.name.removeprefix("weights over ").split(", ")
    }
    assert shares["wise/r@1"] > shares["fool/r@1"]


def test_too_few_examples_take_what_others_have(base: Base) -> None:
    known = Start("house/r@1", factors={})
    choice = choose_start(
        Trainer(base, make_accelerator(RECIPE)),
        RECIPE,
        training_set(base, reviews(4)),
        candidates(base, RECIPE, [Start()], [known], []),
    )
    assert choice.start is known
    assert "too few" in choice.why
    alone = choose_start(
        Trainer(base, make_accelerator(RECIPE)),
        RECIPE,
        training_set(base, reviews(4)),
        candidates(base, RECIPE, [Start()], [], []),
    )
    assert alone.start.scratch


def test_merchants_give_equally_many_lessons_an_epoch(base: Base) -> None:
    small, large = training_set(base, reviews(3, seed=1)), training_set(base, reviews(20, seed=2))
    dataset = BalancedTrainingDataset([small, large], RECIPE.tune, 8)
    assert len(dataset) == 16
    seen: set[tuple[int, ...]] = set()
    for epoch in (1, 2, 3):
        dataset.epoch = epoch
        mine = [dataset[place][0].prompt for place in range(16)]
        assert set(mine[:8]) == {small.prompter.encode(row.fields) for row in small.train}
        assert len(set(mine[8:])) >= 7  # texts may be alike, rows are not drawn twice
        seen |= set(mine[8:])
    assert seen == {large.prompter.encode(row.fields) for row in large.train}


def test_a_fold_leaves_no_trace(base: Base) -> None:
    with torch.no_grad():
        before = base.model(torch.tensor([[1, 2, 3]])).logits
    choose_start(
        Trainer(base, make_accelerator(RECIPE)),
        RECIPE,
        training_set(base, reviews(8)),
        candidates(base, RECIPE, [Start()], [learned(base, "h")], []),
    )
    with torch.no_grad():
        assert torch.equal(base.model(torch.tensor([[1, 2, 3]])).logits, before)
