"""What comes on top of the task's loss: label smoothing, the adversarial pass, the contrastive term."""

import math
from typing import Any

import pytest
import torch
from tests.engine.gate import gated
from torch.nn.functional import cross_entropy

from shopfit.adapter.trainable import TrainableAdapter, attach
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.base.scoring.questions import Question
from shopfit.merchant.examples import Example
from shopfit.recipe.adapter_section import Adapter
from shopfit.recipe.schema import Recipe, Tune
from shopfit.tasks import task_of
from shopfit.tune.adversarial import Push
from shopfit.tune.contrastive import contrastive_loss
from shopfit.tune.objectives import Objective
from shopfit.tune.trainer import Trainer, Tuned, make_accelerator
from shopfit.tune.training_dataset import BalancedTrainingDataset, Batch, TrainingDataset, TrainingSet

LABELS = ("negative", "positive", "neither")
TEXTS = [
    ("lovely crema", "positive"),
    ("arrived cracked", "negative"),
    ("would buy again", "positive"),
    ("hm", "neither"),
]
ROWS = [Example(str(row), {"text": f"{text} {row}"}, label=label) for row, (text, label) in enumerate(TEXTS * 2)]


def recipe(augment: list[dict[str, Any]] | None = None, method: str = "lora", **tune: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "r",
            "task": "choose",
            "data": {"file": "x.jsonl", "augment": augment or []},
            "prompt": {"template": "Review: {text}\nSentiment:"},
            "adapter": {"method": method, "rank": 4},
            "tune": {"lr": 0.02, "epochs": 2, "batch_size": 4} | tune,
            "evaluate": {"metric": "accuracy"},
        }
    )


def batch_of(base: Base, rows: list[Example] = ROWS) -> Batch:
    asked = recipe()
    dataset = TrainingDataset(rows, Prompter(asked, base.tokenizer), LABELS, asked.tune)
    return dataset.collate([dataset[number] for number in range(len(rows))])


def attached(base: Base) -> TrainableAdapter:
    torch.manual_seed(0)
    adapter = attach(base, Adapter(rank=4), total_steps=4, opening=(5,))
    adapter.peft.train()
    return adapter


def run(base: Base, asked: Recipe) -> tuple[Tuned, list[torch.Tensor]]:
    tuned = Trainer(base, make_accelerator(asked)).fit(
        TrainingSet(ROWS, [], LABELS, Prompter(asked, base.tokenizer)), asked
    )
    state = tuned.adapter.state()
    tuned.adapter.detach()
    return tuned, state


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 0.9])
def test_label_smoothing_is_that_of_torch(base: Base, smoothing: float) -> None:
    batch = batch_of(base)
    sums = -torch.rand(len(ROWS) * len(LABELS)) * 9
    scores = (sums / batch.questions.lengths / 0.2).view(len(ROWS), len(LABELS))
    gold = torch.tensor([LABELS.index(str(row.label)) for row in ROWS])
    wanted, asked = cross_entropy(scores, gold, label_smoothing=smoothing), recipe(label_smoothing=smoothing).tune
    assert torch.allclose(task_of("choose").loss(sums, batch, 0.2, asked), wanted)


def test_the_push_has_the_wanted_size_and_leaves_the_embedding_alone(base: Base) -> None:
    adapter, batch = attached(base), batch_of(base)
    embedding = adapter.model.get_input_embeddings()
    before = embedding.weight.clone()
    push = Push(embedding, epsilon=2.0)

    def states() -> torch.Tensor:
        hidden: torch.Tensor = adapter.model.base_model(input_ids=batch.questions.input_ids).last_hidden_state
        return hidden

    with push.watched():
        plain = states()
    plain.square().sum().backward()
    [moved] = push.pushes()  # (B, T, D)
    wanted = 2.0 * float(before.std())
    assert torch.allclose(moved.flatten(1).norm(dim=1), torch.full((len(ROWS),), wanted))
    with push.applied():
        pushed = states()
    assert not torch.allclose(pushed, plain)
    assert torch.equal(states(), plain)  # neither weights nor hooks are left
    assert torch.equal(embedding.weight, before)
    assert embedding.weight.grad is None
    with pytest.raises(RuntimeError, match="run a watched forward"):
        push.pushes()
    adapter.detach()


def test_the_push_raises_the_loss_more_than_a_random_one(base: Base) -> None:
    adapter, batch = attached(base), batch_of(base)
    objective = Objective(adapter, "choose", Tune(adversarial=0.5))
    loss, _ = objective(batch)
    loss.backward()
    pushed, _ = objective(batch, pushed=True)
    embedding = adapter.model.get_input_embeddings()
    size = 0.5 * float(embedding.weight.std())

    def disturb(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        noise = torch.randn_like(output)
        return output + size * noise / noise.flatten(1).norm(dim=1)[:, None, None]

    hook = embedding.register_forward_hook(disturb)
    with torch.no_grad():
        random = [Objective(adapter, "choose", Tune())(batch)[0].item() for _ in range(5)]
    hook.remove()
    assert pushed.item() > loss.item()
    assert pushed.item() > max(random)
    adapter.detach()


def test_contrast_by_hand() -> None:
    # unit vectors at 0, 90 and 0 degrees, scaled; classes 0, 1, 0; the one of class 1 has no partner
    hidden = torch.tensor([[2.0, 0.0], [0.0, 3.0], [5.0, 0.0]])
    loss = contrastive_loss(hidden, torch.tensor([0, 1, 0]), temperature=0.5)
    one = -math.log(math.exp(2) / (math.exp(2) + math.exp(0)))
    assert float(loss) == pytest.approx(one)
    # four in a row, two classes: every similarity is 1, so each example has a third of the sum on its partner
    alike = contrastive_loss(torch.ones(4, 2), torch.tensor([7, 7, 3, 3]), temperature=0.1)
    assert float(alike) == pytest.approx(math.log(3))


def test_contrast_without_partners_is_nothing() -> None:
    for count in (1, 2):
        hidden = torch.randn(count, 3, requires_grad=True)
        contrastive_loss(hidden, torch.arange(count), 0.3).backward()
        assert hidden.grad is not None
        assert not hidden.grad.any()


def test_classes_are_those_of_the_answers_whichever_merchant_asks(base: Base) -> None:
    asked = recipe()
    prompter = Prompter(asked, base.tokenizer)
    one = TrainingSet(ROWS[:4], [], LABELS, prompter)
    other = TrainingSet([Example("9", {"text": "fine"}, label="positive")] * 4, [], ("positive", "negative"), prompter)
    dataset = BalancedTrainingDataset([one, other], asked.tune)
    batch = dataset.collate([dataset[place] for place in range(8)])
    assert batch.classes.tolist() == [0, 1, 0, 3, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("lora", {"label_smoothing": 0.1}),
        ("lora", {"adversarial": 1.0}),
        ("lora", {"contrastive": 0.5}),
        ("adalora", {"adversarial": 1.0}),
        ("prefix", {"adversarial": 1.0, "contrastive": 0.5}),
    ],
    ids=str,
)
def test_each_changes_training_and_repeats_itself_bitwise(base: Base, method: str, change: dict[str, float]) -> None:
    _, plain = run(base, recipe(method=method, epochs=1))
    (_, one), (_, two) = (run(base, recipe(method=method, epochs=1, **change)) for _ in range(2))
    assert all(torch.equal(mine, other) for mine, other in zip(one, two, strict=True))
    assert all(bool(weight.isfinite().all()) for weight in one)
    assert not all(torch.equal(mine, other) for mine, other in zip(one, plain, strict=True))


def test_everything_at_once_learns(base: Base) -> None:
    steps = [{"step": "typos"}, {"step": "word-dropout"}]
    on = {"label_smoothing": 0.1, "adversarial": 0.5, "contrastive": 0.2, "epochs": 12, "accumulate": 2}
    tuned, _ = run(base, recipe(steps, **on))
    assert tuned.curve[-1].train_loss < 0.8 * tuned.curve[0].train_loss
    assert tuned.steps == 12


def test_augmented_prompts_differ_by_epoch_and_not_by_process(base: Base) -> None:
    asked = recipe([{"step": "typos", "chance": 1.0}])

    def epoch(number: int) -> list[tuple[int, ...]]:
        dataset = TrainingDataset(ROWS, Prompter(asked, base.tokenizer), LABELS, asked.tune)
        dataset.epoch = number
        assert [dataset.length(place) for place in range(8)] == [dataset[place][0].tokens for place in range(8)]
        return [dataset[place][0].prompt for place in range(8)]

    assert epoch(1) == epoch(1) != epoch(2)
    plain = TrainingDataset(ROWS, Prompter(recipe(), base.tokenizer), LABELS, asked.tune)
    assert epoch(0) == [plain[place][0].prompt for place in range(8)]


def test_very_many_labels_are_trained_in_many_short_rows(base: Base) -> None:
    """With the loss and the gradients of each label read behind its prompt alone."""
    widest = 1024 + 64  # of answers, and of the prompts here
    labels = tuple(f"label {number} of very many" for number in range(400))
    rows = [Example(str(row), {"text": f"lovely {row}"}, label=labels[place]) for row, place in enumerate((3, 399))]
    asked = recipe()
    dataset = TrainingDataset(rows, Prompter(asked, base.tokenizer), labels, asked.tune)
    asked_of = [dataset[number] for number in range(2)]
    assert all(question.tokens > widest for question, _, _ in asked_of)
    adapter = attached(base)
    adapter.peft.eval()
    objective = Objective(adapter, "choose", Tune())
    with gated(base) as gate:
        together, _ = objective(dataset.collate(asked_of))
    assert max(ids.shape[1] for ids in gate.rows) <= widest
    each = [Question(question.prompt, (answer,)) for question, _, _ in asked_of for answer in question.answers]
    batch = base.scorer.collate(each)
    scores = batch.forward(adapter.model) / batch.lengths / asked.tune.temperature
    alone = cross_entropy(scores.view(2, len(labels)), torch.tensor([3, 399]))
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    mine, wanted = (torch.autograd.grad(loss, list(adapter.parameters())) for loss in (together, alone))
    for one, other in zip(mine, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    adapter.detach()
