"""Whose request it is: the key in its Authorization header."""

import ipaddress

from starlette.requests import Request

from shopfit.errors import KeyRefused, ScopeMissing
from shopfit.registry import Grant, KeyCache, Registry
from shopfit.registry.grant import Scope
from shopfit.serve.registry_threads import RegistryThreads

_ELSEWHERE = ("x-api-key", "api-key", "x-shopfit-key")
NO_KEY = "no-auth"
"""What stands in place of a key's id where no key is asked for."""
_EVERYTHING = Grant(NO_KEY, None, frozenset({"admin"}), None)


class Authentication:
    """Checks keys. For the event loop; the registry is asked on other threads, once a key and second.

    Args:
        registry: that holds the keys.
        threads: that ask it.
        needed: whether requests need a key; without, every request may do everything.
    """

    def __init__(self, registry: Registry, threads: RegistryThreads, *, needed: bool = True) -> None:
        self._keys = KeyCache(registry)
        self._threads = threads
        self._needed = needed

    async def grant(self, request: Request, token: str | None = None) -> Grant:
        """What the request's key may do.

        Args:
            request: of any endpoint that needs a key.
            token: the key, if it came by another way than the Authorization header.

        Raises:
            KeyRefused: if there is no key, or it is not valid.
            RegistryError: if the key must be looked up, and the registry cannot be read.
        """
        if not self._needed:
            _check_host(request)
            return _EVERYTHING
        return await self.check(_token(request) if token is None else token)

    async def check(self, token: str) -> Grant:
        """What the key of a token may do, as `grant` tells it.

        Raises:
            KeyRefused: if it is not valid.
            RegistryError: if the key must be looked up, and the registry cannot be read.
        """
        known = self._keys.known(token)
        if known is not None:
            return known
        return await self._threads.once(("key", token), lambda: self._keys.check(token))


def check_scope(grant: Grant, scope: Scope, merchant: str | None) -> None:
    """Make sure that a key may do something.

    Args:
        grant: of the key.
        scope: that is needed.
        merchant: with whose data; None for the platform as a whole.

    Raises:
        ScopeMissing: if it may not.
    """
    if not grant.allows(scope, merchant):
        raise ScopeMissing(
            f"this key may not do that (allowed: a key with the scope {scope!r}"
            f"{'' if merchant is None else ', of the merchant or of the platform'})",
            next_step=f"ask whoever runs the platform for one: `shopfit key create … --scope {scope}`",
        )


def _check_host(request: Request) -> None:
    """Without keys, a page in a browser here must not reach the gateway by a name that it made up."""
    if not is_loopback_name(request.url.hostname or ""):
        refused = KeyRefused("malformed")
        refused.message = f"without keys, requests are for this machine alone, and not for {request.url.hostname!r}"
        refused.next_step = "ask at 127.0.0.1 or localhost, or serve with keys"
        raise refused


def is_loopback_name(host: str) -> bool:
    """Whether a host's name, as a URL has it, can only mean this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _token(request: Request) -> str:
    sent = request.headers.getlist("authorization")
    kind, _, token = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    if kind.lower() == "bearer" and token:
        return token.strip()
    misplaced = [name for name in _ELSEWHERE if name in request.headers]
    misplaced += [name for name in request.query_params if "key" in name]
    refused = KeyRefused("malformed")
    refused.message = (
        "there is no API key where it belongs" if misplaced or sent else "there is no API key in this request"
    )
    refused.next_step = "send it in one header: `Authorization: Bearer sf_…`"
    raise refused
