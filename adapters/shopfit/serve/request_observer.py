"""Pure ASGI middleware around all others: headers that every answer has, and what is logged and counted of it."""

import logging
from collections.abc import MutableMapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

from starlette.datastructures import MutableHeaders

from shopfit.serve.middleware import App, Receive, Scope, Send
from shopfit.serve.request_log import log_request
from shopfit.serve.request_record import RequestRecord, begin_record

if TYPE_CHECKING:
    from shopfit.serve.gateway import Gateway

logger = logging.getLogger(__name__)

CLIENT_GONE = 499  # as proxies log it: the client went away before there was an answer


class RequestObserver:
    """Begins the record of each request, and hands it to log and metrics when its answer is sent.

    Args:
        app: that answers.
        gateway: whose metrics and spans these are.
    """

    def __init__(self, app: App, gateway: "Gateway") -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = begin_record()
        status = CLIENT_GONE

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if record.headers:
                    MutableHeaders(scope=message).update(record.headers)
            await send(message)

        with self._gateway.tracing.request(scope) as span:
            try:
                await self._app(scope, receive, answer)
            except Exception:
                status = max(status, 500)
                raise
            finally:
                endpoint = _endpoint(scope)
                status = record.broken or status
                seconds = perf_counter() - record.began
                self._gateway.metrics.answered(record, endpoint, status, seconds)
                self._gateway.traffic.answered(record, status, seconds)
                log_request(record, endpoint, status, seconds)
                span.end(record, endpoint, status)
                _finish(record)


def _finish(record: RequestRecord) -> None:
    for call in record.after:
        try:
            call()
        except Exception:  # the answer is sent: nobody but the log can be told
            logger.exception("what follows the answer %s failed", record.answer)


def _endpoint(scope: Scope) -> str:
    """The method and the path's pattern, of those that there are: never what a client made up."""
    pattern = getattr(scope.get("route"), "path", None)
    return f"{scope['method']} {pattern}" if pattern else "other"
