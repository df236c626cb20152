"""How much of a thing each merchant may hold: all of it while nobody else wants it, and an equal share when others do.

What is held is never taken away. So that one who holds everything keeps nobody waiting, a merchant that holds less than
its share gets it on top, up to twice the whole: that bounds what the thing may take in all.
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

    def take(self, merchant: str, *, wait: bool = False) -> bool:
        """One more for a merchant.

        Args:
            merchant: whose it will be.
            wait: until there is one.

        Returns:
            whether it got it.
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
        """One less."""
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
