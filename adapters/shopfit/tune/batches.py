"""The rows of each optimizer step, of similar length so that they need little padding, and who reads which of them."""

import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import chain

_POOL = 16  # steps that are shuffled together before they are sorted


class LengthSortedBatches:
    """The rows of each optimizer step, shuffled anew each epoch by its seed.

    Args:
        size: number of examples.
        batch_size: examples a step, on all processes together; the last step may have fewer.
        length: tokens of an example.
        seed: of the order.
    """

    def __init__(self, size: int, batch_size: int, length: Callable[[int], int], seed: int) -> None:
        self.size = size
        self.batch_size = batch_size
        self.length = length
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        draw = random.Random(f"{self.seed}/{self.epoch}")
        order = draw.sample(range(self.size), self.size)
        batches = []
        for start in range(0, self.size, self.batch_size * _POOL):
            pool = sorted(order[start : start + self.batch_size * _POOL], key=self.length)
            batches += [pool[at : at + self.batch_size] for at in range(0, len(pool), self.batch_size)]
        last = (
            [batches.pop(next(at for at, batch in enumerate(batches) if len(batch) < self.batch_size))]
            if self.size % self.batch_size
            else []
        )
        draw.shuffle(batches)
        yield from batches + last


def shares(texts: Sequence[Hashable], forwards: int, processes: int = 1, process: int = 0) -> list[list[int]]:
    """Which of a step's rows a process reads in each of its forwards. Every row is read once.

    Args:
        texts: what each of N rows asks. Rows that ask the same are read together, as an encoder reads that text once.
        forwards: of each process at most, 1 or more.
        processes: that share the step.
        process: which of them, from 0.

    Returns:
        rows of each forward, none of them empty; no forward at all for a process that has no row.
    """
    alike: dict[Hashable, list[int]] = {}
    for row, text in enumerate(texts):
        alike.setdefault(text, []).append(row)
    mine = list(alike.values())[process::processes]  # rows are sorted by length: so processes have the same work
    each = max(1, -(-len(mine) // forwards))
    return [list(chain.from_iterable(mine[at : at + each])) for at in range(0, len(mine), each)]
