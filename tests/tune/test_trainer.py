"""Training, on a tiny base: it learns, stops, repeats itself bitwise, and leaves the base alone."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from shopfit.adapter.head import Head
from shopfit.adapter.initial_weights import Start
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.errors import Diverged, RecipeError
from shopfit.evaluation.report import CurvePoint
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example
from shopfit.recipe.schema import Recipe
from shopfit.tasks import ChoosePredictions, task_of
from shopfit.tune.trainer import Trainer, Tuned, held_out_answers, make_accelerator
from shopfit.tune.training_dataset import TrainingDataset, TrainingSet
from shopfit.tune.training_loop import total_steps

GOOD, BAD = (
    ["lovely crema", "would buy again", "quick delivery"],
    ["arrived cracked", "the box was wet", "broken grinder"],
)
ITEMS = Catalog(
    {
        name: Item(name, name.title(), {"id": name, "title": name.title()})
        for name in ("tent", "bag", "stove", "boots", "lamp")
    }
)
WORDS = {
    "tent": "sleep outside",
    "bag": "keep warm",
    "stove": "cook dinner",
    "boots": "walk far",
    "lamp": "see at night",
}


def recipe(task: str = "choose", method: str = "lora", **tune: object) -> Recipe:
    metric = {"choose": "accuracy", "rank": "mrr", "generate": "exact_match"}[task]
    template = {
        "choose": "Review: {text}\nSentiment:",
        "rank": "Search: {query}\nProduct:",
        "generate": "Say: {input}\n",
    }[task]
    return Recipe.model_validate(
        {
            "name": "r",
            "task": task,
            "data": {"file": "x.jsonl"} | ({"catalog": "c.jsonl"} if task == "rank" else {}),
            "prompt": {"template": template},
            "adapter": {"method": method, "rank": 4},
            "tune": {"lr": 0.02, "epochs": 6, "batch_size": 4} | tune,
            "evaluate": {"metric": metric},
            "serve": {"max_new_tokens": 8},
        }
    )


def reviews(count: int) -> list[Example]:
    texts = [
        (text, label)
        for pair in zip(GOOD, BAD, strict=True)
        for text, label in zip(pair, ("positive", "negative"), strict=True)
    ]
    return [Example(str(row), {"text": f"{texts[row % 6][0]} {row}"}, label=texts[row % 6][1]) for row in range(count)]


def searches(count: int) -> list[Example]:
    names = list(ITEMS)
    return [
        Example(str(row), {"query": f"{WORDS[names[row % 5]]} {row}"}, relevant=(names[row % 5],))
        for row in range(count)
    ]


def run(
    base: Base, recipe: Recipe, train: Sequence[Example], valid: Sequence[Example] = (), callback: object = None
) -> Tuned:
    catalog = ITEMS if recipe.task == "rank" else None
    labels = ("negative", "positive") if recipe.task == "choose" else ()
    prompter = Prompter(recipe, base.tokenizer, catalog, scorer=base.scorer)
    return Trainer(base, make_accelerator(recipe), callback).fit(TrainingSet(train, valid, labels, prompter), recipe)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["lora", "adalora", "prefix"])
@pytest.mark.parametrize("task", ["choose", "rank", "generate"])
def test_every_method_learns_every_task(base: Base, task: str, method: str) -> None:
    examples = {
        "choose": reviews(12),
        "rank": searches(10),
        "generate": [Example(str(row), {"input": WORDS[name]}, output=name) for row, name in enumerate(ITEMS)],
    }[task]
    tuned = run(base, recipe(task, method, epochs=12), examples)
    tuned.adapter.detach()
    assert tuned.curve[-1].train_loss < 0.8 * tuned.curve[0].train_loss
    assert tuned.steps == total_steps(recipe(task, method, epochs=12), len(examples))


@pytest.mark.parametrize("method", ["lora", "adalora", "prefix"])
def test_same_seed_bitwise_the_same_adapter(base: Base, method: str) -> None:
    states = []
    for _ in range(2):
        tuned = run(base, recipe("rank", method, epochs=2), searches(24), searches(5))
        states.append(tuned.adapter.state())
        tuned.adapter.detach()
        torch.rand(7)  # what happened before must not matter
    assert all(torch.equal(one, two) for one, two in zip(*states, strict=True))


def test_another_seed_another_adapter(base: Base) -> None:
    states = []
    for seed in (1, 2):
        tuned = run(base, recipe(seed=seed, epochs=1), reviews(8))
        states.append(tuned.adapter.state())
        tuned.adapter.detach()
    assert not all(torch.equal(one, two) for one, two in zip(*states, strict=True))


def test_stops_early_and_puts_the_best_weights_back(base: Base) -> None:
    tuned = run(base, recipe(epochs=30, patience=2), reviews(20), reviews(6))
    tuned.adapter.detach()
    assert tuned.stopped_early
    assert len(tuned.curve) == tuned.best_epoch + 2
    best = tuned.curve[tuned.best_epoch - 1].valid
    assert best == max(point.valid for point in tuned.curve if point.valid is not None)


def test_weights_stop_a_part_of_the_way(base: Base) -> None:
    ways = []
    for share in (1.0, 0.5):
        tuned = run(base, recipe(epochs=3, interpolation=share), reviews(8))
        ways.append([weight for name, weight in tuned.adapter.peft.named_parameters() if "lora_B" in name])
        tuned.adapter.detach()
    for whole, half in zip(*ways, strict=True):  # LoRA's B starts at 0
        torch.testing.assert_close(half, whole / 2)


def test_ranking_on_an_encoder_stays_near_to_it(base: Base, encoder: Base) -> None:
    def rows(on: Base, task: str, **tune: object) -> list[torch.Tensor]:
        examples = searches(10) if task == "rank" else reviews(8)
        tuned = run(on, recipe(task, **tune), examples)
        tuned.adapter.detach()
        return [weight for name, weight in tuned.adapter.peft.named_parameters() if "lora_B" in name]

    for on, task, share in ((encoder, "rank", 0.75), (encoder, "choose", 1.0), (base, "rank", 1.0)):
        whole = rows(on, task, epochs=2, interpolation=1.0)
        for one, other in zip(rows(on, task, epochs=2), whole, strict=True):
            torch.testing.assert_close(one, share * other)


def test_held_out_answers_are_those_of_the_weights_that_are_kept(base: Base) -> None:
    asked = recipe(epochs=4, interpolation=0.5)
    valid = reviews(6)
    tuned = run(base, asked, reviews(20), valid)
    training_set = TrainingSet(valid, valid, ("negative", "positive"), Prompter(asked, base.tokenizer))
    again = held_out_answers(tuned.adapter, base, asked, training_set, make_accelerator(asked))
    tuned.adapter.detach()
    assert isinstance(again, ChoosePredictions)
    assert isinstance(tuned.held_out[0], ChoosePredictions)
    np.testing.assert_array_equal(again.probabilities, tuned.held_out[0].probabilities)


def test_without_held_out_examples_the_schedule_is_fixed(base: Base) -> None:
    tuned = run(base, recipe(epochs=5, patience=1), reviews(6))
    tuned.adapter.detach()
    assert not tuned.stopped_early
    assert [point.valid for point in tuned.curve] == [None] * 5
    assert tuned.best_epoch == 5


def test_adalora_can_be_trained_in_one_step(base: Base) -> None:
    tuned = run(base, recipe("choose", "adalora", epochs=1), reviews(4))
    assert tuned.steps == 1
    values = [weight for name, weight in tuned.adapter.peft.named_parameters() if "lora_E" in name]
    kept = sum(int((value != 0).sum()) for value in values)
    tuned.adapter.detach()
    assert kept == 4 * len(values)  # `rank` a layer, on average


def test_adalora_does_not_stop_before_its_ranks_are_in_budget(base: Base) -> None:
    tuned = run(base, recipe("choose", "adalora", epochs=9, patience=1), reviews(20), reviews(6))
    assert tuned.adapter.settled(tuned.steps)
    kept = [int((weight != 0).sum()) for name, weight in tuned.adapter.peft.named_parameters() if "lora_E" in name]
    tuned.adapter.detach()
    assert sum(kept) <= 4 * len(kept)


def test_the_base_is_bitwise_as_before(base: Base) -> None:
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    run(base, recipe(epochs=2), reviews(6)).adapter.detach()
    after = base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "adamw-8bit"},
        {"optimizer": "paged-adamw-8bit"},
        {"mixed_precision": "bf16"},
        {"gradient_checkpointing": True},
    ],
)
def test_ways_to_save_memory_learn_too(base: Base, change: dict[str, object]) -> None:
    tuned = run(base, recipe(epochs=10, **change), reviews(12))
    tuned.adapter.detach()
    assert tuned.curve[-1].train_loss < 0.8 * tuned.curve[0].train_loss


def test_accumulated_batches_are_one_step(base: Base) -> None:
    tuned = run(base, recipe(epochs=3, batch_size=2, accumulate=3), reviews(12))
    tuned.adapter.detach()
    assert tuned.steps == total_steps(recipe(epochs=3, batch_size=2, accumulate=3), 12) == 6


def test_what_means_something_else_in_parts_is_refused(encoder: Base) -> None:
    asked = recipe("rank", adversarial=0.5, batch_size=2, accumulate=2)
    with pytest.raises(RecipeError, match=r"(?s)tune\.adversarial moves an item once .*tune\.accumulate 2"):
        run(encoder, asked, searches(5))
    run(encoder, recipe("rank", adversarial=0.5, epochs=1), searches(5)).adapter.detach()


def test_the_watch_sees_every_step_and_epoch(base: Base) -> None:
    class Notes:
        def __init__(self) -> None:
            self.steps: list[int] = []
            self.epochs: list[int] = []
            self.expected = 0

        def begin(self, steps: int) -> None:
            self.expected = steps

        def step(self, step: int, loss: float) -> None:
            assert loss >= 0
            self.steps.append(step)

        def epoch(self, point: CurvePoint) -> None:
            self.epochs.append(point.epoch)

    notes = Notes()
    run(base, recipe(epochs=2), reviews(8), callback=notes).adapter.detach()
    assert notes.steps == list(range(1, notes.expected + 1)) == [1, 2, 3, 4]
    assert notes.epochs == [1, 2]


def test_weights_of_examples_count(base: Base) -> None:
    """An example of weight near zero teaches next to nothing."""
    lone = [
        Example("0", {"text": "lovely"}, label="positive"),
        Example("1", {"text": "broken"}, label="negative", weight=1e-9),
    ]
    tuned = run(base, recipe(epochs=8, batch_size=2), lone)
    tuned.adapter.detach()
    assert tuned.curve[-1].train_loss < 0.05


@pytest.mark.parametrize("task", ["choose", "generate"])
def test_a_batch_of_light_examples_counts_for_less(base: Base, task: str) -> None:
    """Weights are shares of all examples: who else is in the batch does not matter."""
    rows = [
        Example("0", {"text": "lovely", "input": "lovely"}, label="positive", output="yes", weight=3.0),
        Example("1", {"text": "broken", "input": "broken"}, label="negative", output="no"),
    ]
    asked, labels = recipe(task), ["negative", "positive"] if task == "choose" else []
    dataset = TrainingDataset(rows, Prompter(asked, base.tokenizer), labels, asked.tune)
    losses = []
    for place in range(2):
        batch = dataset.collate([dataset[place]])
        sums = torch.full((len(batch.gold),), -1.0) * batch.questions.lengths
        losses.append(float(task_of(asked.task).loss(sums, batch, 1.0)))
    assert losses[0] == pytest.approx(3 * losses[1])
    even = [Example(row.id, row.fields, label=row.label, output=row.output, weight=7.0) for row in rows]
    assert TrainingDataset(even, dataset.prompter, labels, asked.tune)[0][2] == 1.0


@pytest.mark.parametrize("method", ["lora", "adalora", "prefix"])
def test_numbers_that_are_not_finite_end_a_training_with_its_step_and_examples(base: Base, method: str) -> None:
    wild = recipe(method=method, lr=1.0, epochs=200, warmup=0.0, clip=1e30)
    wild = wild.model_copy(update={"adapter": wild.adapter.model_copy(update={"alpha": 1e30})})
    before = next(base.model.parameters()).clone()
    if method == "prefix":
        with torch.no_grad():
            next(base.model.parameters()).fill_(float("nan"))
    with pytest.raises(Diverged, match=r"of step \d+ is not finite, on the examples \d+, \d+, \d+, \d+\n") as told:
        run(base, wild, reviews(12))
    assert "lower tune.lr" in str(told.value)
    with torch.no_grad():
        next(base.model.parameters()).copy_(before)
    assert run(base, recipe(), reviews(12)).steps > 0, "the base is free for others"


@pytest.mark.parametrize("start", [Start(), Start(kept=True)], ids=["trained", "as it is"])
@pytest.mark.parametrize("read", ["texts to learn", "texts held out"])
def test_a_forward_that_fails_leaves_the_base_bare_and_free(encoder: Base, start: Start, read: str) -> None:
    def refuse(_module: object, inputs: tuple[torch.Tensor, ...]) -> None:  # as where there is no memory for it
        if any("hungry" in text for text in encoder.tokenizer.batch_decode(inputs[0])):
            raise RuntimeError("out of memory")

    hungry = [Example("h", {"text": "hungry"}, label="positive")]
    train, valid = (hungry, []) if read == "texts to learn" else (reviews(4), hungry)
    hook = encoder.model.get_input_embeddings().register_forward_pre_hook(refuse)
    prompter = Prompter(recipe(), encoder.tokenizer, scorer=encoder.scorer)
    training_set = TrainingSet(train, valid, ("negative", "positive"), prompter)
    try:
        with pytest.raises(RuntimeError, match="out of memory"):
            Trainer(encoder, make_accelerator(recipe())).fit(training_set, recipe(), start)
    finally:
        hook.remove()
    assert not any("lora" in name for name, _ in encoder.model.named_modules())
    assert run(encoder, recipe(epochs=1), reviews(4)).steps == 1, "the base is free for others"


@pytest.mark.parametrize("biases", [None, torch.tensor([0.1, 0.2, 0.3])], ids=["cosines", "discriminant"])
def test_a_start_that_is_kept_keeps_its_head_in_its_own_language(encoder: Base, biases: torch.Tensor | None) -> None:
    """The few examples of a shop do not make another in place of other shops' many."""
    width = encoder.model.config.hidden_size
    rows = torch.nn.functional.normalize(torch.randn(3, width, generator=torch.Generator().manual_seed(0)), dim=-1)
    prompter = Prompter(recipe(), encoder.tokenizer, scorer=encoder.scorer)
    shop = TrainingSet(reviews(6), [], ("negative", "positive"), prompter)

    def head(labels: tuple[str, ...], language: str) -> Head:
        start = Start("house/reviews@1", head=Head(labels, rows, biases), languages=frozenset({"en", "de"}))
        tuned = Trainer(encoder, make_accelerator(recipe())).fit(shop, recipe(), start.as_it_is(language))
        tuned.adapter.detach()
        assert tuned.adapter.head is not None
        assert tuned.adapter.head.labels == ("negative", "positive")
        return tuned.adapter.head

    for language in ("en", "en-GB", "de"):
        kept = head(("positive", "meh", "negative"), language)
        assert torch.equal(kept.prototypes.cpu(), rows[[2, 0]])
        assert (kept.biases is None) == (biases is None)
        assert biases is None or (kept.biases is not None and torch.equal(kept.biases.cpu(), biases[[2, 0]]))
    for labels, language in ((("positive", "meh", "negative"), "zh"), (("positive", "meh", "bad"), "en")):
        made = head(labels, language)
        assert made.biases is not None, "in another language, or without a label, it is made anew in closed form"
        assert not torch.equal(made.prototypes.cpu(), rows[[2, 0]])
