"""What a decoder can be without training: itself without its bias, or behind the labelled examples."""

import json
from collections.abc import Sequence
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import save_base
from tests.tune.reviews import LABELS, reviews
from tests.tune.reviews import RECIPE as WHOLE

from shopfit.adapter.adapted_model import AdaptedModel, answer_sums
from shopfit.adapter.bundle import DataIdentity, seal
from shopfit.adapter.initial_weights import Start, recipe_for
from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter
from shopfit.base.scoring.architectures import scorer_of
from shopfit.base.scoring.questions import Question
from shopfit.engine import ChooseRequest, Engine, Tenant
from shopfit.engine.offline_scoring import score
from shopfit.merchant.examples import Example
from shopfit.merchant.merchant import Merchant
from shopfit.onboarding import onboard
from shopfit.recipe.loading import dump_recipe, parse_recipe
from shopfit.recipe.schema import Recipe
from shopfit.settings import Settings
from shopfit.tasks import ChoosePredictions, task_of
from shopfit.tune.bundle_writer import save
from shopfit.tune.trainer import Trainer, Tuned, held_out_answers, make_accelerator
from shopfit.tune.training_dataset import TrainingSet
from shopfit.warm_start.selection import Candidate, choose_start
from shopfit.warm_start.untrained import CALIBRATED, CONTEXT, untrained_start, untrained_starts

RECIPE = WHOLE.model_copy(update={"prompt": WHOLE.prompt.model_copy(update={"max_tokens": 64})})
ASKED = reviews(6, seed=9)


def training_set(base: Base, rows: Sequence[Example], valid: Sequence[Example] = ()) -> TrainingSet:
    return TrainingSet(rows, valid, LABELS, Prompter(RECIPE, base.tokenizer))


def kept(base: Base, start: Start, shop: TrainingSet, recipe: Recipe = RECIPE) -> Tuned:
    return Trainer(base, make_accelerator(recipe)).fit(shop, recipe, start=start)


def said(base: Base, start: Start, shop: TrainingSet, rows: Sequence[Example] = ASKED) -> np.ndarray:
    """The labels' probabilities for the questions of some rows."""
    tuned = kept(base, start, shop)
    try:
        asked = TrainingSet(shop.train, rows, LABELS, shop.prompter)
        answers = held_out_answers(tuned.adapter, base, RECIPE, asked, make_accelerator(RECIPE))
    finally:
        tuned.adapter.detach()
    assert isinstance(answers, ChoosePredictions)
    return answers.probabilities


def read(base: Base, shop: TrainingSet, before: Sequence[Example]) -> np.ndarray:
    """The same, where the examples stand as text before each question."""
    prompter = shop.prompter
    between = prompter.plain.encode("\n\n", special=False)
    shown: list[int] = []
    for row in before:
        shown += (*prompter.encode(row.fields), *prompter.label(str(row.label)), *between)
    answers = tuple(prompter.label(label) for label in LABELS)
    asked = [Question((*shown, *prompter.encode(row.fields)), answers) for row in ASKED]
    scores = np.stack(base.scorer.compute(base.model, asked)) / RECIPE.tune.temperature
    powers = np.exp(scores - scores.max(1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(1, keepdims=True)
    return shares


def test_a_context_answers_as_if_the_examples_stood_before_the_question(base: Base) -> None:
    shop = training_set(base, reviews(3))
    start = untrained_start(CONTEXT, base, RECIPE, shop)
    assert start.prefix is not None
    found = np.log(said(base, start, shop)) + np.array(start.offsets) / RECIPE.tune.temperature
    found -= np.log(np.exp(found).sum(1, keepdims=True))
    pairs = [pair for pair in permutations(shop.train, 2) if pair[0].label != pair[1].label]  # one round of two labels
    assert any(np.allclose(np.log(read(base, shop, pair)), found, atol=1e-3) for pair in pairs)


def test_examples_come_in_whole_rounds_of_labels_and_leave_room_for_a_question(base: Base) -> None:
    lengths = {}
    for count in (2, 3, 4, 7, 8, 60):
        start = untrained_start(CONTEXT, base, RECIPE, training_set(base, reviews(count)))
        assert start.prefix is not None
        lengths[count] = start.prefix.shape[3]
    assert lengths[60] <= (base.max_length - RECIPE.prompt.max_tokens) // 2
    assert lengths[2] < lengths[4] < lengths[8] <= lengths[60]
    odd = training_set(base, [*reviews(2), *reviews(1, seed=4)])
    assert untrained_start(CONTEXT, base, RECIPE, odd).prefix.shape[3] <= lengths[2] + 8  # type: ignore[union-attr]


def test_it_sees_nothing_that_is_held_out(base: Base) -> None:
    one, other = (training_set(base, reviews(6), valid) for valid in ([], reviews(4, seed=5)))
    for name in untrained_starts(base, RECIPE):
        with_none, with_some = (untrained_start(name, base, RECIPE, shop) for shop in (one, other))
        assert with_none.offsets == with_some.offsets
        prefixes = [start.prefix for start in (with_none, with_some) if start.prefix is not None]
        assert len(prefixes) == (2 if name == CONTEXT else 0)
        assert not prefixes or prefixes[0].equal(prefixes[1])


@pytest.fixture
def leaning(base: Base, tmp_path: Path, home: Path) -> Base:
    """A base that tells good reviews from bad ones, and leans to one label: nine in ten that it saw had that one."""
    rows = [row for row in reviews(200, seed=5) if row.label == LABELS[1]][:90]
    rows += [row for row in reviews(40, seed=6) if row.label == LABELS[0]][:10]
    recipe = RECIPE.model_copy(update={"tune": RECIPE.tune.model_copy(update={"epochs": 1, "lr": 0.003})})
    tuned = Trainer(base, make_accelerator(recipe)).fit(training_set(base, rows), recipe)
    tuned.adapter.peft.merge_and_unload()
    folder = save_base(tmp_path / "leaning", base.model, base.tokenizer)
    tuned.adapter.detach()
    return load_base(str(folder), home)


def test_the_start_is_what_held_out_examples_favour(leaning: Base) -> None:
    shop, rows = training_set(leaning, reviews(12, seed=8)), reviews(40, seed=7)
    among = [Candidate.of(Start(kept=True), from_others=False)]
    among += [
        Candidate(name, partial(untrained_start, name, leaning, RECIPE), kept=True, from_others=False)
        for name in untrained_starts(leaning, RECIPE)
    ]
    choice = choose_start(Trainer(leaning, make_accelerator(RECIPE)), RECIPE, shop, among)
    losses = choice.losses
    assert choice.start.name == CALIBRATED
    assert losses[CALIBRATED] < losses["scratch as it is"] < losses[CONTEXT]  # this base never saw two reviews in a row
    gold = [LABELS.index(str(row.label)) for row in rows]
    before, after = (said(leaning, start, shop, rows) for start in (Start(kept=True), choice.start))
    assert np.log(before[range(len(rows)), gold]).mean() < np.log(after[range(len(rows)), gold]).mean()


def test_a_run_without_a_step_makes_a_version_of_it_and_another_from_that(
    leaning: Base, tmp_path: Path, settings: Settings
) -> None:
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "merchant.yaml").write_text("name: acme\n")
    for name, rows in (("reviews", reviews(12, seed=8)), ("reviews.test", reviews(40, seed=7))):
        lines = [json.dumps({"text": row.fields["text"], "label": row.label}) + "\n" for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    data = RECIPE.data.model_copy(update={"file": "reviews.jsonl", "near_duplicate": 1.0})
    tune = RECIPE.tune.model_copy(update={"steps": 0})
    recipe = RECIPE.model_copy(update={"base": str(leaning.folder), "data": data, "tune": tune, "blend": False})
    done = onboard(Merchant.open(folder), recipe, settings=settings, actor="test")
    assert done is not None
    manifest = done.bundle.manifest
    assert (manifest.start, manifest.steps, len(manifest.offsets)) == (CALIBRATED, 0, len(LABELS))
    losses = {row.kind: row.metrics["log_loss"].value for row in done.report.systems}
    assert losses["adapter"] < losses["base"]
    again = onboard(
        Merchant.open(folder),
        recipe.model_copy(update={"start": done.version.name}),
        settings=settings,
        actor="test",
    )
    assert again is not None
    assert again.bundle.manifest.offsets == manifest.offsets
    assert again.report.adapter.metrics["log_loss"].value == losses["adapter"]


def test_a_bundle_of_it_is_served_with_the_same_probabilities(base: Base, tmp_path: Path) -> None:
    shop = training_set(base, reviews(12))
    for name in untrained_starts(base, RECIPE):
        start = untrained_start(name, base, RECIPE, shop)
        want = said(base, start, shop)
        tune = RECIPE.tune.model_copy(update={"steps": 0})
        recipe = recipe_for(RECIPE.model_copy(update={"tune": tune}), start)
        tuned = kept(base, start, shop, recipe)
        (folder := tmp_path / name).mkdir()
        data = DataIdentity(digest="0" * 64, train=[], valid=[], test=[])
        written = save(
            tuned, base, recipe, folder, merchant="acme", labels=LABELS, data=data, share=False, start=start.name
        )
        tenant = Tenant.of(seal(folder, written))
        assert (written.method, written.steps) == ("prefix" if name == CONTEXT else "lora", 0)
        with Engine(base) as engine:
            answers = engine.answer([ChooseRequest(tenant, row.fields) for row in ASKED])
        assert np.allclose([answer.raw(LABELS, ()) for answer in answers], want, atol=1e-5)


OTHERS = {
    "generate": (
        {"prompt": {"template": "Shopper: {text}\nProfile:", "max_tokens": 64}, "evaluate": {"metric": "exact_match"}},
        [{"output": f"likes item {number}"} for number in range(4)],
    ),
    "rank": (
        {"prompt": {"template": "Search: {text}\nProduct:", "max_tokens": 64}, "evaluate": {"metric": "mrr"}},
        [
            {"relevant": (f"tent {number}",), "candidates": ("tent 0", "tent 1", "tent 2", "tent 3")}
            for number in range(4)
        ],
    ),
    "rate": (
        {
            "prompt": {"template": "Review: {text}\nStars:", "max_tokens": 64},
            "data": {"file": "x.jsonl", "bounds": [1, 5]},
            "evaluate": {"metric": "rmse"},
        },
        [{"score": float(number)} for number in (1, 2.2, 4.9, 5)],
    ),
}
"""Of each other task: what its recipe has, and the answers of four examples."""


@pytest.mark.parametrize("task", OTHERS)
def test_a_context_is_what_the_base_reads_before_a_question_whatever_is_asked(base: Base, task: str) -> None:
    sections, answers = OTHERS[task]
    recipe = Recipe.model_validate({"name": "r", "task": task, "data": {"file": "x.jsonl"}} | sections)
    rows = [Example(f"{place}", {"text": f"order {place}"}, **answer) for place, answer in enumerate(answers)]
    prompter, names = Prompter(recipe, base.tokenizer), task_of(recipe.task).labels(recipe, rows)
    shop = TrainingSet(rows, [], names, prompter)
    assert untrained_starts(base, recipe) == [CONTEXT]
    start = untrained_start(CONTEXT, base, recipe, shop)
    assert (start.name, start.kept, start.offsets) == (CONTEXT, True, ())
    assert start.prefix is not None
    right = {
        "generate": lambda row: prompter.output(row.output),
        "rank": lambda row: prompter.item(row.relevant[0]),
        "rate": lambda row: prompter.label(min(names, key=lambda name: abs(float(name) - row.score))),
    }[task]
    between = prompter.plain.encode("\n\n", special=False)
    shown = [(*prompter.encode(row.fields), *right(row), *between) for row in rows]
    asked, answer = prompter.encode({"text": "order 9"}), right(rows[2])
    tuned = kept(base, start, shop, recipe)
    try:
        behind = ask_one(tuned.adapter, asked, answer)
    finally:
        tuned.adapter.detach()
    texts = [
        [token for row in order for token in row] for count in (1, 2, 3, 4) for order in permutations(shown, count)
    ]
    before = [text for text in texts if len(text) == start.prefix.shape[3]]
    found = [base.scorer.compute(base.model, [Question((*text, *asked), (answer,))])[0][0] for text in before]
    assert any(np.isclose(behind, one, atol=1e-4) for one in found)


def ask_one(adapted: AdaptedModel, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """The mean log-probability of an answer's tokens."""
    batch = scorer_of("decoder", 0).collate([Question(tuple(prompt), (tuple(answer),))])
    with torch.inference_mode():
        return float(answer_sums(adapted, batch)[0] / batch.lengths[0])


def test_a_context_too_long_for_any_example_is_the_base_as_it_is(base: Base) -> None:
    recipe = Recipe.model_validate(
        {"name": "r", "task": "generate", "data": {"file": "x.jsonl"}} | OTHERS["generate"][0]
    )
    long = Example("0", {"text": "order 1"}, output="likes " + "tents and " * 500)
    start = untrained_start(CONTEXT, base, recipe, TrainingSet([long], [], (), Prompter(recipe, base.tokenizer)))
    assert (start.scratch, start.kept, start.name) == (True, True, "scratch")


def test_rows_behind_a_long_prefix_share_forwards_of_bounded_memory(base: Base, tmp_path: Path) -> None:
    shop, budget = training_set(base, reviews(60)), 256
    start = untrained_start(CONTEXT, base, RECIPE, shop)
    assert start.prefix is not None
    behind = start.prefix.shape[3]
    recipe = recipe_for(RECIPE.model_copy(update={"tune": RECIPE.tune.model_copy(update={"steps": 0})}), start)
    tuned = kept(base, start, shop, recipe)
    read: list[torch.Size] = []
    hook = base.model.get_input_embeddings().register_forward_hook(lambda _, args, __: read.append(args[0].shape))
    questions = [Question(shop.prompter.encode(row.fields), (shop.prompter.label(LABELS[0]),)) for row in ASKED]
    try:
        score(tuned.adapter, base.scorer, questions, token_budget=budget)
        alone = len(read)
        data = DataIdentity(digest="0" * 64, train=[], valid=[], test=[])
        (tmp_path / "x").mkdir()
        written = save(
            tuned, base, recipe, tmp_path / "x", merchant="acme", labels=LABELS, data=data, share=False, start="context"
        )
        tenant = Tenant.of(seal(tmp_path / "x", written))
        with Engine(base, batch_tokens=budget) as engine:
            engine.answer([ChooseRequest(tenant, row.fields) for row in ASKED])
    finally:
        hook.remove()
    assert len(read) > alone > 1
    assert all(rows == 1 or rows * (width + behind // 2) <= budget + rows for rows, width in read if width > 8)


def test_the_recipe_of_a_context_is_one_that_can_be_read_again(base: Base) -> None:
    start = untrained_start(CONTEXT, base, RECIPE, training_set(base, reviews(12)))
    tune = RECIPE.tune.model_copy(update={"lr_ratio": 4.0, "steps": 0})
    settled = recipe_for(RECIPE.model_copy(update={"tune": tune}), start)
    assert parse_recipe(dump_recipe(settled)) == settled
    assert settled.adapter.method == "prefix"


def test_only_a_decoder_has_any(base: Base, encoder: Base) -> None:
    assert untrained_starts(base, RECIPE) == [CALIBRATED, CONTEXT]
    assert untrained_starts(encoder, RECIPE) == []
    long = RECIPE.model_copy(update={"prompt": RECIPE.prompt.model_copy(update={"max_tokens": base.max_length})})
    assert untrained_starts(base, long) == [CALIBRATED]
