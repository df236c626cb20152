"""Tuning against transformers' Trainer with PEFT: the same LoRA, data, batch size, steps, schedule and loss.

Both minimise the mean negative log-likelihood of the answer's tokens. Speed: the Trainer with its own random batches,
on a base as transformers loads it; the two alternate, and the median of the runs is reported. Loss: that mean over all
training rows, measured by one function after training, with the Trainer given our batches, order and schedule, so that
any difference would be one of arithmetic.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter
from shopfit.base.scoring.causal import CausalScorer
from shopfit.base.scoring.questions import Question
from shopfit.merchant.examples import Example
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.splits import split
from shopfit.recipe.loading import load_recipe, parse_recipe
from shopfit.recipe.schema import Recipe
from shopfit.recipe.shipped import sample_folder
from shopfit.settings import Settings
from shopfit.tasks import task_of
from shopfit.tune.batches import LengthSortedBatches
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import TrainingDataset, TrainingSet
from shopfit.tune.training_loop import learning_rate
from tests.bench.results import Row

ROUNDS, EPOCHS, BATCH, ROWS, LR, SEED = 3, 3, 8, 64, 5e-4, 7

REVIEWS = {
    "name": "reviews-as-text",
    "task": "generate",
    "data": {"file": "reviews.jsonl"},
    "prompt": {"template": "Review: {text}\nSentiment:"},
    "evaluate": {"metric": "exact_match"},
}


def measure() -> list[Row]:
    """The rows of this comparison."""
    torch.set_num_threads(2)
    base = load_base("smollm2-135m", Settings.from_environment().home)
    rows = []
    for what, recipe, examples in (("reviews", *reviews()), ("profiles", *profiles())):
        prompter = Prompter(recipe, base.tokenizer)
        ours, peers = [], []
        for _ in range(ROUNDS):
            ours.append(tuned(base, recipe, examples, prompter))
            peers.append(_trainer(base, examples, prompter))
        speed, peer_speed = (statistics.median(rate for rate, _ in runs) for runs in (ours, peers))
        loss = ours[0][1]
        _, peer_loss = _trainer(base, examples, prompter, batches=_batches(examples, prompter))
        ratio = speed / peer_speed
        rows.append(
            Row(f"tuning, {what}: examples a second", speed, peer_speed, "1/s", "at least 1.5x", ratio >= 1.5, ratio)
        )
        ratio = loss / peer_loss
        met = abs(ratio - 1) <= 0.02
        rows.append(
            Row(f"tuning, {what}: final loss, same batches", loss, peer_loss, "nats/token", "within 2%", met, ratio)
        )
    return rows


def reviews() -> tuple[Recipe, list[Example]]:
    """Reviews of a sample merchant, whose label is text."""
    loaded = load_recipe("review-sentiment", overrides=[f"data.shots={ROWS}", "tune.valid_fraction=0.01"])
    examples = _examples("crema", loaded)
    return _common(parse_recipe(REVIEWS)), [replace(example, output=example.label, label=None) for example in examples]


def profiles() -> tuple[Recipe, list[Example]]:
    """Profiles of a sample merchant's users."""
    loaded = load_recipe("user-profile", overrides=["tune.valid_fraction=0.01"])
    return _common(loaded), _examples("crema", loaded)


def _common(recipe: Recipe) -> Recipe:
    tune_ = recipe.tune.model_copy(update={"epochs": EPOCHS, "batch_size": BATCH, "lr": LR, "seed": SEED})
    return recipe.model_copy(update={"tune": tune_})


def _examples(merchant: str, recipe: Recipe) -> list[Example]:
    folder = sample_folder(merchant)
    assert folder is not None
    shown = Prompter(recipe, None)
    splits = split(
        Merchant.open(folder),
        recipe,
        text=lambda example: shown.text(example.fields),
        labels=task_of(recipe.task).labels,
        catalog=None,
        history=None,
    )
    return [*splits.train, *splits.valid]


def _loss(model: Any, base: Base, examples: Sequence[Example], prompter: Prompter) -> float:
    """Mean negative log-likelihood of an answer token, over all rows."""
    total = tokens = 0.0
    with torch.inference_mode():
        for example in examples:
            assert example.output is not None
            answer = prompter.output(example.output)
            question = Question(prompter.encode(example.fields), (answer,))
            total -= float(CausalScorer(0).collate([question]).forward(model))
            tokens += len(answer)
    return total / tokens


def tuned(base: Base, recipe: Recipe, examples: list[Example], prompter: Prompter) -> tuple[float, float]:
    """Examples a second of our Trainer, and the loss that it reached."""
    started = time.perf_counter()
    done = Trainer(base, make_accelerator(recipe)).fit(TrainingSet(examples, [], (), prompter), recipe)
    seconds = time.perf_counter() - started
    loss = _loss(done.adapter.model, base, examples, prompter)
    done.adapter.detach()
    return EPOCHS * len(examples) / seconds, loss


class _SameBatches:
    """Our batches, epoch after epoch."""

    def __init__(self, batches: LengthSortedBatches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        self.batches.epoch += 1
        return iter(self.batches)


def _batches(examples: list[Example], prompter: Prompter) -> _SameBatches:
    dataset = TrainingDataset(examples, prompter, (), prompter.recipe.tune)
    return _SameBatches(LengthSortedBatches(len(examples), BATCH, dataset.length, SEED))


def _trainer(
    base: Base, examples: list[Example], prompter: Prompter, batches: _SameBatches | None = None
) -> tuple[float, float]:
    from peft import LoraConfig, get_peft_model
    from torch.utils.data import DataLoader
    from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    started = time.perf_counter()
    torch.manual_seed(SEED)
    rows = []
    for example in examples:
        assert example.output is not None
        prompt, answer = list(prompter.encode(example.fields)), list(prompter.output(example.output))
        rows.append(
            {
                "input_ids": prompt + answer,
                "attention_mask": [1] * len(prompt + answer),
                "labels": [-100] * len(prompt) + answer,
            }
        )
    peft = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear"))
    collate = DataCollatorForSeq2Seq(base.tokenizer)
    options = {}
    if batches is not None:
        steps = EPOCHS * len(batches)
        optimizer = torch.optim.AdamW(
            [weight for weight in peft.parameters() if weight.requires_grad], lr=LR, weight_decay=0.01
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: learning_rate(done, steps, 0.1))
        options["optimizers"] = (optimizer, schedule)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            learning_rate=LR,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            weight_decay=0.01,
            max_grad_norm=1.0,
            seed=SEED,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = Trainer(model=peft, args=arguments, train_dataset=rows, data_collator=collate, **options)
        if batches is not None:
            loader = DataLoader(rows, batch_sampler=batches, collate_fn=collate)
            trainer.get_train_dataloader = lambda: loader
        trainer.train()
    seconds = time.perf_counter() - started
    peft.eval()
    loss = _loss(peft.get_base_model(), base, examples, prompter)
    return EPOCHS * len(examples) / seconds, loss
