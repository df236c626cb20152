"""The slot pool: which adapter lies in which slot of the stack, the least recently used one leaving first."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

from shopfit.adapter.stack import Stack
from shopfit.adapter.weights import Key, Weights
from shopfit.base.load import Base


class SlotPool:
    """LoRA adapters resident on a base. Prefixes need no slot.

    Args:
        base: the base.
        slots: adapters at a time, at least one.
    """

    def __init__(self, base: Base, slots: int) -> None:
        self.slots = slots
        self.stack = Stack(base, slots)
        self.swaps = 0
        self._seats: OrderedDict[Key, int] = OrderedDict()
        self._free = list(range(slots, 0, -1))
        self._pins: Counter[Key] = Counter()

    @property
    def resident(self) -> int:
        """Adapters in slots."""
        return len(self._seats)

    def fits(self, keys: Iterable[Key], *, spare: int = 0) -> bool:
        """Whether all of these can be seated at once, beside what is pinned.

        Args:
            keys: of adapters that need a slot.
            spare: slots to leave, if there are more than one, to adapters that are seated for one forward only.
        """
        taken = self._pins.keys() | set(keys)
        return len(taken) <= max(1, self.slots - spare) or taken == self._pins.keys()

    def seat(self, adapters: Sequence[Weights | None], *, pin: bool = False) -> list[int]:
        """Bring adapters into slots.

        Args:
            adapters: of each row; None or a prefix for rows that need no slot. Those that do must fit.
            pin: keep each in its slot until `unpin` has been called as often.

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
        """A row of this adapter is over."""
        if adapter is not None and adapter.packed is not None:
            self._pins[adapter.key] -= 1
            if not self._pins[adapter.key]:
                del self._pins[adapter.key]

    def forget(self, key: Key) -> bool:
        """Let an adapter leave its slot for good; whether it could, for it may be in use."""
        if key in self._pins:
            return False
        if key in self._seats:
            self._free.append(self._seats.pop(key))
        return True

    def _bring(self, adapter: Weights, wanted: set[Key]) -> None:
        assert adapter.packed is not None
        if not self._free:
            oldest = next(key for key in self._seats if key not in self._pins and key not in wanted)
            self._free.append(self._seats.pop(oldest))
        self.swaps += 1
        self.stack.put(self._free[-1], adapter.packed)  # if it fails, the slot is nobody's and stays free
        self._seats[adapter.key] = self._free.pop()
