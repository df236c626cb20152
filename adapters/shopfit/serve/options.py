"""How the gateway is run."""

import ipaddress
import re
import socket
from dataclasses import dataclass, fields
from typing import Any

from shopfit.errors import ShopfitError

_URL = re.compile(r"https?://[A-Za-z0-9._-]+(?::[0-9]{1,5})?/?|https?://\[[0-9a-fA-F:.]+\](?::[0-9]{1,5})?/?")
RANGES: dict[str, tuple[float, float, str]] = {
    "port": (0, 65535, "0 for any free one, to 65535"),
    "timeout": (0.1, 3600, "0.1 to 3600 seconds"),
    "drain": (0, 3600, "0 to 3600 seconds"),
    "load_timeout": (1, 86400, "1 to 86,400 seconds"),
    "queue": (1, 1_000_000, "1 to 1,000,000 requests"),
    "slots": (1, 1_000_000, "1 or more adapters"),
    "rows": (1, 1_000_000, "1 or more answers"),
    "memory": (1, 2**50, "1 byte to 2^50, about a million gigabytes"),
    "threads": (0, 1024, "0 for as many as there are cores, to 1024"),
    "requests_per_minute": (1, 1_000_000_000, "1 to 1,000,000,000; no limit without the option"),
    "concurrent": (1, 1_000_000, "1 to 1,000,000; no limit without the option"),
    "tokens_per_day": (1, 10**15, "1 to 10^15; no limit without the option"),
    "platform_requests_per_minute": (1, 1_000_000_000, "1 to 1,000,000,000; no limit without the option"),
    "adapters_in_metrics": (0, 100_000, "0 to 100,000 adapters"),
}
"""Of each number: the least, the most, and both in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Options of `shopfit serve`.

    Args:
        host: address to listen at.
        port: to listen at; 0 for any free one.
        auth: whether requests need a key; without, only this machine may ask.
        timeout: seconds that an answer may take, a stream until its end.
        drain: seconds that answers under way have at SIGTERM.
        load_timeout: seconds that an engine may take to load its base; then it is ended and started again.
        queue: requests under way of one engine.
        slots: adapters on the device at a time, of one engine.
        rows: answers decoded at a time, by one engine.
        memory: bytes of adapters in the memory of one engine.
        threads: of one engine; 0 for as many as there are cores.
        encoder: that searches for recommendations; empty for words only.
        requests_per_minute: of a merchant that has no such limit of its own; None for any number.
        concurrent: requests under way of a merchant that has no such limit of its own; None for any number.
        tokens_per_day: of a merchant that has no such limit of its own; None for any number.
        platform_requests_per_minute: with keys of the platform, all together; None for any number.
        limits: where rates are counted: `memory://`, or a Redis that several gateways share, `redis://host:6379`.
        shown: folder or URL of the log of what was shown (see `shown_log`); empty for none.
        shown_texts: whether that log holds the texts of requests and answers.
        log_texts: whether the request log holds the texts of requests.
        adapters_in_metrics: adapters that metrics name; those beyond count as "other".
        upstream: URL of vLLM servers that answer `generate`, `choose` and `rate` of decoders; empty for none.

    Raises:
        ShopfitError: if a value is out of range, or requests without a key could come from other machines.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    auth: bool = True
    timeout: float = 60.0
    drain: float = 10.0
    load_timeout: float = 600.0
    queue: int = 1024
    slots: int = 32
    rows: int = 32
    memory: int = 2 * 1024**3
    threads: int = 0
    encoder: str = "auto"
    requests_per_minute: int | None = None
    concurrent: int | None = None
    tokens_per_day: int | None = None
    platform_requests_per_minute: int | None = None
    limits: str = "memory://"
    shown: str = ""
    shown_texts: bool = False
    log_texts: bool = False
    adapters_in_metrics: int = 100
    upstream: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and (known := RANGES.get(field.name)) is not None:
                _check(field.name, value, *known)
        if self.upstream and not _URL.fullmatch(self.upstream):
            raise ShopfitError(
                f"--upstream is {self.upstream!r:.200} (allowed: http://host:port or https://host, without a path)",
                next_step="name the vLLM server, or the proxy before several",
            )
        if not self.auth and not _is_loopback(self.host):
            raise ShopfitError(
                f"--no-auth at {self.host} would answer everybody who reaches this machine "
                "(allowed: an address of this machine only, such as 127.0.0.1 or ::1)",
                next_step="leave --no-auth out and make keys with `shopfit key create`, or listen at 127.0.0.1",
            )

    @property
    def engine_options(self) -> dict[str, Any]:
        """The options of `Engine.load`."""
        sizes = {"slots": self.slots, "rows": self.rows, "memory": self.memory, "queue": self.queue}
        return {**sizes, "encoder": self.encoder or None}


def _check(name: str, value: Any, least: float, most: float, allowed: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= most:
        option = name.replace("_", "-")
        raise ShopfitError(f"--{option} is {value!r} (allowed: {allowed})", next_step="correct the option")


def _is_loopback(host: str) -> bool:
    """Whether every address of a host is of this machine."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM)}
        return bool(host) and all(ipaddress.ip_address(str(one).partition("%")[0]).is_loopback for one in found)
    except (OSError, ValueError):
        return False
