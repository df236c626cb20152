"""Takes a request to the serving thread: load its adapter, wait for its search index, compile it, schedule it.

`take` never blocks the caller: what a request waits for continues it as a task for a worker thread.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from shopfit.engine.adapter_cache import Loaded
from shopfit.engine.adapter_loader import AdapterLoader
from shopfit.engine.fair_thread_pool import Workers
from shopfit.engine.jobs import Job, Ticket
from shopfit.engine.request_compilation import Compiler
from shopfit.engine.scheduler import Scheduler
from shopfit.errors import RequestError, ShopfitError
from shopfit.tasks.requests import Request


class Intake:
    """Takes requests from any thread.

    Args:
        loader: finds and loads adapters.
        compiler: compiles requests to work.
        scheduler: runs the work.
    """

    def __init__(self, loader: AdapterLoader, compiler: Compiler, scheduler: Scheduler) -> None:
        self._loader = loader
        self._compiler = compiler
        self._scheduler = scheduler
        self._workers = Workers("shopfit-preparer", each=2, most=16)

    def close(self) -> None:
        """Take no more requests."""
        self._workers.close()

    def take(self, ticket: Ticket, request: Request) -> None:
        """Load, compile and schedule a request, all on other threads.

        Raises:
            EngineEnded: if the engine is closed.
        """
        self._workers.submit(ticket.merchant, lambda: self._advance(ticket, request))

    def take_here(self, ticket: Ticket, request: Request, before_loading: Callable[[], None]) -> Job | None:
        """Compile a request on this thread, waiting for what it needs; the job that the caller must start, if any.

        The adapter of a reference that is not in memory is loaded on another thread, which also starts the job.

        Args:
            ticket: of the request.
            request: of any task.
            before_loading: called before an adapter is loaded on this thread, which may wait for room in the cache.
        """
        loaded = self._got(ticket, lambda: self._loader.hold(request.adapter))
        if loaded is None and not ticket.over and not isinstance(request.adapter, str):
            before_loading()
            loaded = self._got(ticket, lambda: self._loader.load(request.adapter))
        if loaded is not None:
            self._hold_for(ticket, loaded)
            return self._compiled(ticket, request, loaded) if self._waited(ticket, request, loaded) else None
        if not ticket.over:
            self._bring(ticket, request)
        return None

    def _got(self, ticket: Ticket, get: Callable[[], Loaded | None]) -> Loaded | None:
        try:
            return get()
        except Exception as error:
            ticket.fail(error)
            return None

    def _advance(self, ticket: Ticket, request: Request) -> None:
        """Take a request as far as it goes without waiting; what it waits for calls this again."""
        if ticket.over:
            return
        loaded = self._got(ticket, lambda: self._loader.hold(request.adapter))
        if loaded is not None:
            self._hold_for(ticket, loaded)
            self._go_on(ticket, request, loaded)
        elif not ticket.over:
            self._bring(ticket, request)

    def _bring(self, ticket: Ticket, request: Request) -> None:
        def ready(loaded: Loaded | Exception) -> None:
            if isinstance(loaded, Exception):
                ticket.fail(loaded)
            else:
                self._hold_for(ticket, loaded)
                self._again(ticket, lambda: self._go_on(ticket, request, loaded))

        try:
            self._loader.bring(request.adapter, ready)
        except Exception as error:
            ticket.fail(error)

    def _again(self, ticket: Ticket, task: Callable[[], None]) -> None:
        try:
            self._workers.submit(ticket.merchant, task)
        except ShopfitError as error:
            ticket.fail(error)

    def _go_on(self, ticket: Ticket, request: Request, loaded: Loaded) -> None:
        if ticket.over:
            return
        try:
            waits_for = self._compiler.waits_for(request, loaded)
        except Exception as error:
            ticket.fail(error)
            return
        if waits_for is None:
            self._start(ticket, request, loaded)
            return

        waits = [(ticket, request, loaded)]  # an index outlives whoever waited for it, and a future keeps its callbacks

        def there(index: Future[Any]) -> None:
            ticket, request, loaded = waits.pop()
            if (error := index.exception()) is None:
                self._again(ticket, lambda: self._start(ticket, request, loaded))
            else:
                ticket.fail(error if isinstance(error, Exception) else RequestError(str(error)))

        waits_for.add_done_callback(there)

    def _start(self, ticket: Ticket, request: Request, loaded: Loaded) -> None:
        if (job := self._compiled(ticket, request, loaded)) is not None:
            self.start([job])

    def _waited(self, ticket: Ticket, request: Request, loaded: Loaded) -> bool:
        """Wait on this thread for the index that a request needs; whether it can go on."""
        if ticket.over:
            return False
        try:
            if (waits_for := self._compiler.waits_for(request, loaded)) is not None:
                waits_for.result()
        except Exception as error:
            ticket.fail(error)
            return False
        return True

    def _hold_for(self, ticket: Ticket, loaded: Loaded) -> None:
        """Release the adapter when the request ends, however it does."""
        ticket.future.when_done(lambda: self._loader.adapter_cache.release(loaded))

    def _compiled(self, ticket: Ticket, request: Request, loaded: Loaded) -> Job | None:
        """The job to run; None if the request is over, failed, or was answered without the model."""
        if ticket.over:
            return None
        try:
            job = Job(ticket, self._compiler.compile(request, loaded))
        except Exception as error:
            ticket.fail(error)
            return None
        if not job.work.rows and job.work.sequence is None:
            job.finish([])
            return None
        return job

    def start(self, jobs: Sequence[Job]) -> None:
        """Hand jobs to the serving thread."""
        try:
            if jobs:
                self._scheduler.add(jobs)
        except Exception as error:
            for job in jobs:
                job.fail(error)


def forgetting(compiler: Compiler, scheduler: Scheduler) -> Callable[[Loaded], None]:
    """The callback for an adapter that no reference names any more."""

    def gone(loaded: Loaded) -> None:
        compiler.forget(loaded.merchant)
        if loaded.weights is not None:
            scheduler.forget(loaded.weights.key)

    return gone
