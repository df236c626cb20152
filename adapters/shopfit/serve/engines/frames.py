"""Messages between the gateway and its processes: JSON objects, each behind its length, on a Unix socket."""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

from shopfit.errors import EngineEnded

_LENGTH, _CONTENT = struct.Struct("!I"), struct.Struct("!Q")
_LONGEST = 256 * 1024 * 1024  # bytes of a message: ten thousand long documents fit
_MOST = 256 * 1024  # bytes that are read at a time

Message = dict[str, Any]


def packed(message: Mapping[str, Any]) -> bytes:
    """A message as it is sent.

    Raises:
        EngineEnded: if it is longer than a message may be.
    """
    content = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    if len(content) > _LONGEST:
        raise _too_long(len(content))
    return _LENGTH.pack(len(content)) + content


class Unpacker:
    """Finds the messages in what arrives, however it was cut."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def messages(self, data: bytes) -> list[Message]:
        """Those that are complete with these bytes.

        Args:
            data: what has arrived since the last call.

        Raises:
            EngineEnded: if a message is longer than a message may be.
            ValueError: if one is no JSON.
        """
        waiting, at, found = self._waiting, 0, []
        waiting += data
        while len(waiting) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(waiting, at)
            if length > _LONGEST:
                raise _too_long(length)
            begin, end = at + _LENGTH.size, at + _LENGTH.size + length
            if end > len(waiting):
                break
            found.append(json.loads(waiting[begin:end].decode("utf-8", "surrogatepass")))
            at = end
        del waiting[:at]
        return found


class FrameProtocol(asyncio.Protocol):
    """The gateway's end.

    Args:
        received: called with each message.
        closed: called when no more will come: the engine's end is closed, or what came is no message.
    """

    def __init__(self, received: Callable[[Message], None], closed: Callable[[], None]) -> None:
        self._received = received
        self._closed = closed
        self._unpacker = Unpacker()
        self._transport: asyncio.WriteTransport | None = None

    @classmethod
    async def connect(
        cls, connection: socket.socket, received: Callable[[Message], None], closed: Callable[[], None]
    ) -> "FrameProtocol":
        """The end of a connected Unix socket, on the running event loop."""
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_unix_connection(lambda: cls(received, closed), sock=connection)
        return protocol

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; if the engine is gone, nobody needs it.

        Raises:
            EngineEnded: if it is longer than a message may be.
        """
        content = packed(message)
        if self._transport is not None:
            self._transport.write(content)  # what is under way is bounded, so this buffer is

    def close(self) -> None:
        """Close this end, when what was sent has left."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It can be written to."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Some messages, or parts of them, are there."""
        try:
            messages = self._unpacker.messages(data)
        except (EngineEnded, ValueError):
            self.close()  # nothing behind it can be understood
            return
        for message in messages:
            self._received(message)

    def connection_lost(self, _: Exception | None) -> None:
        """No more will come."""
        self._transport = None
        self._closed()


class FrameSocket:
    """A blocking end. One thread receives, any thread sends.

    Args:
        connection: a connected stream socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._unpacker = Unpacker()
        self._sending = threading.Lock()

    def receive(self) -> list[Message]:
        """The messages that have arrived, at least one; none when the gateway is gone."""
        messages: list[Message] = []
        while not messages:
            try:
                data = self._connection.recv(_MOST)
            except ConnectionError:
                break
            if not data:
                break
            messages = self._unpacker.messages(data)
        return messages

    def send(self, content: bytes) -> None:
        """Send messages that were packed; if the gateway is gone, nobody needs them."""
        with self._sending:
            try:
                self._connection.sendall(content)
            except OSError:
                return


class ContentSocket:
    """A blocking end of a connection on which each message has content behind it, of any length and not JSON.

    Args:
        connection: a connected stream socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")

    def receive(self) -> tuple[Message, bytes] | None:
        """The next message and its content; None when the other end is gone."""
        message = self._receive(_LENGTH)
        content = None if message is None else self._receive(_CONTENT)
        if message is None or content is None:
            return None
        return json.loads(message.decode("utf-8", "surrogatepass")), content

    def _receive(self, head: struct.Struct) -> bytes | None:
        try:
            length = self._stream.read(head.size)
            if len(length) < head.size:
                return None
            content = self._stream.read(head.unpack(length)[0])
        except ConnectionError:
            return None
        return content if len(content) == head.unpack(length)[0] else None

    def send(self, message: Mapping[str, Any], content: bytes = b"") -> None:
        """Send a message with its content; if the other end is gone, nobody needs it.

        Raises:
            EngineEnded: if the message is longer than a message may be.
        """
        try:
            self._connection.sendall(packed(message) + _CONTENT.pack(len(content)))
            self._connection.sendall(content)
        except OSError:
            return

    def close(self) -> None:
        """Close it, so that the other end sees the end."""
        self._stream.close()
        self._connection.close()


def _too_long(length: int) -> EngineEnded:
    return EngineEnded(
        f"a message between gateway and engine has {length:,} bytes (allowed: {_LONGEST:,})",
        next_step="ask for less in one request",
    )
