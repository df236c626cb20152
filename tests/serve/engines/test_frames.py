"""Messages between the gateway and its engines: whole, in order and in one piece, however the socket cuts them."""

import asyncio
import socket
import struct
import threading
from typing import Any

import pytest

from shopfit.errors import EngineEnded
from shopfit.serve.engines.frames import FrameProtocol, FrameSocket, Unpacker, packed

MESSAGES: list[dict[str, Any]] = [
    {"id": 1, "text": "prix: 5 €"},
    {},
    {"id": 2, "text": "\ud800", "more": [None, 1.5, True]},  # half of a character, which a model may write
    {"id": 3, "text": "x" * 3_000},
]


@pytest.mark.parametrize("size", [1, 3, 4, 5, 1_000, 100_000])
def test_messages_are_found_however_they_were_cut(size: int) -> None:
    sent = b"".join(map(packed, MESSAGES))
    unpacker = Unpacker()
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
    assert [message for piece in pieces for message in unpacker.messages(piece)] == MESSAGES


def test_messages_arrive_at_both_ends() -> None:
    """Those to the engine all together, as they were sent together; its answers one by one, until its end is closed."""
    own, its = socket.socketpair()
    engine, heard, told = FrameSocket(its), [], []

    def answer() -> None:
        while messages := engine.receive():
            heard.extend(messages)
            for message in messages:
                engine.send(packed(message))
            if len(heard) == len(MESSAGES):
                its.shutdown(socket.SHUT_RDWR)

    async def ask() -> None:
        closed = asyncio.Event()
        frames = await FrameProtocol.connect(own, told.append, closed.set)
        for message in MESSAGES:
            frames.send(message)
        await closed.wait()
        frames.send({"id": 4})  # to nobody

    thread = threading.Thread(target=answer)
    thread.start()
    asyncio.run(ask())
    thread.join()
    its.close()
    assert heard == told == MESSAGES


@pytest.mark.parametrize("sent", [struct.pack("!I", 2**31), struct.pack("!I", 2) + b"{]"])
def test_what_is_no_message_ends_the_connection(sent: bytes) -> None:
    own, its = socket.socketpair()

    async def listen() -> None:
        closed = asyncio.Event()
        await FrameProtocol.connect(own, lambda _: None, closed.set)
        its.sendall(sent)
        await closed.wait()

    asyncio.run(listen())
    assert its.recv(1) == b""
    its.close()


def test_a_message_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(EngineEnded, match="2,147,483,648 bytes"):
        Unpacker().messages(struct.pack("!I", 2**31))
