"""Batches of rows of similar length, which need little padding."""

import random
from collections.abc import Callable, Iterator

_POOL = 16  # batches that are shuffled together before they are sorted


class LengthSortedBatches:
    """A batch sampler, shuffled anew each epoch by its seed.

    Args:
        size: number of examples.
        batch_size: examples a batch; the last may be smaller.
        length: tokens of an example.
        seed: of the order.
    """

    drop_last = False

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
        # Accelerate expects the short batch last
        last = (
            [batches.pop(next(at for at, batch in enumerate(batches) if len(batch) < self.batch_size))]
            if self.size % self.batch_size
            else []
        )
        draw.shuffle(batches)
        yield from batches + last
