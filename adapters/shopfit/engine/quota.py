"""Equal shares of a countable resource: one merchant may hold all of it while no other wants any, else an equal share.

Nothing is taken back. So that a merchant that holds everything does not block the others, each of them may still take
up to its share on top: at most twice the whole is held in all.
"""

import threading
from collections import Counter


class Shares:
    """Counts what merchants hold. Any thread may use it.

    Args:
        whole: what one merchant may hold alone, at least 1.
    """

    def __init__(self, whole: int) -> None:
        self.whole = whole
        self._held: Counter[str] = Counter()
        self._total = 0
        self._change = threading.Condition()

    @property
    def held(self) -> int:
        """Units that all merchants hold together."""
        return self._total

    def take(self, merchant: str, *, wait: bool = False) -> bool:
        """Take one unit for a merchant.

        Args:
            merchant: that takes it.
            wait: until one is available.

        Returns:
            whether it was taken.
        """
        with self._change:
            while not self._may(merchant):
                if not wait:
                    return False
                self._change.wait()
            self._held[merchant] += 1
            self._total += 1
            return True

    def give_back(self, merchant: str) -> None:
        """Give one unit back."""
        with self._change:
            self._total -= 1
            self._held[merchant] -= 1
            if not self._held[merchant]:
                del self._held[merchant]
            self._change.notify_all()

    def _may(self, merchant: str) -> bool:
        if self._total < self.whole:
            return True
        share = max(1, self.whole // len(self._held.keys() | {merchant}))
        return self._held[merchant] < share and self._total < 2 * self.whole
