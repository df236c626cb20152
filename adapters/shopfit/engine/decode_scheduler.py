"""Fair decoding: which answers are begun, which are paused for other merchants, and how each ends.

Rows and slots are few, and an answer holds both until its last token. So while another merchant waits, the latest
answers of a merchant above its share are paused: their keys and values are copied out, and later copied back unchanged.
If there are fewer rows or slots than merchants, no merchant is above its share, and they take turns by pausing too.
"""

from collections import Counter
from collections.abc import Collection, Sequence

from shopfit.adapter.weights import Key
from shopfit.engine.decoding import Decoder, GeneratedSequence
from shopfit.engine.jobs import NONE, Entry, Job
from shopfit.engine.slot_pool import SlotPool

_TURN = 64  # tokens of an answer before it may be paused for a merchant without a row or slot
_PAUSED = 2  # paused answers at most, as a multiple of the rows


class Writers:
    """The answers being decoded. Used by the serving thread only.

    Args:
        decoder: decodes them.
        pool: slots of their adapters.
        rows: answers at a time.
    """

    def __init__(self, decoder: Decoder, pool: SlotPool, rows: int) -> None:
        self._decoder = decoder
        self._pool = pool
        self._rows = rows
        self._written: dict[GeneratedSequence, Job] = {}
        self._since: dict[GeneratedSequence, int] = {}  # tokens that each had when it began or was resumed
        self._paused: set[Job] = set()
        self._promised: set[Job] = set()

    def __len__(self) -> int:
        return len(self._written)

    @property
    def paused(self) -> int:
        """Number of paused answers."""
        return len(self._paused)

    @property
    def merchants(self) -> set[str]:
        """The merchants of the answers being decoded."""
        return {job.merchant for job in self._written.values()}

    def make_way(self, waiting: Sequence[Entry]) -> list[Entry]:
        """Pause answers of merchants above their share, so that each waiting merchant gets a row.

        Args:
            waiting: the next prompt of each merchant that waits.

        Returns:
            the paused answers, as entries to queue again.
        """
        self._paused = {job for job in self._paused if not job.over}
        self._promised = set()
        if not waiting:
            return []
        merchants = len(self.merchants | {entry.merchant for entry in waiting})
        share = max(1, self._rows // merchants)
        slots = max(1, (self._pool.slots - 1) // merchants)
        paused: list[Entry] = []
        keys = NONE
        for entry in waiting:
            wanted = keys | entry.job.work.needs
            if self._count()[entry.merchant] >= share:
                continue
            while self._decoder.free <= len(self._promised) and self._pause_one(entry.merchant, share, paused):
                pass
            while not self._pool.fits(wanted, spare=1) and self._pause_adapter(entry.merchant, slots, paused):
                pass
            if self._decoder.free > len(self._promised) and self._pool.fits(wanted, spare=1):
                self._promised.add(entry.job)
                keys = wanted
        return paused

    def _count(self) -> Counter[str]:
        return Counter(job.merchant for job in self._written.values())

    def _pause_one(self, merchant: str, share: int, paused: list[Entry]) -> bool:
        """Pause the latest answer of the merchant with most rows if it is above its share, else one whose turn is over.

        Turns only matter with more merchants than rows: else some merchant is above its share, or a row is free.
        """
        counts = self._count()
        greatest = max((other for other in counts if other != merchant), key=counts.__getitem__, default=None)
        if greatest is None or counts[greatest] <= share:
            return self._pause(self._turn_over(merchant)[:1], paused)
        return self._pause(
            [sequence for sequence, job in self._written.items() if job.merchant == greatest][-1:], paused
        )

    def _pause_adapter(self, merchant: str, share: int, paused: list[Entry]) -> bool:
        """Pause all answers of one adapter: of the merchant with the most adapters in slots if it is above its share,
        else of an answer whose turn is over.
        """
        pinned: dict[str, Counter[Key]] = {}
        for job in self._written.values():
            if job.merchant != merchant:
                pinned.setdefault(job.merchant, Counter()).update(job.work.needs)
        greatest = max(pinned.values(), key=len, default=Counter[Key]())
        if len(greatest) > share:
            key = min(greatest, key=greatest.__getitem__)
        else:
            over = [key for sequence in self._turn_over(merchant) for key in self._written[sequence].work.needs]
            if not over:
                return False
            key = over[0]
        return self._pause([sequence for sequence, job in self._written.items() if key in job.work.needs], paused)

    def _turn_over(self, merchant: str) -> list[GeneratedSequence]:
        """Answers of other merchants that have had a whole turn, the longest first."""
        turns = {
            sequence: len(sequence.detokenizer.tokens) - self._since[sequence]
            for sequence, job in self._written.items()
            if job.merchant != merchant
        }
        return sorted(
            (sequence for sequence, turn in turns.items() if turn >= _TURN), key=turns.__getitem__, reverse=True
        )

    def _pause(self, sequences: Sequence[GeneratedSequence], paused: list[Entry]) -> bool:
        if len(self._paused) + len(sequences) > _PAUSED * self._rows:
            return False
        for sequence in sequences:
            self._decoder.pause(sequence)
            job = self._released(sequence)
            self._paused.add(job)
            paused += job.entries()
        return bool(sequences)

    def fitting(self) -> "Fitting":
        """A new `Fitting` for the answers that join next."""
        return Fitting(self._pool, self._decoder.free, self._promised)

    def join(self, batch: Sequence[Entry]) -> None:
        """Begin answers, or resume paused ones. Those that cannot be begun fail, and no others."""
        jobs = [entry.job for entry in batch]
        try:
            slots = self._pool.seat([job.work.weights for job in jobs], pin=True)
        except Exception as error:
            self._in_halves(jobs, error)
            return
        new: list[Job] = []
        for slot, job in sorted(zip(slots, jobs, strict=True), key=lambda pair: pair[0]):
            assert job.work.sequence is not None
            job.work.sequence.slot = slot
            job.work.sequence.prefix = None if job.work.weights is None else job.work.weights.prefix
            if job.work.sequence.lifted is None:
                new.append(job)
            else:
                self._resume(job)
        if new:
            self._begin(new)
        self.end()

    def _begin(self, jobs: Sequence[Job]) -> None:
        sequences = [job.work.sequence for job in jobs if job.work.sequence is not None]
        for job, sequence in zip(jobs, sequences, strict=True):
            if job.ticket.waited is None:
                job.ticket.begin(len(sequence.prompt))
        try:
            self._decoder.join(sequences)
        except Exception as error:
            self._decoder.take(set(sequences).__contains__)
            for job in jobs:
                self._pool.unpin(job.work.weights)
            self._in_halves(jobs, error)
            return
        for job, sequence in zip(jobs, sequences, strict=True):
            self._hold(job, sequence)
            job.written()

    def _resume(self, job: Job) -> None:
        assert job.work.sequence is not None
        self._paused.discard(job)
        try:
            self._decoder.resume(job.work.sequence)
        except Exception as error:
            self._pool.unpin(job.work.weights)
            job.fail(error)
        else:
            self._hold(job, job.work.sequence)

    def _hold(self, job: Job, sequence: GeneratedSequence) -> None:
        self._written[sequence] = job
        self._since[sequence] = len(sequence.detokenizer.tokens)

    def _in_halves(self, jobs: Sequence[Job], error: Exception) -> None:
        if len(jobs) == 1:
            jobs[0].fail(error)
            return
        middle = len(jobs) // 2
        for part in (jobs[:middle], jobs[middle:]):
            self.join([entry for job in part for entry in job.entries()])

    def step(self) -> None:
        """Decode one token of every answer."""
        self._decoder.step()
        for job in self._written.values():
            job.written()
        self.end()

    def end(self) -> None:
        """Remove answers that are finished or cancelled."""
        for sequence in self._decoder.take(lambda sequence: sequence.over or self._written[sequence].over):
            job = self._released(sequence)
            if sequence.error is None:
                job.finish(sequence)
            else:
                job.fail(sequence.error)

    def fail(self, error: Exception) -> None:
        """Fail and remove all answers."""
        for sequence in self._decoder.take(lambda _: True):
            if sequence in self._written:
                self._released(sequence).fail(error)
        self._paused.clear()

    def _released(self, sequence: GeneratedSequence) -> Job:
        """The job of a removed sequence, whose adapter is unpinned."""
        job = self._written.pop(sequence)
        del self._since[sequence]
        self._pool.unpin(job.work.weights)
        return job


class Fitting:
    """Decides which answers may begin together: called once an answer, it counts those it admits.

    Args:
        pool: slots of the adapters.
        free: number of free rows.
        promised: jobs that get a row before all others.
    """

    def __init__(self, pool: SlotPool, free: int, promised: Collection[Job]) -> None:
        self._pool = pool
        self._free = free
        self._promised = set(promised)
        self._keys = NONE
        self._full = False  # answers pin slots: after one that lacks a slot, no other may join, or it waits for ever

    def __call__(self, entry: Entry) -> bool:
        """Whether this entry may join too."""
        promised = entry.job in self._promised
        if (self._full and not promised) or self._free <= len(self._promised - {entry.job}):
            return False
        wanted = self._keys | entry.job.work.needs
        if not self._pool.fits(wanted, spare=1):
            self._full = True
            return False
        self._promised.discard(entry.job)
        self._free -= 1
        self._keys = wanted
        return True
