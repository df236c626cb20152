"""What the processes of a training tell each other. Every process makes the same calls, in the same order."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list, gather_object
from torch import Tensor, nn

from shopfit.errors import ShopfitError

T = TypeVar("T")


def check_alone(what: str, accelerator: Accelerator) -> None:
    """Refuse several processes for what one does.

    Args:
        what: it is, as in "a fleet is one process, not".
        accelerator: the run's.

    Raises:
        ShopfitError: if there are several.
    """
    if accelerator.num_processes > 1:
        raise ShopfitError(
            f"{what} {accelerator.num_processes}", next_step="run it without a launcher of several processes"
        )


@contextmanager
def exchange() -> Iterator[None]:
    """A context for what needs all processes.

    Raises:
        ShopfitError: if one of them has ended.
    """
    try:
        yield
    except RuntimeError as error:  # gloo's and NCCL's, whose words differ
        raise ShopfitError(
            "another process of this run has ended or cannot be reached, so this one ends too; nothing was registered",
            next_step="see what that process wrote last (out of memory?), and run the command again",
        ) from error


def wait(accelerator: Accelerator) -> None:
    """Return once every process is here.

    Raises:
        ShopfitError: if one of them has ended.
    """
    with exchange():
        accelerator.wait_for_everyone()


@contextmanager
def first_process_first(accelerator: Accelerator) -> Iterator[None]:
    """A context that the other processes enter once the first one has left it, and find what it wrote.

    Raises:
        ShopfitError: if one of them has ended.
    """
    if not accelerator.is_main_process:
        wait(accelerator)
    yield
    if accelerator.is_main_process:
        wait(accelerator)


def agreed(accelerator: Accelerator, said: T) -> T:
    """What the first process says, on all of them."""
    if accelerator.num_processes == 1:
        return said
    with exchange():
        first: T = broadcast_object_list([said])[0]
    return first


def gathered(accelerator: Accelerator, mine: Sequence[T]) -> list[T]:
    """What all processes have, those of the first one first."""
    if accelerator.num_processes == 1:
        return list(mine)
    with exchange():
        found: list[T] = gather_object(list(mine))
    return found


def make_equal(accelerator: Accelerator, weights: Sequence[nn.Parameter]) -> None:
    """Give every process the weights of the first one, bitwise."""
    if accelerator.num_processes == 1:
        return
    flat = torch.cat([weight.detach().float().flatten() for weight in weights])
    with exchange():
        flat = broadcast(flat)
    with torch.no_grad():
        for weight, first in zip(weights, _unflatten(flat, weights), strict=True):
            weight.copy_(first)


def add_up(accelerator: Accelerator, weights: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
    """Sum gradients over the processes, so that all have the same ones, bitwise.

    A weight that no process has a gradient of has none afterwards.

    Args:
        accelerator: the run's.
        weights: with the gradients of this process; None counts as zeros.
        loss: a scalar on their device: this process's part of it.

    Returns:
        the sum of the losses.
    """
    if accelerator.num_processes == 1:
        return loss
    gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    known = torch.tensor([weight.grad is not None for weight in weights], device=loss.device)
    parts = [*gradients, known, loss]
    with exchange():
        flat = accelerator.reduce(torch.cat([part.float().flatten() for part in parts]), "sum")
    *sums, counts, total = _unflatten(flat, parts)
    for weight, gradient, count in zip(weights, sums, counts.tolist(), strict=True):
        weight.grad = gradient.to(weight.dtype) if count else None
    return total


def _unflatten(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    parts = torch.split(flat, [part.numel() for part in like])
    return [part.view(other.shape) for part, other in zip(parts, like, strict=True)]
