"""The serving thread: everything that touches the model, one forward after the other.

Each turn runs at most one forward over new rows (questions to score, or prompts of answers to write) and one decode
step of all answers being written, so that new requests join while others go on (iteration-level scheduling: Orca,
OSDI 2022). Merchants take turns; a row's adapter stays in its slot until the row's last token.
"""

import threading
from collections.abc import Hashable, Iterable
from contextlib import nullcontext
from itertools import chain
from typing import TYPE_CHECKING

from shopfit.base.load import Base
from shopfit.base.prefix import Prefix, lay_before
from shopfit.base.prompt import Question
from shopfit.engine.answering import Floats, cut, embed_batch, score_batch
from shopfit.engine.decoding import Decoder, Line
from shopfit.engine.fairness import FairQueue
from shopfit.engine.jobs import NONE, Entry, Job
from shopfit.engine.library import closed
from shopfit.engine.pool import SlotPool

if TYPE_CHECKING:
    from shopfit.adapter.weights import Key

_AHEAD = 2  # forwards whose rows are chosen at a time, so that rows of like length go together
_CHECKED = 0.05  # seconds between looks at deadlines while nothing can run


class Scheduler:
    """Runs jobs on a base. Jobs may come from any thread.

    Args:
        base: the base; from now on only this thread may use its model.
        pool: its slots.
        rows: answers being written at a time.
        batch_tokens: tokens a forward over new rows, padding included, unless one row alone is longer.
    """

    def __init__(self, base: Base, pool: SlotPool, *, rows: int, batch_tokens: int) -> None:
        self.pool = pool
        self._base = base
        self._pad = base.tokenizer.pad_token_id
        self._budget = batch_tokens
        self._decoder = Decoder(base.model, base.tokenizer, rows=rows, stack=pool.stack)
        self._written: dict[Line, Job] = {}
        self._queue: FairQueue[Entry] = FairQueue()
        self._batches: list[list[Entry]] = []
        self._inbox: list[Job] = []
        self._watched: set[Job] = set()
        self._news = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None

    @property
    def load(self) -> tuple[int, int]:
        """Rows that wait for a forward, and answers being written."""
        return len(self._inbox) + len(self._queue) + sum(map(len, list(self._batches))), len(self._written)

    def add(self, jobs: Iterable[Job]) -> None:
        """Give jobs to the serving thread, all at once.

        Raises:
            RequestError: if it was stopped.
        """
        with self._news:
            if self._stopped:
                raise closed()
            self._inbox += jobs
            self._begin()
            self._news.notify()

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="shopfit-engine", daemon=True)
            self._thread.start()

    def watch(self, job: Job) -> None:
        """Let a job that is not ready yet fail when its time is up."""
        with self._news:
            self._watched.add(job)
            self._begin()
            self._news.notify()
        job.future.add_done_callback(lambda _: self._watched.discard(job))

    def stop(self) -> None:
        """End the serving thread after its present turn; what is not answered fails."""
        with self._news:
            self._stopped = True
            self._news.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while self._wait():
            try:
                self._turn()
            except Exception as error:
                self._fail_all(error)
        self._fail_all(closed())

    def _wait(self) -> bool:
        """Sleep until there is something to do; whether to go on."""
        with self._news:
            while not (self._stopped or self._inbox or self._batches or self._written or len(self._queue)):
                self._news.wait(_CHECKED if self._watched else None)
                if self._watched:
                    break
            if self._stopped:
                return False
            jobs, self._inbox = self._inbox, []
        for job in jobs:
            for entry in job.entries():
                self._queue.add(entry)
        return True

    def _turn(self) -> None:
        for job in list(self._watched):
            if job.over:
                self._watched.discard(job)
        self._queue.drop(lambda entry: entry.job.over)
        self._end_lines()
        if not self._batches:
            self._batches = self._choose()
        if batch := [entry for entry in self._next() if not entry.job.over]:
            if batch[0].job.line is None:
                self._score(batch)
            else:
                self._join(batch)
        elif not self._written and len(self._queue):
            with self._news:
                self._news.wait(_CHECKED)
        if self._written:
            try:
                self._decoder.step()
            except Exception as error:
                self._drop_lines(error)
                return
            for job in self._written.values():
                job.written()
            self._end_lines()

    def _choose(self) -> list[list[Entry]]:
        """The next entries in fair order, put together into forwards."""
        joining: set[Line] = set()
        keys = NONE
        waiting_for_slot = False

        def fits(entry: Entry) -> bool:
            nonlocal keys, waiting_for_slot
            line, needed = entry.job.line, entry.job.needs
            if line is None:
                return self.pool.fits(needed)
            if len(joining) >= self._decoder.free or waiting_for_slot:
                return False
            if not self.pool.fits(keys | needed, spare=1):
                # lines pin their slots: none may join before this one, or it might wait for ever
                waiting_for_slot = True
                return False
            joining.add(line)
            keys |= needed
            return True

        taken = self._queue.take(_AHEAD * self._budget, fits)
        lines = [entry for entry in taken if entry.job.line is not None]
        return [*self._forwards(lines), *self._forwards([entry for entry in taken if entry.job.line is None])]

    def _next(self) -> list[Entry]:
        """The first forward whose adapters can be seated beside those that are being written."""
        for place, batch in enumerate(self._batches):
            if not self.pool.fits(_needs(batch)):
                if not all(self.pool.fits(entry.job.needs) for entry in batch):
                    continue
                self._batches[place : place + 1] = self._forwards(batch)  # answers have been begun since
            return self._batches.pop(place)
        return []

    def _forwards(self, entries: list[Entry]) -> list[list[Entry]]:
        """Rows of like length together, and no more adapters in one forward than can be seated."""
        groups: list[list[Entry]] = []
        keys = NONE
        for entry in sorted(entries, key=lambda entry: id(entry.job.weights)):
            if not groups or not self.pool.fits(keys | entry.job.needs):
                groups.append([])
                keys = NONE
            keys |= entry.job.needs
            groups[-1].append(entry)
        return [
            [group[index] for index in batch]
            for group in groups
            for batch in cut([entry.tokens for entry in group], self._budget)
        ]

    def _score(self, batch: list[Entry]) -> None:
        alike = _alike(batch)
        batch = [entries[0] for entries in alike]
        if not batch:
            return
        try:
            slots = self.pool.seat([entry.job.weights for entry in batch])
            order = sorted(range(len(batch)), key=slots.__getitem__)  # rows in slot order need no copies
            alike, slots = [alike[place] for place in order], [slots[place] for place in order]
            batch = [entries[0] for entries in alike]
            prefix = lay_before(
                [None if entry.job.weights is None else entry.job.weights.prefix for entry in batch], self._base.device
            )
            with self.pool.stack.rows(slots) if any(slots) else nullcontext():
                scores = self._results([entry.question for entry in batch], prefix)
        except Exception as error:
            for entry in chain.from_iterable(alike):
                entry.job.fail(error)
            return
        for entries, part in zip(alike, scores, strict=True):
            if (loaded := entries[0].job.loaded) is not None and entries[0].place >= entries[0].job.own:
                loaded.keep(entries[0].question.prompt, part)
            for entry in entries:
                entry.job.scored(entry.place, part)

    def _results(self, questions: list[Question], prefix: Prefix | None) -> list[Floats]:
        """Scores of the answers to each question, or for an encoder its vector."""
        if self._base.encoder:
            return embed_batch(self._base.model, [question.prompt for question in questions], self._pad)
        return score_batch(self._base.model, questions, self._pad, prefix)

    def _join(self, batch: list[Entry]) -> None:
        jobs = [entry.job for entry in batch]
        weights = [job.weights for job in jobs]
        try:
            slots = self.pool.seat(weights, pin=True)
        except Exception as error:
            for job in jobs:
                job.fail(error)
            return
        pairs = sorted(zip(slots, jobs, strict=True), key=lambda pair: pair[0])
        lines = []
        for slot, job in pairs:
            assert job.line is not None
            job.line.slot = slot
            job.line.prefix = None if job.weights is None else job.weights.prefix
            lines.append(job.line)
        try:
            self._decoder.join(lines)
        except Exception as error:
            for job in jobs:
                job.fail(error)
                self.pool.unpin(job.weights)
            self._decoder.take(set(lines).__contains__)
            return
        for _, job in pairs:
            assert job.line is not None
            self._written[job.line] = job
            job.written()
        self._end_lines()

    def _end_lines(self) -> None:
        """Let go of lines that are finished, or that nobody waits for."""
        for line in self._decoder.take(lambda line: line.finish is not None or self._written[line].over):
            self._over(line).finish(line)

    def _drop_lines(self, error: Exception) -> None:
        for line in self._decoder.take(lambda _: True):
            self._over(line).fail(error)

    def _over(self, line: Line) -> Job:
        """The job of a line that is written no more; its adapter may leave its slot."""
        job = self._written.pop(line)
        self.pool.unpin(job.weights)
        return job

    def _fail_all(self, error: Exception) -> None:
        with self._news:
            jobs, self._inbox = self._inbox, []
        entries = [*self._queue, *(entry for batch in self._batches for entry in batch)]
        self._queue.drop(lambda _: True)
        self._batches = []
        for job in [*jobs, *(entry.job for entry in entries)]:
            job.fail(error)
        self._drop_lines(error)


def _alike(batch: Iterable[Entry]) -> list[list[Entry]]:
    """The rows to compute, each with all entries that it answers; what an adapter knows already is answered at once.

    On an encoder requests that wait together ask for the same items, whose vectors are made once. Elsewhere, and for a
    request's own text, an entry is a row.
    """
    rows: dict[Hashable, list[Entry]] = {}
    for entry in batch:
        loaded, text = entry.job.loaded, entry.question.prompt
        if loaded is None or entry.place < entry.job.own:
            rows[entry] = [entry]
        elif (vector := loaded.vectors.get(text)) is not None:
            entry.job.scored(entry.place, vector)
        else:
            rows.setdefault((id(loaded), text), []).append(entry)
    return list(rows.values())


def _needs(batch: Iterable[Entry]) -> "frozenset[Key]":
    return NONE.union(*(entry.job.needs for entry in batch))
