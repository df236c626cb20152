"""An engine process: loads one base, and answers what the gateway asks on a socket until that is closed."""

import gc
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from shopfit.documents import document
from shopfit.errors import ShopfitError
from shopfit.merchant.catalog import Catalog
from shopfit.serve.engines.current_catalogs import CurrentCatalogs
from shopfit.serve.engines.frames import FrameSocket, Message, packed

if TYPE_CHECKING:
    from concurrent.futures import Future

    from shopfit.engine import TokenUsage

logger = logging.getLogger(__name__)

_TURN = 0.0005  # seconds of Python before another thread may go on


class AnsweringEngine(Protocol):
    """What answers in an engine process: an `Engine`, or vLLM servers as if they were one."""

    @property
    def base(self) -> Any: ...  # noqa: D102

    def __enter__(self) -> Any: ...

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None: ...

    def submit(  # noqa: D102
        self,
        request: Any,
        *,
        timeout: float | None = None,
        show: Callable[[str], None] | None = None,
        usage: "TokenUsage | None" = None,
        done: "Callable[[Future[Any]], object] | None" = None,
    ) -> "Future[Any]": ...

    def prefetch(self, adapters: Sequence[Any]) -> None: ...  # noqa: D102

    def status(self) -> Any: ...  # noqa: D102

    def set_catalog(self, merchant: str, catalog: Catalog | None) -> None: ...  # noqa: D102

    def has_catalog(self, merchant: str) -> bool: ...  # noqa: D102


class EngineServer:
    """Answers the messages of one gateway.

    Messages in: `ask` a request, `cancel` one, `warm` adapters, tell the `status`. Out: `part`s of a text, and last an
    `answer`, an `error`, or that it was `cancelled`; each names the `id` of what it is about, and those of requests say
    how many tokens were `read` and `written` for it so far.

    Args:
        engine: that answers.
        catalogs: the merchants' current ones.
        frames: to the gateway.
    """

    def __init__(self, engine: AnsweringEngine, catalogs: CurrentCatalogs, frames: FrameSocket) -> None:
        self._engine = engine
        self._catalogs = catalogs
        self._frames = frames
        self._asked: dict[int, Future[Any] | None] = {}  # None of those that wait for a catalog
        self._lock = threading.Lock()
        self._done: SimpleQueue[tuple[int, str, TokenUsage, Future[Any]]] = SimpleQueue()
        threading.Thread(target=self._answer, name="shopfit-answers", daemon=True).start()

    def run(self) -> None:
        """Answer until the gateway closes its end."""
        while messages := self._frames.receive():
            for message in messages:
                number = message.get("id", 0)
                try:
                    self._handle(number, message)
                except Exception as error:  # whatever a message does, the next one is answered
                    self._fail(number, error)

    def _handle(self, number: int, message: Message) -> None:
        match message["do"]:
            case "ask":
                self._ask(number, message)
            case "cancel":
                self._cancel(number)
            case "warm":
                self._engine.prefetch(message["adapters"])
            case "status":
                self._frames.send(packed({"id": number, "answer": document(self._engine.status())}))

    def _ask(self, number: int, message: Message) -> None:
        merchant, digest = message["adapter"].partition("/")[0], message.get("catalog")
        with self._lock:
            self._asked[number] = None
        if digest is not None and not self._catalogs.is_current(merchant, digest):

            def go_on(error: Exception | None) -> None:
                if error is not None:
                    self._fail(number, error)
                    return
                self._submit(number, merchant, message)

            self._catalogs.bring(merchant, digest, go_on)
        else:
            self._submit(number, merchant, message)

    def _submit(self, number: int, merchant: str, message: Message) -> None:
        from shopfit.engine import TokenUsage

        usage = TokenUsage()
        self._catalogs.hold(merchant)
        try:
            request = _request(message)
            with self._lock:
                if number not in self._asked:  # cancelled while it waited for a catalog
                    self._catalogs.release(merchant)
                    return
                self._asked[number] = self._engine.submit(
                    request,
                    timeout=message.get("timeout"),
                    show=self._shower(number, usage) if message.get("stream") else None,
                    usage=usage,
                    done=lambda future: self._done.put((number, merchant, usage, future)),
                )
        except Exception as error:
            self._catalogs.release(merchant)
            self._fail(number, error)
            return

    def _cancel(self, number: int) -> None:
        with self._lock:
            waits, future = number in self._asked, self._asked.pop(number, None)
        if future is not None:
            future.cancel()
        elif waits:
            self._frames.send(packed({"id": number, "cancelled": True}))

    def _shower(self, number: int, usage: "TokenUsage") -> Callable[[Any], None]:
        return lambda part: self._frames.send(packed({"id": number, "part": _part(part), **asdict(usage)}))

    def _answer(self) -> None:
        """Send answers, all that are there in one piece: one forward makes many at once."""
        while True:
            done = [self._done.get()]
            with suppress(Empty):
                while True:
                    done.append(self._done.get_nowait())
            self._frames.send(b"".join([self._reply(*one) for one in done]))

    def _reply(self, number: int, merchant: str, usage: "TokenUsage", future: "Future[Any]") -> bytes:
        with self._lock:
            self._asked.pop(number, None)
        self._catalogs.release(merchant)
        if future.cancelled():
            return packed({"id": number, "cancelled": True, **asdict(usage)})
        try:
            return packed({"id": number, "answer": document(future.result()), **asdict(usage)})
        except Exception as error:
            return _failure(number, error, **asdict(usage))

    def _fail(self, number: int, error: Exception) -> None:
        with self._lock:
            self._asked.pop(number, None)
        self._frames.send(_failure(number, error))


def _failure(number: int, error: Exception, **usage: int) -> bytes:
    if not isinstance(error, ShopfitError):
        logger.error("a request failed", exc_info=error)
        error = ShopfitError(
            f"the request could not be answered: {type(error).__name__}",
            next_step="other requests go on; please report this one if it comes again",
        )
    return packed({"id": number, "error": error.document(), **usage})


def _part(part: str) -> Any:
    """A part of a text; with its tokens, if they are known."""
    tokens = getattr(part, "tokens", None)
    return part if tokens is None else {"text": str(part), "tokens": document(tokens)}


def _request(message: Mapping[str, Any]) -> Any:
    from shopfit.engine import EmbedRequest, ExplainRequest, RecommendRequest
    from shopfit.recipe.item_rules import Rules
    from shopfit.tasks import task_of

    kinds = {"embed": EmbedRequest, "explain": ExplainRequest, "recommend": RecommendRequest}
    kind = message["kind"]
    options = dict(message.get("options") or {})
    if options.get("rules") is not None:
        options["rules"] = Rules(**options["rules"])
    made = kinds.get(kind) or task_of(kind).request
    return made(message["adapter"], message["fields"], **options)


def serve(frames: FrameSocket) -> None:
    """Load the base that the first message names, say that it is ready, and answer."""
    received = frames.receive()
    if not received:
        return
    start = received[0]
    try:
        import torch

        from shopfit.registry import Registry
        from shopfit.settings import Settings

        if start["threads"]:
            torch.set_num_threads(start["threads"])
        settings = Settings(Path(start["home"]), start["registry"], start["blobs"])
        registry = Registry.open(settings)
        options = {"quantization": start["quantization"], **start["options"]}
        engine = _engine(start["base"], start.get("upstream", ""), registry=registry, settings=settings, **options)
    except ShopfitError as error:
        frames.send(_failure(start["id"], error))
        return
    # threads here read catalogs in Python while others answer: these get their turn soon, and full collections of
    # garbage, which hold up all of them, pass over what was loaded to stay
    sys.setswitchinterval(_TURN)
    gc.freeze()
    with registry, engine:
        frames.send(packed({"id": start["id"], "answer": {"fingerprint": engine.base.fingerprint}}))
        EngineServer(engine, CurrentCatalogs(registry, engine.set_catalog, engine.has_catalog), frames).run()


def _engine(base: str, upstream: str, **options: Any) -> AnsweringEngine:
    """Of a base; one that asks vLLM, if there is an upstream."""
    if upstream:
        from shopfit.serve.engines.upstream import UpstreamEngine

        return UpstreamEngine.load(upstream, base, **options)
    from shopfit.engine import Engine

    return Engine.load(base, **options)


def main(connection: socket.socket) -> None:
    """Serve the gateway at the other end of a socket; the process ends with it.

    Args:
        connection: a connected stream socket.
    """
    os.setsid()  # a Ctrl-C is for the gateway, which lets its engines finish first
    serve(FrameSocket(connection))
    os._exit(0)  # threads that still load or build would keep the process
