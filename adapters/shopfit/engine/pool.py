"""The slot pool: which adapter lies in which slot of the stack, the least recently used one leaving first."""

from collections import OrderedDict
from collections.abc import Sequence

from shopfit.adapter.attach import check_base
from shopfit.adapter.bundle import Bundle
from shopfit.adapter.files import read_plain
from shopfit.adapter.stack import Stack
from shopfit.base.load import Base

_Key = frozenset[tuple[str, str]]


class SlotPool:
    """Adapters resident on a base. Bundles are known by the digests of their files, never by a name.

    Args:
        base: the base.
        slots: adapters at a time, at least one.
    """

    def __init__(self, base: Base, slots: int) -> None:
        self.slots = slots
        self._base = base
        self._stack: Stack | None = None
        self._seats: OrderedDict[_Key, int] = OrderedDict()
        self._free = list(range(slots, 0, -1))

    @property
    def stack(self) -> Stack:
        """The slots themselves, made when they are first needed."""
        if self._stack is None:
            self._stack = Stack(self._base, self.slots)
        return self._stack

    def seat(self, bundles: Sequence[Bundle]) -> list[int]:
        """Bring adapters into slots.

        Args:
            bundles: at most `slots` different ones, with plain LoRA weights.

        Returns:
            their slots, valid until the next call.

        Raises:
            BaseError: if an adapter belongs to another base. The others keep their slots.
            BundleError: if its weights cannot be read.
        """
        keys = [frozenset(bundle.manifest.files.items()) for bundle in bundles]
        for key in keys:
            if key in self._seats:
                self._seats.move_to_end(key)
        for key, bundle in zip(keys, bundles, strict=True):
            if key not in self._seats:
                self._bring(key, bundle)
        return [self._seats[key] for key in keys]

    def _bring(self, key: _Key, bundle: Bundle) -> None:
        check_base(bundle, self._base)
        assert bundle.lora is not None
        manifest = bundle.manifest
        packed = self.stack.pack(read_plain(bundle.lora), f"{manifest.merchant}/{manifest.recipe}")
        if not self._free:
            self._free.append(self._seats.popitem(last=False)[1])
        self.stack.put(self._free[-1], packed)  # if it fails, the slot is nobody's and stays free
        self._seats[key] = self._free.pop()
