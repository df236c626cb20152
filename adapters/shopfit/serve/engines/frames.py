"""Messages between the gateway and its processes: JSON objects, each behind its length, on a Unix socket."""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Mapping
from typing import Any

from shopfit.errors import EngineEnded

_LENGTH, _CONTENT = struct.Struct("!I"), struct.Struct("!Q")
_LONGEST = 256 * 1024 * 1024  # bytes of a message: ten thousand long documents fit

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


async def receive(reader: asyncio.StreamReader) -> Message | None:
    """The next message; None at the end.

    Raises:
        EngineEnded: if what comes is no message.
    """
    try:
        head = await reader.readexactly(_LENGTH.size)
        return _unpacked(await reader.readexactly(_length(head)))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


class FrameSocket:
    """A blocking end. One thread receives, any thread sends.

    Args:
        connection: a connected stream socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")
        self._sending = threading.Lock()

    def receive(self) -> Message | None:
        """The next message; None when the other end is gone."""
        try:
            head = self._stream.read(_LENGTH.size)
            if len(head) < _LENGTH.size:
                return None
            content = self._stream.read(length := _length(head))
        except ConnectionError:
            return None
        return _unpacked(content) if len(content) == length else None

    def receive_content(self) -> bytes | None:
        """What comes behind a message, of any length and not JSON; None when the other end is gone."""
        try:
            head = self._stream.read(_CONTENT.size)
            if len(head) < _CONTENT.size:
                return None
            content = self._stream.read(length := _CONTENT.unpack(head)[0])
        except ConnectionError:
            return None
        return content if len(content) == length else None

    def close(self) -> None:
        """Close it, so that the other end sees the end."""
        self._stream.close()
        self._connection.close()

    def send_content(self, content: bytes) -> None:
        """Send what comes behind a message."""
        with self._sending:
            try:
                self._connection.sendall(_CONTENT.pack(len(content)))
                self._connection.sendall(content)
            except OSError:
                return

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; if the other end is gone, nobody needs it, and nothing will be received any more."""
        content = packed(message)
        with self._sending:
            try:
                self._connection.sendall(content)
            except OSError:
                return


def _length(head: bytes) -> int:
    (length,) = _LENGTH.unpack(head)
    if length > _LONGEST:
        raise _too_long(length)
    return int(length)


def _unpacked(content: bytes) -> Message:
    message: Message = json.loads(content.decode("utf-8", "surrogatepass"))
    return message


def _too_long(length: int) -> EngineEnded:
    return EngineEnded(
        f"a message between gateway and engine has {length:,} bytes (allowed: {_LONGEST:,})",
        next_step="ask for less in one request",
    )
