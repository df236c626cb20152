"""A fleet: each merchant's adapter is what training it alone makes, whoever shares the forwards."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shopfit.adapter.initial_weights import Start
from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter
from shopfit.errors import BundleError, Diverged, RecipeError
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example
from shopfit.recipe.schema import Recipe
from shopfit.tune.fleet import Fleet
from shopfit.tune.fleet_trainer import FleetTrainer
from shopfit.tune.fleet_training import Training
from shopfit.tune.trainer import Trainer, Tuned, make_accelerator
from shopfit.tune.training_dataset import TrainingSet

WORDS = ["lovely crema", "arrived cracked", "would buy again", "the box was wet and so was all in it", "fine"]
NAMES = ("tent", "bag", "lamp")
ITEMS = Catalog({name: Item(name, name.title(), {"id": name, "title": name.title()}) for name in NAMES})
LABELS = ("negative", "positive")
TEMPLATES = {"choose": "Review: {text}\nSentiment:", "rank": "Search: {query}\nProduct:", "generate": "Say: {input}\n"}
METRICS = {"choose": "accuracy", "rank": "mrr", "generate": "exact_match", "rate": "mae"}


def recipe(
    task: str = "choose", rank: int = 4, targets: object = "all-linear", layers: str = "all", **tune: object
) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "r",
            "task": task,
            "data": {"file": "x.jsonl"}
            | ({"catalog": "c.jsonl"} if task == "rank" else {})
            | ({"bounds": [1, 3]} if task == "rate" else {}),
            "prompt": {"template": TEMPLATES.get(task, "Review: {text}\nStars:")},
            "adapter": {"rank": rank, "targets": targets, "layers": layers},
            "tune": {"lr": 0.01, "epochs": 3, "batch_size": 4} | tune,
            "evaluate": {"metric": METRICS[task]},
            "serve": {"max_new_tokens": 4},
        }
    )


def example(task: str, number: int, seed: int) -> Example:
    text, name = f"{WORDS[(number + seed) % 5]} {number}", list(ITEMS)[(number + seed) % 3]
    match task:
        case "choose":
            return Example(str(number), {"text": text}, label=LABELS[(number + seed) % 2])
        case "rank":
            return Example(str(number), {"query": text}, relevant=(name,))
        case "rate":
            return Example(str(number), {"text": text}, score=1.0 + number % 3)
    return Example(str(number), {"input": text}, output=name)


def shop(base: Base, of: Recipe, rows: int, valid: int = 0, seed: int = 0) -> TrainingSet:
    task = of.task
    labels = {"choose": LABELS, "rate": ("1", "2", "3")}.get(task, ())
    prompter = Prompter(of, base.tokenizer, ITEMS if task == "rank" else None, scorer=base.scorer)
    examples = [example(task, number, seed) for number in range(rows + valid)]
    return TrainingSet(examples[:rows], examples[rows:], labels, prompter)


def numbers(tuned: Tuned) -> list[torch.Tensor]:
    state = tuned.adapter.state()
    tuned.adapter.detach()
    return state


def alone(base: Base, of: Recipe, training_set: TrainingSet, start: Start | None = None) -> Tuned:
    return Trainer(base, make_accelerator(of)).fit(training_set, of, start)


def run(fleet: Fleet) -> list[Training]:
    over = []
    while fleet.busy:
        over += fleet.step()
    return over


@pytest.fixture(scope="module")
def bases(tiny_base: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    home = tmp_path_factory.mktemp("home")
    found = {"decoder": load_base(str(tiny_base), home), "encoder": load_base(str(tiny_encoder), home)}
    for module in found["encoder"].model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # in a fleet it is off
    return found


@st.composite
def merchants(draw: Any) -> dict[str, Any]:
    """A merchant's task, rows and recipe."""
    return {
        "task": draw(st.sampled_from(["choose", "rank", "rate", "generate"])),
        "rows": draw(st.integers(1, 11)),
        "seed": draw(st.integers(0, 4)),
        "valid": draw(st.sampled_from([0, 0, 3])),
        "rank": draw(st.sampled_from([2, 4])),
        "layers": draw(st.sampled_from(["all", "last:1", "last:1"])),
        "tune": {
            "lr": draw(st.sampled_from([0.003, 0.01])),
            "epochs": draw(st.integers(1, 3)),
            "batch_size": draw(st.integers(1, 5)),
            "accumulate": draw(st.sampled_from([1, 1, 2])),
            "seed": draw(st.sampled_from([7, 8])),
            "clip": draw(st.sampled_from([0.05, 1.0])),
            "weight_decay": draw(st.sampled_from([0.0, 0.1])),
        },
    }


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
@settings(max_examples=6)
@given(
    mix=st.lists(merchants(), min_size=1, max_size=5),
    slots=st.integers(1, 4),
    tokens=st.sampled_from([1, 300, 5000]),
)
def test_each_of_any_mix_is_what_training_it_alone_makes(
    bases: dict[str, Base], kind: str, mix: list[dict[str, Any]], slots: int, tokens: int
) -> None:
    base = bases[kind]
    jobs = []
    for one in mix:
        task = "rank" if kind == "encoder" and one["task"] == "generate" else one["task"]
        of = recipe(task, one["rank"], layers=one["layers"], **one["tune"])
        jobs.append((of, shop(base, of, one["rows"], one["valid"], one["seed"])))
    fleet = Fleet(base, slots=slots, rank=4, tokens=tokens)
    trainings = [fleet.add(training_set, of) for of, training_set in jobs]
    assert {id(one) for one in run(fleet)} == {id(one) for one in trainings}
    for training, (of, training_set) in zip(trainings, jobs, strict=True):
        assert training.error is None
        same(training, alone(base, of, training_set))


def same(training: Training, wanted: Tuned) -> None:
    """What a fleet trained is another training's outcome, which is taken off the base."""
    other = numbers(wanted)
    tuned = training.put_on()
    mine = numbers(tuned)
    # Adam divides by gradients that may be near 0: there, rounding decides a step's direction
    distance = math.sqrt(sum(float((one - two).square().sum()) for one, two in zip(mine, other, strict=True)))
    assert distance <= 2e-3 * math.sqrt(sum(float(two.square().sum()) for two in other))
    assert (tuned.steps, tuned.best_epoch, tuned.stopped_early) == (
        wanted.steps,
        wanted.best_epoch,
        wanted.stopped_early,
    )
    for point, expected in zip(tuned.curve, wanted.curve, strict=True):
        assert point.train_loss == pytest.approx(expected.train_loss, rel=1e-3, abs=1e-4)
        assert point.valid == (expected.valid if expected.valid is None else pytest.approx(expected.valid, rel=1e-3))


def test_layers_that_are_no_targets_stay_as_they_are(bases: dict[str, Base]) -> None:
    base = bases["decoder"]
    fleet = Fleet(base, slots=2, rank=4)
    jobs = [recipe(targets=["q_proj", "v_proj"]), recipe("rank")]
    trainings = [fleet.add(shop(base, of, 6), of) for of in jobs]
    run(fleet)
    for training, of in zip(trainings, jobs, strict=True):
        same(training, alone(base, of, shop(base, of, 6)))


@pytest.mark.parametrize("layers", ["all", "last:1"])
def test_a_training_starts_from_weights(bases: dict[str, Base], layers: str) -> None:
    base, of = bases["decoder"], recipe(layers=layers)
    first = alone(base, recipe(), shop(base, recipe(), 6))
    factors = {
        name: (layer.lora_A["default"].weight.detach().clone(), 2 * layer.lora_B["default"].weight.detach().clone())
        for name, layer in first.adapter.model.named_modules()
        if hasattr(layer, "lora_A")
    }
    first.adapter.detach()
    upper = {name: (down[:2], up[:, :2]) for name, (down, up) in factors.items() if ".layers.1." in name}
    starts = [
        Start("house/r@1", factors=factors),  # of all layers
        Start(),
        Start("of the last block", factors=upper),
        Start("another of all layers", factors={name: (down[:2], up[:, :2]) for name, (down, up) in factors.items()}),
    ]
    fleet = Fleet(base, slots=3, rank=4)
    trainings = [fleet.add(shop(base, of, 5, seed=seed), of, start) for seed, start in enumerate(starts)]
    run(fleet)
    for seed, (training, start) in enumerate(zip(trainings, starts, strict=True)):
        same(training, alone(base, of, shop(base, of, 5, seed=seed), start))
    assert len(fleet._adapters) <= 2  # one for all that change the same layers


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_blocks_below_what_is_trained_read_a_text_once_for_all(bases: dict[str, Base], kind: str) -> None:
    base, of = bases[kind], recipe(layers="last:1")
    block = base.model.get_submodule({"decoder": "model.layers.0.mlp", "encoder": "encoder.layer.0.output"}[kind])
    read: list[bool] = []
    hook = block.register_forward_hook(lambda *_: read.append(True))
    try:
        fleet, mine = Fleet(base, slots=2, rank=4), shop(base, of, 4)
        new = replace(mine, train=[replace(row, fields={"text": f"read once {row.id}"}) for row in mine.train])
        trainings = [fleet.add(new, of) for _ in range(2)]  # an epoch is a step
        counts = []
        while fleet.busy:
            before = len(read)
            fleet.step()
            counts.append(len(read) - before)
    finally:
        hook.remove()
    assert [bool(count) for count in counts] == [True, False, False]
    assert all(training.error is None for training in trainings)


def test_early_stopping_is_each_ones_own(bases: dict[str, Base]) -> None:
    base, of = bases["decoder"], recipe(epochs=12, patience=2)
    fleet = Fleet(base, slots=3, rank=4)
    shops = [shop(base, of, 12, valid=6, seed=seed) for seed in range(3)]
    trainings = [fleet.add(one, of) for one in shops]
    run(fleet)
    assert any(training.tuned.stopped_early for training in trainings)
    assert len({training.tuned.steps for training in trainings}) > 1
    for training, one in zip(trainings, shops, strict=True):
        same(training, alone(base, of, one))


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_one_that_diverges_ends_alone_and_changes_no_bit_of_the_others(bases: dict[str, Base], kind: str) -> None:
    base, of = bases[kind], recipe()
    found = []
    for broken in (False, True):
        fleet = Fleet(base, slots=4, rank=4)
        others = [fleet.add(shop(base, of, 5 + seed, seed=seed), of) for seed in (1, 2, 3)]
        short = recipe(steps=1)
        bad = shop(base, short, 6)
        if broken:  # a weight that makes the first loss infinite; else it leaves after that step as well
            bad = replace(bad, train=[replace(row, weight=math.inf) for row in bad.train])
        last = fleet.add(bad, short)
        over = run(fleet)
        assert len(over) == 4
        assert over[0] is last
        assert (last.error is not None) == broken
        assert all(training.error is None for training in others)
        found.append([numbers(training.put_on()) for training in others])
    for before, after in zip(*found, strict=True):
        assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
    assert isinstance(last.error, Diverged)
    assert re.search(r"the loss of step 1 is not finite, on the examples (\d, ){3}\d\b", str(last.error))


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_the_rows_of_a_step_are_read_in_parts(bases: dict[str, Base], kind: str) -> None:
    base, of = bases[kind], recipe(batch_size=2, accumulate=3)
    read: list[int] = []

    def count(_module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            read.append(len(inputs[0]))

    sets = [shop(base, of, 7 + seed, seed=seed) for seed in (1, 2)]
    hook = base.model.get_input_embeddings().register_forward_pre_hook(count)
    try:
        fleet = Fleet(base, slots=2, rank=4, tokens=1)
        trainings = [fleet.add(one, of) for one in sets]
        run(fleet)
    finally:
        hook.remove()
    assert max(read) == 2
    for training, one in zip(trainings, sets, strict=True):
        same(training, alone(base, of, one))


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_one_whose_forward_fails_ends_alone(bases: dict[str, Base], kind: str, parts: int) -> None:
    base, of = bases[kind], recipe(batch_size=4 // parts, accumulate=parts)

    def refuse(_module: object, inputs: tuple[torch.Tensor, ...]) -> None:  # as where there is no memory for it
        if torch.is_grad_enabled() and any("hungry" in text for text in base.tokenizer.batch_decode(inputs[0])):
            raise RuntimeError("out of memory")

    sets = [shop(base, of, 5 + seed, seed=seed) for seed in (1, 2)]
    hungry = shop(base, of, 6)
    hungry = replace(hungry, train=[replace(row, fields={"text": f"hungry {row.id}"}) for row in hungry.train])
    hook = base.model.get_input_embeddings().register_forward_pre_hook(refuse)
    try:
        # of two parts the others' are read before a forward that fails, or after it
        fleet = Fleet(base, slots=3, rank=4, tokens=2048 if parts == 1 else {"encoder": 50, "decoder": 150}[kind])
        others = [fleet.add(one, of) for one in sets]
        bad = fleet.add(hungry, of)
        over = run(fleet)
    finally:
        hook.remove()
    assert len(over) == 3
    assert str(bad.error) == "out of memory"
    for training, training_set in zip(others, sets, strict=True):
        same(training, alone(base, of, training_set))


def test_what_a_run_queues_is_trained_with_the_rest_and_raises_its_own_error(bases: dict[str, Base]) -> None:
    base, of = bases["decoder"], recipe()
    fleet = Fleet(base, slots=4, rank=4)

    def wait(ready: Callable[[], bool]) -> None:
        while not ready():
            fleet.step()

    one, other = (FleetTrainer(fleet, make_accelerator(of), wait) for _ in range(2))
    well = shop(base, of, 6, seed=1)
    bad = replace(well, train=[replace(row, weight=math.inf) for row in well.train])
    first, failing = one.queue(well, of), other.queue(bad, of)
    other.queue(shop(base, of, 40), of)  # nobody waits for it
    with pytest.raises(Diverged), failing:
        raise AssertionError
    with first as tuned:
        mine = numbers(tuned)
    wanted = numbers(alone(base, of, well))
    assert all(torch.allclose(*pair, atol=1e-3) for pair in zip(mine, wanted, strict=True))
    with one.queue(well, of, Start(kept=True)) as untrained:
        assert untrained.steps == 0
    assert fleet.busy
    other.withdraw()
    assert not fleet.busy


def test_a_start_with_numbers_that_are_not_finite_fails_alone(bases: dict[str, Base]) -> None:
    base, of = bases["decoder"], recipe()
    fleet = Fleet(base, slots=2, rank=4)
    name = "model.layers.0.self_attn.q_proj"
    bad = Start("x", factors={name: (torch.full((2, 64), torch.nan), torch.ones(64, 2))})
    failed, well = fleet.add(shop(base, of, 4), of, bad), fleet.add(shop(base, of, 4), of)
    run(fleet)
    assert isinstance(failed.error, BundleError)
    same(well, alone(base, of, shop(base, of, 4)))


def test_a_start_that_does_not_fit_the_base_leaves_it_to_the_others(bases: dict[str, Base]) -> None:
    base, of = bases["decoder"], recipe()
    fleet = Fleet(base, slots=2, rank=4)
    name = "model.layers.0.self_attn.q_proj"
    with pytest.raises(RuntimeError):
        fleet.add(shop(base, of, 4), of, Start("x", factors={name: (torch.ones(2, 5), torch.ones(5, 2))}))
    assert not any("lora" in name for name, _ in base.model.named_modules())
    well = fleet.add(shop(base, of, 4), of)
    run(fleet)
    same(well, alone(base, of, shop(base, of, 4)))


def test_an_idle_slots_bits_never_change(bases: dict[str, Base]) -> None:
    base, of = bases["decoder"], recipe(epochs=4)
    fleet = Fleet(base, slots=3, rank=4)
    short, long = fleet.add(shop(base, of, 2), of), fleet.add(shop(base, of, 12), of)
    while short not in fleet.step():
        pass
    idle = fleet._stack.numbers(short.slot).clone()
    while long not in fleet.step():
        assert torch.equal(fleet._stack.numbers(short.slot), idle)
        assert not fleet._stack.numbers(0).any()


def test_the_base_is_bare_between_steps(bases: dict[str, Base]) -> None:
    base, of = bases["decoder"], recipe()
    ids = torch.arange(8)[None]
    with torch.no_grad():
        before = base.model(ids).logits
        fleet = Fleet(base, slots=2, rank=4)
        training = fleet.add(shop(base, of, 4), of)
    while fleet.busy:
        fleet.step()
        with torch.no_grad():
            assert torch.equal(base.model(ids).logits, before)
    training.put_on().adapter.detach()
    with torch.no_grad():
        assert torch.equal(base.model(ids).logits, before)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"adapter": {"method": "adalora"}}, "adapter.method is adalora"),
        ({"adapter": {"method": "prefix"}}, "adapter.method is prefix"),
        ({"adapter": {"dora": True}}, "adapter.dora is true"),
        ({"adapter": {"dropout": 0.1}}, "adapter.dropout is 0.1"),
        ({"adapter": {"rank": 8}}, "adapter.rank is 8"),
        ({"tune": {"lr_ratio": 4}}, "tune.lr_ratio is 4"),
        ({"tune": {"adversarial": 0.1}}, "tune.adversarial is 0.1"),
        ({"tune": {"contrastive": 0.1}}, "tune.contrastive is 0.1"),
        ({"tune": {"gradient_checkpointing": True}}, "tune.gradient_checkpointing is true"),
        ({"tune": {"optimizer": "adamw-8bit"}}, "tune.optimizer is adamw-8bit"),
        ({"tune": {"mixed_precision": "bf16"}}, "tune.mixed_precision is bf16"),
    ],
)
def test_what_a_fleet_does_not_train_is_refused(bases: dict[str, Base], change: dict[str, Any], named: str) -> None:
    base = bases["decoder"]
    raw = recipe().model_dump(by_alias=True, exclude_unset=True)
    changed = Recipe.model_validate(raw | {key: raw.get(key, {}) | value for key, value in change.items()})
    with pytest.raises(RecipeError, match=named) as refused:
        Fleet(base, slots=1, rank=4).add(shop(base, changed, 4), changed)
    assert "adapter" in (refused.value.next_step or "")
