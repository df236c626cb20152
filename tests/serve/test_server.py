"""The socket that a gateway listens at."""

import socket

from shopfit.serve.options import ServeOptions
from shopfit.serve.server import listen


def test_connections_send_what_they_have_at_once() -> None:
    """Or a body would wait behind its headers until the client has acknowledged these, which takes it 40 ms."""
    with listen(ServeOptions(port=0)) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
