"""What training makes smaller, one objective a task, all over the log-probabilities of answers.

choose    cross-entropy over the length-normalised label sequences
rank      softmax of each relevant item against sampled items that are not relevant
generate  the answer's tokens only
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shopfit.adapter.methods import TrainableAdapter
from shopfit.base.prompt import Prompter, Question
from shopfit.base.scoring import Tree, answer_log_probs, plant
from shopfit.merchant.examples import Example, seen
from shopfit.recipe.schema import Task, Tune


@dataclass(frozen=True, slots=True)
class Batch:
    """B examples ready for a step.

    Args:
        tree: their questions.
        gold: (A,) whether an answer is right: one a question for choose and generate, one or more for rank.
        weights: (B,) share of each example in the loss.
    """

    tree: Tree
    gold: Tensor
    weights: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """The same on `device`."""
        return Batch(self.tree.to(device), self.gold.to(device), self.weights.to(device))


class Lessons:
    """Turns examples into questions with known answers.

    Args:
        examples: the training examples.
        prompter: writes their prompts and answers.
        labels: choose: every label.
        tune: the recipe's `tune` section: seed and number of negatives.
    """

    def __init__(self, examples: Sequence[Example], prompter: Prompter, labels: Sequence[str], tune: Tune) -> None:
        self.examples = examples
        self.prompter = prompter
        self.tune = tune
        self.epoch = 0
        self._labels = [prompter.label(label) for label in labels]
        self._gold = [tuple(label == example.label for label in labels) for example in examples]
        self._prompts = [prompter.encode(example.fields) for example in examples]
        self._items = list(
            prompter.catalog
            or dict.fromkeys(item for example in examples for item in (*example.relevant, *(example.candidates or ())))
        )

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Question, tuple[bool, ...], float]:
        """The question of one example, which of its answers are right, and its weight."""
        example, prompt = self.examples[index], self._prompts[index]
        match self.prompter.recipe.task:
            case "choose":
                return Question(prompt, tuple(self._labels)), self._gold[index], example.weight
            case "generate":
                assert example.output is not None
                return Question(prompt, (self.prompter.output(example.output),)), (True,), example.weight
            case "rank":
                negatives = self._negatives(index)
                answers = tuple(self.prompter.item(item) for item in (*example.relevant, *negatives))
                return (
                    Question(prompt, answers),
                    (True,) * len(example.relevant) + (False,) * len(negatives),
                    example.weight,
                )

    def _negatives(self, index: int) -> list[str]:
        """Drawn anew each epoch, the same whichever process draws them."""
        example = self.examples[index]
        known = {*example.relevant, *(() if self.prompter.recipe.data.repeats else seen(example.fields))}
        pool = [item for item in example.candidates or self._items if item not in known]
        draw = random.Random(f"{self.tune.seed}/{self.epoch}/{index}")
        return draw.sample(pool, min(self.tune.negatives, len(pool)))

    def length(self, index: int) -> int:
        """Tokens of the question, for sorting."""
        return self[index][0].tokens

    def collate(self, lessons: Sequence[tuple[Question, tuple[bool, ...], float]]) -> Batch:
        """Lay lessons out as one batch."""
        questions, gold, weights = zip(*lessons, strict=True)
        return Batch(
            plant(questions, self.prompter.tokenizer.pad_token_id),
            torch.tensor([right for row in gold for right in row]),
            torch.tensor(weights, dtype=torch.float32),
        )


class Objective(nn.Module):
    """The loss of a batch. A module, so that Accelerate can wrap it for several processes.

    Args:
        adapter: what is trained.
        task: which objective.
        temperature: rank: scores are divided by it.
    """

    def __init__(self, adapter: TrainableAdapter, task: Task, temperature: float) -> None:
        super().__init__()
        self.peft = adapter.peft
        self._adapter = adapter
        self._task = task
        self._temperature = temperature

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss to descend, and the task's own part of it for display; both scalars."""
        tree = batch.tree
        sums = answer_log_probs(self._adapter.model, tree, self._adapter.prefix(len(tree.input_ids)))  # (A,)
        if self._task == "generate":
            loss = -(batch.weights * sums).sum() / (batch.weights * tree.lengths).sum()
        else:
            losses = _contrast(sums / tree.lengths / self._temperature, batch.gold, tree.counts)  # (B,)
            loss = (batch.weights * losses).sum() / batch.weights.sum()
        return loss + self._adapter.penalty(), loss.detach()


def _contrast(scores: Tensor, gold: Tensor, counts: Sequence[int]) -> Tensor:
    """(B,) cross-entropy of each right answer against the wrong ones, averaged over a question's right answers."""
    losses = []
    for mine, right in zip(*(torch.split(values, list(counts)) for values in (scores, gold)), strict=True):
        good, bad = mine[right], mine[~right]
        against = torch.cat([good[:, None], bad.expand(len(good), -1)], dim=1)  # (right, 1 + wrong)
        losses.append((against.logsumexp(1) - good).mean())
    return torch.stack(losses)
