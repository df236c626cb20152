"""The way of a request to the serving thread: find its adapter, wait for what it needs, prepare it, hand it over.

Nothing here waits on a caller's thread that did not ask to wait: each wait ends with a task for a worker.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from shopfit.engine.jobs import Job
from shopfit.engine.library import Library
from shopfit.engine.memory import Loaded
from shopfit.engine.preparing import Preparer
from shopfit.engine.requests import Request
from shopfit.engine.scheduler import Scheduler
from shopfit.engine.workers import Workers
from shopfit.errors import RequestError, ShopfitError


class Intake:
    """Takes requests in, from any thread.

    Args:
        library: finds and loads adapters.
        preparer: makes jobs of requests.
        scheduler: runs them.
    """

    def __init__(self, library: Library, preparer: Preparer, scheduler: Scheduler) -> None:
        self._library = library
        self._preparer = preparer
        self._scheduler = scheduler
        self._workers = Workers("shopfit-preparer", each=2, most=16)

    def close(self) -> None:
        """Take no more."""
        self._workers.close()

    def take(self, job: Job, request: Request) -> None:
        """Bring a job to the serving thread, all of the way on other threads.

        Raises:
            RequestError: if the engine is closed.
        """
        self._workers.submit(job.merchant, lambda: self._advance(job, request))

    def take_here(self, job: Job, request: Request, before_loading: Callable[[], None]) -> bool:
        """Prepare a job on this thread, waiting for what it needs; whether it is to be started.

        A reference that is not in memory is loaded elsewhere: such a job starts by itself.

        Args:
            job: the job.
            request: what is asked.
            before_loading: called before an adapter is loaded here, which may have to wait for room.
        """
        loaded = self._got(job, lambda: self._library.hold(request.adapter))
        if loaded is None and not job.over and not isinstance(request.adapter, str):
            before_loading()
            loaded = self._got(job, lambda: self._library.load(request.adapter))
        if loaded is not None:
            self._hold_for(job, loaded)
            return self._waits_here(job, request, loaded) and self._fill(job, request, loaded)
        if not job.over:
            self._bring(job, request)
        return False

    def _got(self, job: Job, get: Callable[[], Loaded | None]) -> Loaded | None:
        try:
            return get()
        except Exception as error:
            job.fail(error)
            return None

    def _advance(self, job: Job, request: Request) -> None:
        """Bring a job as far as it goes without waiting; whatever it waits for brings it back here."""
        if job.over:
            return
        loaded = self._got(job, lambda: self._library.hold(request.adapter))
        if loaded is not None:
            self._hold_for(job, loaded)
            self._prepare(job, request, loaded)
        elif not job.over:
            self._bring(job, request)

    def _bring(self, job: Job, request: Request) -> None:
        def ready(loaded: Loaded | Exception) -> None:
            if isinstance(loaded, Exception):
                job.fail(loaded)
            else:
                self._hold_for(job, loaded)
                self._again(job, lambda: self._prepare(job, request, loaded))

        try:
            self._library.bring(request.adapter, ready)
        except Exception as error:
            job.fail(error)

    def _again(self, job: Job, task: Callable[[], None]) -> None:
        try:
            self._workers.submit(job.merchant, task)
        except ShopfitError as error:
            job.fail(error)

    def _prepare(self, job: Job, request: Request, loaded: Loaded) -> None:
        if job.over:
            return
        try:
            waits_for = self._preparer.waits_for(request, loaded)
        except Exception as error:
            job.fail(error)
            return
        if waits_for is None:
            self._prepare_now(job, request, loaded)
            return

        waits = [(job, request, loaded)]  # an index outlives whoever waited for it, and a future keeps its callbacks

        def there(index: Future[Any]) -> None:
            job, request, loaded = waits.pop()
            if (error := index.exception()) is None:
                self._again(job, lambda: self._prepare_now(job, request, loaded))
            else:
                job.fail(error if isinstance(error, Exception) else RequestError(str(error)))

        waits_for.add_done_callback(there)

    def _prepare_now(self, job: Job, request: Request, loaded: Loaded) -> None:
        if self._fill(job, request, loaded):
            self.start([job])

    def _waits_here(self, job: Job, request: Request, loaded: Loaded) -> bool:
        """Wait on this thread for what a job needs; whether it can go on."""
        if job.over:
            return False
        try:
            if (waits_for := self._preparer.waits_for(request, loaded)) is not None:
                waits_for.result()
        except Exception as error:
            job.fail(error)
            return False
        return True

    def _hold_for(self, job: Job, loaded: Loaded) -> None:
        """Whenever the job ends, its adapter is let go."""
        job.future.when_done(lambda: self._library.memory.release(loaded))

    def _fill(self, job: Job, request: Request, loaded: Loaded) -> bool:
        """Make a job ready to run; whether it is to run, and neither failed nor over nor answered already."""
        if job.over:
            return False
        try:
            self._preparer.fill(job, request, loaded)
        except Exception as error:
            job.fail(error)
            return False
        if not job.rows and job.line is None:
            job.finish([])  # nothing to rank
            return False
        return True

    def start(self, jobs: Sequence[Job]) -> None:
        """Hand jobs to the serving thread."""
        try:
            if jobs:
                self._scheduler.add(jobs)
        except Exception as error:
            for job in jobs:
                job.fail(error)
