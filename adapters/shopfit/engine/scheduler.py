"""The serving thread: everything that touches the model, one forward after the other.

Each turn runs at most one forward over new rows (questions to score, or prompts of answers to write) and decode steps
of all answers being written, so that new requests join while others go on (iteration-level scheduling: Orca, OSDI
2022). Merchants take turns; a row's adapter stays in its slot until the row's last token.

Rows are isolated: a forward that fails is retried in halves, until only the rows that make it fail have failed, and a
row whose results are not finite fails alone.
"""

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import nullcontext, suppress

from shopfit.adapter.weights import Key
from shopfit.base.load import Base
from shopfit.base.placement import block_devices
from shopfit.base.prefix import lay_before
from shopfit.base.scoring.scorer import cut, width
from shopfit.engine.decode_scheduler import Writers
from shopfit.engine.decoding import Decoder
from shopfit.engine.fair_thread_pool import closed
from shopfit.engine.fairness import FairQueue
from shopfit.engine.jobs import Entry, Job, Ticket
from shopfit.engine.slot_pool import SlotPool
from shopfit.errors import EngineEnded

_AHEAD = 2  # forwards' worth of entries to choose from, so that rows of similar length share a forward
_CHECKED = 0.05  # seconds between looks at deadlines while nothing can run
_GATHERING = 0.25  # share of the last forward's time that an idle thread waits for those that it answered to ask again
_GATHERED = 0.05  # seconds that it does so at most


class Scheduler:
    """Runs jobs on a base. Jobs may come from any thread.

    Args:
        base: the base; from now on only this thread may use its model.
        pool: slots for adapters on it.
        rows: answers decoded at a time.
        batch_tokens: tokens a forward over new rows, padding included, unless one row alone is longer.
    """

    def __init__(self, base: Base, pool: SlotPool, *, rows: int, batch_tokens: int) -> None:
        self.pool, self.rows = pool, rows
        self._base = base
        self._budget = batch_tokens
        self._writers = Writers(
            Decoder(base.model, base.tokenizer, base.scorer, rows=rows, stack=pool.stack), pool, rows
        )
        self._questions: FairQueue[Entry] = FairQueue()
        self._prompts: FairQueue[Entry] = FairQueue()
        self._prompts_first = True
        self._expected, self._patience = 0, 0.0
        self._inbox: list[Job] = []
        self._watched: set[Ticket] = set()
        self._unwanted: set[Key] = set()
        self._news = threading.Condition()
        self._ended: EngineEnded | None = None
        self._thread: threading.Thread | None = None

    @property
    def load(self) -> tuple[int, int, int]:
        """Rows that wait for a forward, answers being decoded, and paused answers."""
        waiting = len(self._inbox) + len(self._questions) + len(self._prompts)
        return waiting, len(self._writers), self._writers.paused

    @property
    def ended(self) -> EngineEnded | None:
        """Why the serving thread has ended; None while it runs."""
        with self._news:
            self._look_alive()
            return self._ended

    def add(self, jobs: Iterable[Job]) -> None:
        """Give jobs to the serving thread, all at once.

        Raises:
            EngineEnded: if the thread has ended.
        """
        with self._news:
            self._begin()
            self._inbox += jobs
            self._news.notify()

    def watch(self, ticket: Ticket) -> None:
        """Let a request fail at its deadline, at whatever stage it is.

        Raises:
            EngineEnded: if the thread has ended.
        """
        with self._news:
            self._begin()
            self._watched.add(ticket)
            self._news.notify()
        ticket.future.when_done(lambda: self._watched.discard(ticket))

    def forget(self, key: Key) -> None:
        """Remove an adapter from its slot as soon as no request uses it."""
        with self._news:
            self._unwanted.add(key)
            self._news.notify()

    def _begin(self) -> None:
        self._look_alive()
        if self._ended is not None:
            raise self._ended
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="shopfit-engine", daemon=True)
            self._thread.start()

    def _look_alive(self) -> None:
        if self._ended is None and self._thread is not None and not self._thread.is_alive():
            self._ended = _dead("it is not running")

    def stop(self) -> None:
        """End the serving thread after its current turn; unanswered requests fail."""
        with self._news:
            self._ended = self._ended or closed()
            self._news.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            with suppress(RuntimeError):  # a signal came while it was being started: it will see that it has ended
                self._thread.join()

    def _run(self) -> None:
        try:
            while self._wait():
                try:
                    self._turn()
                except Exception as error:
                    self._fail_all(error)
        except BaseException as error:  # the thread never ends silently
            with self._news:
                self._ended = self._ended or _dead(f"{type(error).__name__} {error}".strip())
        finally:
            with self._news:
                self._ended = self._ended or _dead("it was ended from outside")
            self._fail_all(self._ended)

    def _wait(self) -> bool:
        """Sleep until there is work; False to end the thread."""
        with self._news:
            while not (self._ended or self._inbox or self._unwanted or self._busy):
                self._news.wait(_CHECKED if self._watched else None)
                if self._watched:
                    break
            if self._inbox and not self._busy:
                self._gather()
            if self._ended:
                return False
            jobs, self._inbox = self._inbox, []
            unwanted, self._unwanted = self._unwanted, set()
        for job in jobs:
            queue = self._questions if job.work.sequence is None else self._prompts
            for entry in job.entries():
                queue.add(entry)
        in_use = {key for key in unwanted if not self.pool.forget(key)}
        with self._news:
            self._unwanted |= in_use
        return True

    def _gather(self) -> None:
        """Wait a moment for as many requests as there were before: a forward over many rows takes little longer.

        Callers who ask again when they are answered come one by one; without this the first of them has a forward of
        its own, in which all others wait.
        """
        until = time.monotonic() + self._patience
        while not self._ended and len(self._inbox) < self._expected and (left := until - time.monotonic()) > 0:
            self._news.wait(left)
        self._expected = 0

    @property
    def _busy(self) -> bool:
        return bool(len(self._writers) or len(self._questions) or len(self._prompts))

    def _turn(self) -> None:
        for ticket in list(self._watched):
            if ticket.over:
                self._watched.discard(ticket)
        self._prompts.drop(_over)
        self._writers.end()
        started = time.monotonic()
        merchants = self._forward()
        spent = time.monotonic() - started
        if len(self._writers):
            self._write(spent if self._writers.merchants - merchants else 0.0)
        elif not merchants:
            with self._news:
                if not self._inbox and not self._ended:
                    self._news.wait(_CHECKED)

    def _write(self, seconds: float) -> None:
        """Decode one token of every answer, and more until decoding has had as much time as the forward over new rows.

        Otherwise a merchant with endless questions would delay each token of the others by a whole forward.
        """
        until = time.monotonic() + seconds
        while True:
            self._writers.step()
            if not len(self._writers) or time.monotonic() >= until or self._newcomer():
                return

    def _newcomer(self) -> bool:
        """Whether a merchant without queued entries has sent a request, or the thread is to end."""
        with self._news:
            known = (self._questions.waits, self._prompts.waits)
            return self._ended is not None or any(
                not any(waits(job.merchant) for waits in known) for job in self._inbox
            )

    def _forward(self) -> set[str]:
        """Run one forward over new rows, questions and prompts in turn; returns the merchants of those rows."""
        for prompts in (self._prompts_first, not self._prompts_first):
            batch = self._next_prompts() if prompts else self._next_questions()
            if batch:
                self._prompts_first = not prompts
                if prompts:
                    self._writers.join(batch)
                else:
                    started = time.monotonic()
                    self._score(batch)
                    self._patience = min(_GATHERED, _GATHERING * (time.monotonic() - started))
                    self._expected = len({entry.job.ticket for entry in batch}) + len(self._inbox)
                return {entry.merchant for entry in batch}
        return set()

    def _next_prompts(self) -> list[Entry]:
        if not len(self._prompts):
            return []
        self._prompts.put_back(self._writers.make_way(self._prompts.heads()))
        return self._take(self._prompts, self._budget, self._writers.fitting())

    def _next_questions(self) -> list[Entry]:
        return self._take(self._questions, _AHEAD * self._budget, lambda entry: self.pool.fits(entry.job.work.needs))

    def _take(self, queue: FairQueue[Entry], budget: int, fits: Callable[[Entry], bool]) -> list[Entry]:
        """The next forward: the first entry in fair order, and others of similar length whose adapters fit in slots."""

        def together(offered: Sequence[Entry]) -> list[Entry]:
            first = offered[0]
            group, keys = [first], first.job.work.needs
            # entries of the same adapter stay together, so that a forward needs few adapters
            for entry in sorted(
                offered[1:], key=lambda entry: (entry.job.work.weights is not first.job.work.weights, _key(entry))
            ):
                if self.pool.fits(keys | entry.job.work.needs):
                    group.append(entry)
                    keys |= entry.job.work.needs
            batches = cut(
                [width(entry.tokens, entry.job.work.behind) for entry in group], self._budget, self._base.device
            )
            return [group[place] for place in next(batch for batch in batches if 0 in batch)]

        return queue.take(budget, fits, together, _over)

    def _score(self, batch: Sequence[Entry]) -> None:
        parts: dict[Hashable, list[list[Entry]]] = {}
        for entries in _alike(entry for entry in batch if not entry.job.over):
            for entry in entries:
                entry.job.ticket.begin(entry.tokens)
            parts.setdefault(self._apart(entries[0]), []).append(entries)
        for alike in parts.values():
            self._score_rows(alike)

    def _apart(self, entry: Entry) -> Hashable:
        """What rows must have in common to share a forward: nothing on most bases."""
        adapter = None if self.pool.stack.tells_rows_apart else _key(entry)
        return self._base.scorer.apart(self._base.model, entry.row), adapter

    def _score_rows(self, alike: list[list[Entry]]) -> None:
        """Compute each row once, for all entries that wait for it."""
        try:
            slots = self.pool.seat([entries[0].job.work.weights for entries in alike])
            order = sorted(range(len(alike)), key=slots.__getitem__)  # for rows in slot order, kernels copy no weights
            alike, slots = [alike[place] for place in order], [slots[place] for place in order]
            batch = [entries[0] for entries in alike]
            prefix = lay_before(
                [None if entry.job.work.weights is None else entry.job.work.weights.prefix for entry in batch],
                self._base.device,
                block_devices(self._base.model),
            )
            with self.pool.stack.rows(slots) if any(slots) else nullcontext():
                results = self._base.scorer.compute(self._base.model, [entry.row for entry in batch], prefix)
        except Exception as error:
            if len(alike) == 1:
                for entry in alike[0]:
                    entry.job.fail(error)
                return
            middle = len(alike) // 2
            self._score_rows(alike[:middle])
            self._score_rows(alike[middle:])
            return
        for entries, part in zip(alike, results, strict=True):
            for entry in entries:
                entry.job.scored(entry.place, part)
            loaded, key = entries[0].job.work.loaded, entries[0].row.key
            if loaded is not None and key is not None:
                loaded.keep(key, part)

    def _fail_all(self, error: Exception) -> None:
        with self._news:
            jobs, self._inbox = self._inbox, []
        entries = [*self._questions, *self._prompts]
        for queue in (self._questions, self._prompts):
            queue.drop(lambda _: True)
        tickets = [job.ticket for job in [*jobs, *(entry.job for entry in entries)]]
        for ticket in [*tickets, *(list(self._watched) if self._ended else ())]:
            ticket.fail(error)
        self._writers.fail(error)


def _over(entry: Entry) -> bool:
    return entry.job.over


def _key(entry: Entry) -> int:
    return id(entry.job.work.weights)


def _dead(why: str) -> EngineEnded:
    return EngineEnded(f"the serving thread of this engine has ended: {why}", next_step="load a new engine")


def _alike(batch: Iterable[Entry]) -> list[list[Entry]]:
    """The rows to compute, each with all entries that wait for it; entries whose vector is cached are answered at once.

    Requests of one merchant often need the vectors of the same items: these are computed once. An entry without a key
    is a row of its own.
    """
    rows: dict[Hashable, list[Entry]] = {}
    for entry in batch:
        loaded, key = entry.job.work.loaded, entry.row.key
        if loaded is None or key is None:
            rows[entry] = [entry]
        elif (vector := loaded.vectors.get(key)) is not None:
            entry.job.scored(entry.place, vector)
        else:
            rows.setdefault((id(loaded), key), []).append(entry)
    return list(rows.values())
