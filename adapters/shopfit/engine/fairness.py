"""Whose turn it is: deficit round robin over merchants (Shreedhar and Varghese, 1995).

Each round gives every waiting merchant the same number of tokens, saved up until they pay for its next request. A
merchant with a thousand requests therefore delays the others by one round, not by a thousand requests.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What waits."""

    @property
    def merchant(self) -> str:
        """Whose it is."""

    @property
    def tokens(self) -> int:
        """What it costs."""


Entry = TypeVar("Entry", bound=Waiting)


class FairQueue(Generic[Entry]):
    """First come, first served within a merchant; equal tokens among merchants.

    Args:
        quantum: tokens a merchant gets a round.
    """

    def __init__(self, quantum: int = 64) -> None:
        self._quantum = quantum
        self._lanes: OrderedDict[str, deque[Entry]] = OrderedDict()
        self._credit: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(map(len, list(self._lanes.values())))  # a copy: any thread may ask

    def __iter__(self) -> Iterator[Entry]:
        return (entry for lane in self._lanes.values() for entry in lane)

    def add(self, entry: Entry) -> None:
        """Put an entry at the end of its merchant's lane."""
        self._lanes.setdefault(entry.merchant, deque()).append(entry)
        self._credit.setdefault(entry.merchant, 0)

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Give back what `take` gave, in that order: it comes first again, and was not paid for."""
        for entry in reversed(entries):
            self._lanes.setdefault(entry.merchant, deque()).appendleft(entry)
            self._credit[entry.merchant] = self._credit.get(entry.merchant, 0) + entry.tokens
            self._lanes.move_to_end(entry.merchant, last=False)

    def waits(self, merchant: str) -> bool:
        """Whether a merchant has an entry here."""
        return merchant in self._lanes

    def heads(self) -> list[Entry]:
        """The first entry of each merchant, in the order of their turns."""
        return [lane[0] for lane in self._lanes.values()]

    def drop(self, gone: Callable[[Entry], bool]) -> None:
        """Take out every entry that is over."""
        for merchant, lane in list(self._lanes.items()):
            if any(map(gone, lane)):
                self._lanes[merchant] = deque(entry for entry in lane if not gone(entry))
                self._close(merchant)

    def take(self, budget: int, fits: Callable[[Entry], bool]) -> list[Entry]:
        """The next entries, in fair order.

        Args:
            budget: tokens of all of them at most, unless the first one alone has more.
            fits: asked once an entry before it is taken, in that order; a lane whose first entry does not fit waits.
        """
        taken: list[Entry] = []
        spent = 0
        stuck: set[str] = set()
        while open_lanes := [merchant for merchant in self._lanes if merchant not in stuck]:
            for merchant in open_lanes:
                self._credit[merchant] += self._quantum
                lane = self._lanes[merchant]
                while lane and lane[0].tokens <= self._credit[merchant]:
                    entry = lane[0]
                    if taken and spent + entry.tokens > budget:
                        self._lanes.move_to_end(merchant, last=False)  # next time it is the first
                        self._credit[merchant] -= self._quantum
                        return taken
                    if not fits(entry):
                        stuck.add(merchant)
                        self._credit[merchant] -= self._quantum
                        break
                    taken.append(lane.popleft())
                    spent += entry.tokens
                    self._credit[merchant] -= entry.tokens
                if lane and merchant not in stuck:
                    self._lanes.move_to_end(merchant)
                self._close(merchant)
        return taken

    def _close(self, merchant: str) -> None:
        if not self._lanes[merchant]:  # credit is not saved up by those who do not wait
            del self._lanes[merchant], self._credit[merchant]
