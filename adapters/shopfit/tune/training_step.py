"""One optimizer step. It means the same on one process or several, in one forward or many.

The step's rows are shared out among the processes, and each reads its share in `tune.accumulate` forwards. The loss is
divided by what the whole step has, so parts add up; where the loss couples rows, each part sees the other rows as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from shopfit.adapter.trainable import TrainableAdapter
from shopfit.errors import Diverged, RecipeError
from shopfit.recipe.schema import Recipe
from shopfit.tune.batches import shares
from shopfit.tune.objectives import Objective
from shopfit.tune.optimizer import set_rate
from shopfit.tune.processes import add_up, gathered
from shopfit.tune.training_dataset import BalancedTrainingDataset, Batch
from shopfit.tune.training_loop import learning_rate

_NAMED = 8  # examples of a step that diverged


def check_parts(recipe: Recipe, *, compares_texts: bool, processes: int) -> None:
    """Refuse what would mean something else in parts than in one.

    Raises:
        RecipeError: if the recipe pushes texts that rows share, and the rows of a step are read in parts.
    """
    if recipe.tune.adversarial and compares_texts and recipe.spec.items and recipe.tune.accumulate * processes > 1:
        raise RecipeError(
            f"tune.adversarial moves an item once for all rows of a step that name it, and {recipe.name} reads a step "
            f"in parts: {processes} processes, tune.accumulate {recipe.tune.accumulate}",
            next_step="set tune.adversarial to 0, or train on one process with tune.accumulate=1",
        )


def diverged(number: int, names: Sequence[str], loss: Tensor) -> Diverged:
    """The error of a step whose numbers are not finite.

    Args:
        number: of the step, counted from 1.
        names: of its examples.
        loss: of the step; if it is finite, the gradient is not.
    """
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return Diverged(
        f"the training diverged: the {'gradient' if torch.isfinite(loss) else 'loss'} of step {number} is not "
        f"finite, on the examples {', '.join(names[:_NAMED])}{more}",
        next_step="lower tune.lr (a tenth of it is a good try), or adapter.alpha; nothing was registered",
    )


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step was.

    Args:
        loss: the task's.
        norm: of the gradient, before it was clipped.
        rate: the learning rate.
    """

    loss: float
    norm: float
    rate: float


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """Takes optimizer steps.

    Args:
        adapter: what is trained.
        recipe: how.
        dataset: whose rows are read.
        objective: the loss.
        optimizer: prepared by the accelerator.
        steps: of the whole training, which the learning rate follows.
        accelerator: the run's.
    """

    adapter: TrainableAdapter
    recipe: Recipe
    dataset: BalancedTrainingDataset
    objective: Objective
    optimizer: Any
    steps: int
    accelerator: Accelerator

    def take(self, number: int, indices: Sequence[int]) -> Taken:
        """Take a step.

        Args:
            number: of the step, counted from 1.
            indices: its examples, on all processes together.

        Raises:
            Diverged: if one of them is not finite; the weights are those before the step.
        """
        accelerator, settings = self.accelerator, self.recipe.tune
        weights = list(self.adapter.parameters())
        idle, batches = self._batches(indices)
        states = self._states(number, [*idle, *batches], len(indices)) if settings.contrastive else None
        total = torch.zeros((), device=accelerator.device)
        for batch in idle:
            self._descend(batch, states)
            self.optimizer.zero_grad()
        for part, batch in enumerate(batches):
            self._seed(number, part)
            first = accelerator.is_main_process and part == 0  # which has a row in every step
            total += self._descend(batch, states, self.adapter.penalty() if first else 0.0)
        total = add_up(accelerator, weights, total)
        norm: Tensor = accelerator.clip_grad_norm_(weights, settings.clip)
        self._check(number, indices, total, norm)
        rate = set_rate(self.optimizer, learning_rate(number - 1, self.steps, settings.warmup))
        self.optimizer.step()
        self.adapter.after_step(number)
        self.optimizer.zero_grad()
        return Taken(float(total), float(norm), rate)

    def _descend(self, batch: Batch, states: Tensor | None, penalty: Tensor | float = 0.0) -> Tensor:
        """Add the gradients of a part of the step, and of the method's penalty; returns the task's loss of the part."""
        accelerator = self.accelerator
        with accelerator.autocast():
            loss, shown = self.objective(batch, states=states)
        accelerator.backward(loss + penalty)
        if self.recipe.tune.adversarial:
            with accelerator.autocast():
                pushed, _ = self.objective(batch, pushed=True)
            accelerator.backward(pushed)
        return shown

    def _check(self, number: int, indices: Sequence[int], loss: Tensor, norm: Tensor) -> None:
        """Stop before numbers that are not finite become the weights; float16's loss scale skips such gradients."""
        scaled = self.accelerator.scaler is not None
        if torch.isfinite(loss) and (scaled or torch.isfinite(norm)):
            return
        raise diverged(number, self.dataset.ids(indices), loss)

    def _batches(self, indices: Sequence[int]) -> tuple[list[Batch], list[Batch]]:
        """What this process reads of a step: for nothing, as every process must read as often as any other where the
        base is sharded; and its parts.
        """
        accelerator, forwards = self.accelerator, self.recipe.tune.accumulate
        rows, count = [self.dataset[index] for index in indices], accelerator.num_processes
        prompts = [question.prompt for question, _, _ in rows]
        each = [shares(prompts, forwards, count, process) for process in range(count)]
        mine = each[accelerator.process_index]
        idle = max(map(len, each)) - len(mine) if self.adapter.base.sharded else 0

        def collated(part: list[int]) -> Batch:
            return self.dataset.collate(rows, part).to(accelerator.device)

        return [collated([0])] * idle, [collated(part) for part in mine]

    def _states(self, number: int, batches: Sequence[Batch], rows: int) -> Tensor | None:
        """(N, D) states of all rows of the step, if more than one forward reads them."""
        accelerator = self.accelerator
        if accelerator.num_processes == 1 and len(batches) == 1:
            return None
        mine = []
        for part, batch in enumerate(batches):
            self._seed(number, part)
            with accelerator.autocast():
                states = self.objective.prompt_states(batch)
            mine += list(zip(batch.places.tolist(), states.cpu(), strict=True))
        found = dict(gathered(accelerator, mine))
        return torch.stack([found[row] for row in range(rows)]).to(accelerator.device)

    def _seed(self, number: int, part: int) -> None:
        """Dropout of a forward depends on what is read and nothing that ran before, and differs by process."""
        said = f"{self.recipe.tune.seed}/{number}/{self.accelerator.process_index}/{part}"
        torch.manual_seed(Random(said).getrandbits(63))
