"""Start-time fair queuing over merchants (Goyal, Vin and Cheng, SIGCOMM 1996).

An entry is stamped with the tokens that its merchant was served before, and the lowest stamp comes first. A merchant
that arrives starts at the stamp being served: a backlog of another merchant delays it by one entry only.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """An entry of the queue."""

    @property
    def merchant(self) -> str:
        """The merchant it belongs to."""

    @property
    def tokens(self) -> int:
        """Its cost."""


Entry = TypeVar("Entry", bound=Waiting)


class FairQueue(Generic[Entry]):
    """First come, first served within a merchant; equal shares of tokens between merchants."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[str, deque[Entry]] = OrderedDict()
        self._stamps: dict[str, int] = {}  # of the next entry; also of merchants whose lane became empty recently
        self._now = 0  # stamp of what was served last

    def __len__(self) -> int:
        return sum(map(len, list(self._lanes.values())))  # a copy: any thread may ask

    def __iter__(self) -> Iterator[Entry]:
        return (entry for lane in self._lanes.values() for entry in lane)

    def add(self, entry: Entry) -> None:
        """Put an entry at the end of its merchant's lane."""
        self._lane(entry.merchant).append(entry)

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Put entries at the beginning of their merchants' lanes, in that order."""
        for entry in reversed(entries):
            self._lane(entry.merchant).appendleft(entry)

    def _lane(self, merchant: str) -> deque[Entry]:
        if merchant not in self._lanes:
            self._lanes[merchant] = deque()
            self._stamps[merchant] = max(self._now, self._stamps.get(merchant, 0))
        return self._lanes[merchant]

    def waits(self, merchant: str) -> bool:
        """Whether a merchant has an entry here."""
        return merchant in self._lanes

    def heads(self) -> list[Entry]:
        """The first entry of each merchant, lowest stamp first."""
        return [self._lanes[merchant][0] for merchant in sorted(self._lanes, key=self._stamps.__getitem__)]

    def drop(self, gone: Callable[[Entry], bool]) -> None:
        """Remove every entry that is over."""
        for merchant, lane in list(self._lanes.items()):
            if any(map(gone, lane)):
                self._lanes[merchant] = deque(entry for entry in lane if not gone(entry))
                self._close(merchant)

    def take(
        self,
        budget: int,
        fits: Callable[[Entry], bool],
        choose: Callable[[Sequence[Entry]], Sequence[Entry]] = lambda entries: entries,
        gone: Callable[[Entry], bool] = lambda _: False,
    ) -> list[Entry]:
        """The next entries, in fair order.

        Args:
            budget: tokens in all at most, unless the first entry alone has more.
            fits: called once an entry, in fair order; a lane whose first entry does not fit waits.
            choose: selects from the entries in fair order, the first one always; all by default. The others stay
                where they are, and their tokens are not counted.
            gone: which entries are over; only asked of entries that are next, however many wait.
        """
        offered = self._in_order(budget, fits, gone)
        if not offered:
            return []
        chosen = {id(entry) for entry in choose(offered)}
        self._now = max(self._now, self._stamps[offered[0].merchant])
        by_merchant: dict[str, list[Entry]] = {}
        for entry in offered:
            by_merchant.setdefault(entry.merchant, []).append(entry)
        for merchant, mine in by_merchant.items():
            lane = self._lanes[merchant]
            for _ in mine:
                lane.popleft()
            lane.extendleft(entry for entry in reversed(mine) if id(entry) not in chosen)
            self._stamps[merchant] += sum(entry.tokens for entry in mine if id(entry) in chosen)
            self._close(merchant)
        return [entry for entry in offered if id(entry) in chosen]

    def _in_order(self, budget: int, fits: Callable[[Entry], bool], gone: Callable[[Entry], bool]) -> list[Entry]:
        turns = [(self._stamps[merchant], turn, 0, merchant) for turn, merchant in enumerate(self._lanes)]
        heapq.heapify(turns)
        offered: list[Entry] = []
        spent = 0
        while turns:
            stamp, turn, place, merchant = heapq.heappop(turns)
            lane = self._lanes[merchant]
            while place < len(lane) and gone(lane[place]):
                del lane[place]
            if place == len(lane):
                if not lane:
                    self._close(merchant)
                continue
            entry = lane[place]
            if offered and spent + entry.tokens > budget:
                break
            if fits(entry):
                offered.append(entry)
                spent += entry.tokens
                if place + 1 < len(lane):
                    heapq.heappush(turns, (stamp + entry.tokens, turn, place + 1, merchant))
        return offered

    def _close(self, merchant: str) -> None:
        if self._lanes[merchant]:
            return
        del self._lanes[merchant]
        if len(self._stamps) > 2 * len(self._lanes) + 64:  # drop stamps of absent merchants that are in the past
            self._stamps = {
                name: stamp for name, stamp in self._stamps.items() if name in self._lanes or stamp > self._now
            }
