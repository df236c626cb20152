"""Runs the gateway: listens, answers, and on SIGTERM lets what is under way end."""

import asyncio
import logging
import socket
from typing import Any

import uvicorn

from shopfit.errors import ShopfitError
from shopfit.registry import Registry
from shopfit.serve.app import make_app
from shopfit.serve.connections import Connection
from shopfit.serve.gateway import Gateway
from shopfit.serve.options import ServeOptions
from shopfit.settings import Settings

logger = logging.getLogger(__name__)

_KEEP_ALIVE = 75  # seconds that an idle connection stays: longer than load balancers keep theirs


class _Server(uvicorn.Server):
    """uvicorn, which tells the gateway that it is ending as soon as it knows."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._gateway.draining = True
        super().handle_exit(sig, frame)


def run(settings: Settings, options: ServeOptions) -> None:
    """Serve until SIGTERM or SIGINT; then no new requests, and at most `options.drain` seconds for those under way.

    Args:
        settings: where the registry is.
        options: of the gateway.

    Raises:
        ShopfitError: if the address cannot be listened at.
        RegistryError: if the registry cannot be reached.
    """
    listening = _listen(options)
    with listening, Registry.open(settings) as registry:
        gateway = Gateway(registry, settings, options)
        config = uvicorn.Config(
            make_app(gateway),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=max(1, round(options.drain)),
            http=Connection,
            ws="none",
            lifespan="on",
        )
        server = _Server(config, gateway)
        host, port = listening.getsockname()[:2]
        logger.info("serving http://%s:%s (API docs at /docs)", host, port)
        try:
            asyncio.run(server.serve(sockets=[listening]))
        except KeyboardInterrupt:  # uvicorn raises the signal again when it has ended as it should
            if not gateway.draining:
                raise
        logger.info("ended")


def _listen(options: ServeOptions) -> socket.socket:
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listening = socket.create_server(found[0][4][:2], family=found[0][0], backlog=2048)
    except OSError as error:
        raise ShopfitError(
            f"nothing can listen at {options.host}:{options.port}: {error.strerror or error}",
            next_step="choose another --port or --host, or end what listens there",
        ) from error
    return listening
