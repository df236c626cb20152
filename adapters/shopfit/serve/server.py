"""Runs the gateway: listens, answers, and on SIGTERM lets what is under way end."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from shopfit.errors import EngineEnded, ShopfitError
from shopfit.registry import Registry
from shopfit.serve.app import make_app
from shopfit.serve.connections import Connection
from shopfit.serve.gateway import Gateway
from shopfit.serve.options import ServeOptions
from shopfit.settings import Settings

logger = logging.getLogger(__name__)

_LAST = 2  # seconds after `drain` in which those that were cut off are told so
_KEEP_ALIVE = 75  # seconds that an idle connection stays: longer than load balancers keep theirs


class _Server(uvicorn.Server):
    """uvicorn, which tells the gateway that it is ending as soon as it knows."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what is under way end; what has not when its time is up is told so, and streams end with that."""
        up = asyncio.get_running_loop().call_later(self._gateway.options.drain, self._time_is_up)
        await super().shutdown(sockets)
        up.cancel()

    def _time_is_up(self) -> None:
        error = EngineEnded(
            "the gateway is ending, and this answer was not ready in the time that was left",
            next_step="send the request again",
        )
        logger.warning("requests that are cut off: %s", sum(one.under_way for one in self._gateway.engines.engines))
        self._ending = asyncio.ensure_future(self._gateway.engines.give_up(error))

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._gateway.draining = True
        super().handle_exit(sig, frame)


def run(settings: Settings, options: ServeOptions, listening_at: Callable[[str], None] = lambda _: None) -> None:
    """Serve until SIGTERM or SIGINT; then no new requests, and at most `options.drain` seconds for those under way.

    Args:
        settings: where the registry is.
        options: of the gateway.
        listening_at: is told the address, once the gateway has started.

    Raises:
        ShopfitError: if the address cannot be listened at, or something else that the options name is not there.
        RegistryError: if the registry or its blobs cannot be reached.
    """
    with listen(options) as listening, Registry.open(settings) as registry:
        gateway = Gateway(registry, settings, options)
        config = uvicorn.Config(
            make_app(gateway),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here goes by what a proxy says of its clients
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=round(options.drain) + _LAST,
            http=Connection,
            ws="none",
            lifespan="on",
        )
        try:
            with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:  # uvloop where it is there
                runner.run(_serve(_Server(config, gateway), gateway, listening, listening_at))
        except KeyboardInterrupt:  # uvicorn raises the signal again when it has ended as it should
            if not gateway.draining:
                raise
        logger.info("ended")


async def _serve(
    server: _Server, gateway: Gateway, listening: socket.socket, listening_at: Callable[[str], None]
) -> None:
    try:
        await gateway.start()  # here, as uvicorn would not tell why the application has not started
    except BaseException:
        await gateway.close()
        raise
    host, port = listening.getsockname()[:2]
    logger.info("serving http://%s:%s (API docs at /docs, console at /console)", host, port)
    listening_at(f"http://{host}:{port}")
    await server.serve(sockets=[listening])


def listen(options: ServeOptions) -> socket.socket:
    """A socket that listens where a gateway is to serve.

    Args:
        options: with the host and the port; 0 for any free one.

    Raises:
        ShopfitError: if the address cannot be listened at.
    """
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listening = socket.create_server(found[0][4][:2], family=found[0][0], backlog=2048)
    except OSError as error:
        raise ShopfitError(
            f"nothing can listen at {options.host}:{options.port}: {error.strerror or error}",
            next_step="choose another --port or --host, or end what listens there",
        ) from error
    # connections inherit it: without it a body waits 40 ms behind its headers, until the client has acknowledged these
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
