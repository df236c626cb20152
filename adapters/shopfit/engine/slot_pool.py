"""The slot pool: which adapter is in which slot of the stack, with least-recently-used eviction."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

from shopfit.adapter.stack import MAX_RANK, Stack
from shopfit.adapter.weights import Key, Weights
from shopfit.base.load import Base


class SlotPool:
    """LoRA adapters in the slots of a base's stack. Prefixes need no slot.

    Args:
        base: whose layers the stack is beside.
        slots: adapters at a time, at least one.
        max_rank: of an adapter; all slots are as wide as the largest rank in them.
    """

    def __init__(self, base: Base, slots: int, max_rank: int = MAX_RANK) -> None:
        self.slots = slots
        self.stack = Stack(base, slots, max_rank=max_rank)
        self.swaps = 0
        self._seats: OrderedDict[Key, int] = OrderedDict()
        self._free = list(range(slots, 0, -1))
        self._pins: Counter[Key] = Counter()

    @property
    def resident(self) -> int:
        """Adapters in slots."""
        return len(self._seats)

    def seats(self, key: Key) -> bool:
        """Whether an adapter is in a slot now; any thread may ask."""
        return key in self._seats

    def fits(self, keys: Iterable[Key], *, spare: int = 0) -> bool:
        """Whether all of these can have slots at once, beside the pinned adapters.

        Args:
            keys: of adapters that need a slot.
            spare: slots to leave free, if there are more than one, for adapters that need a slot for one forward only.
        """
        taken = self._pins.keys() | set(keys)
        return len(taken) <= max(1, self.slots - spare) or taken == self._pins.keys()

    def seat(self, adapters: Sequence[Weights | None], *, pin: bool = False) -> list[int]:
        """Bring adapters into slots.

        Args:
            adapters: of each row; None or a prefix for rows that need no slot. The others must fit (see `fits`).
            pin: keep each adapter in its slot until `unpin` was called as often.

        Returns:
            their slots, 0 for none; unless pinned, valid until the next call.
        """
        seated = [adapter for adapter in adapters if adapter is not None and adapter.packed is not None]
        for adapter in seated:
            if adapter.key in self._seats:
                self._seats.move_to_end(adapter.key)
        wanted = {adapter.key for adapter in seated}
        for adapter in seated:
            if adapter.key not in self._seats:
                self._bring(adapter, wanted)
        if pin:
            self._pins.update(adapter.key for adapter in seated)
        return [0 if adapter is None else self._seats.get(adapter.key, 0) for adapter in adapters]

    def unpin(self, adapter: Weights | None) -> None:
        """Undo one `pin` of this adapter: a row of it has ended."""
        if adapter is not None and adapter.packed is not None:
            self._pins[adapter.key] -= 1
            if not self._pins[adapter.key]:
                del self._pins[adapter.key]

    def forget(self, key: Key) -> bool:
        """Remove an adapter from its slot; False if it is pinned, and so stays."""
        if key in self._pins:
            return False
        if key in self._seats:
            self.stack.take_out(self._seats[key])
            self._free.append(self._seats.pop(key))
        return True

    def _bring(self, adapter: Weights, wanted: set[Key]) -> None:
        assert adapter.packed is not None
        if not self._free:
            oldest = next(key for key in self._seats if key not in self._pins and key not in wanted)
            self._free.append(self._seats.pop(oldest))
        self.swaps += 1
        self.stack.put(self._free[-1], adapter.packed)  # if this raises, the slot stays free
        self._seats[adapter.key] = self._free.pop()
