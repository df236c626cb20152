"""Connections as uvicorn serves them, with bounds on what no key has vouched for yet: the size and time of heads."""

import asyncio
import json
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shopfit.errors import ShopfitError
from shopfit.serve.failures import error_body

MOST_HEAD = 64 * 1024
"""Bytes of a request besides its body: its line, headers and trailers."""
_FRAMING = 16  # bytes that a byte of a body may take besides, as the smallest chunks do
_SLOWEST_HEAD = 30.0  # seconds until a head must have come
_LOOK = 0.2  # seconds between looks whether a client that sends no more still reads
_PROBE = 5.0  # seconds between what is sent to it to know that
_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"  # before an answer it means nothing: RFC 9110, 15.2


class MalformedRequestError(ShopfitError):
    """What was sent is no HTTP."""

    http_status = 400
    cure = "Send HTTP/1.1, as every common client does. TLS ends at a proxy before the gateway."


class HeadTooLargeError(ShopfitError):
    """A request's headers have too many bytes."""

    http_status = 431
    cure = "Send fewer or shorter headers: all of them together may have 64 KB."


class Connection(HttpToolsProtocol):
    """One connection.

    uvicorn's parser keeps headers of any size and waits for them for ever, so both are bounded here, as nothing of the
    application is asked before they are there.
    """

    _besides = 0  # bytes of the request that are none of its body
    _bodies = 0  # bytes of its body
    _began = _has_head = False
    _waiting: asyncio.TimerHandle | None = None
    _looking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._wait_no_more()
        if self._looking is not None:
            self._looking.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes of requests have come."""
        self._began, bodies = False, self._bodies
        super().data_received(data)
        if self.transport.is_closing():
            return
        if not self._began:  # else most of the data may belong to requests before this one
            self._besides += len(data) - (self._bodies - bodies)
        if self._besides > MOST_HEAD + _FRAMING * self._bodies:
            error = HeadTooLargeError(
                f"the headers of the request have more than {MOST_HEAD:,} bytes", next_step="send fewer or shorter ones"
            )
            self._refuse(error)
        elif self._waiting is None and not (self._has_head and self._is_answering):
            self._wait_for_head()  # also if these were empty lines, after which uvicorn waits for ever

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. If its request is whole, it gets the answer, as it may still read; then it ends.

        A client that has gone away has sent the same, and uvicorn takes every one for gone. Which it is shows when
        something is sent: who has gone answers with a reset. So interim responses are, where HTTP allows them.
        """
        cycle: Any = self.cycle
        if not self._is_answering or cycle.more_body:
            return False
        if not cycle.response_started and cycle.scope["http_version"] != "1.1":
            return False  # it must get no interim response, and would hold its row
        cycle.keep_alive = False
        self._look_for_reset(due=self.loop.time())
        return True

    def _look_for_reset(self, due: float) -> None:
        """Look until the answer is sent; from `due` on with something sent before, unless the answer has begun."""
        self._looking = None
        if self.transport.is_closing():
            return
        if self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
            return
        cycle: Any = self.cycle
        if self.loop.time() >= due and not cycle.response_started and not self.pipeline:
            self.transport.write(_INTERIM)
            due = self.loop.time() + _PROBE
        self._looking = self.loop.call_later(_LOOK, self._look_for_reset, due)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._began, self._has_head = True, False
        self._besides = self._bodies = 0

    def on_headers_complete(self) -> None:
        """All before its body is there."""
        self._has_head = True
        self._wait_no_more()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of its body is there."""
        self._bodies += len(body)
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(MalformedRequestError(msg, next_step="correct or update the client"))

    def _wait_for_head(self) -> None:
        self._waiting = self.loop.call_later(_SLOWEST_HEAD, self._late)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _late(self) -> None:
        self._waiting = None
        if self._is_answering:
            self._wait_for_head()  # of a request behind the one that is being answered
        elif not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, error: ShopfitError) -> None:
        if not self._is_answering:  # else this would stand in the middle of an answer
            content = json.dumps(error_body(error)).encode()
            head = (
                f"HTTP/1.1 {error.http_status} {type(error).__name__.removesuffix('Error')}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + content)
        self.transport.close()

    @property
    def _is_answering(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete
