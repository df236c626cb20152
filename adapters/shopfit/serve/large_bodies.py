"""Bodies that may be large: catalogs, and files that are brought through the console, from whoever may publish them; a
merchant's one by one, and few at a time of all.

Each is in memory as long as its request, so without this some keys could fill it for everybody.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from shopfit.serve.authentication import check_scope

MOST_CATALOG = 256 * 1024 * 1024
"""Bytes of a body that holds a catalog."""
MOST_UPLOAD = 16 * 1024 * 1024
"""Bytes of a file that is brought through the console."""
_AROUND = 64 * 1024  # bytes of the form around it
_AT_ONCE = 4  # large bodies, of all merchants
_CATALOG = re.compile(r"/v1/merchants/([^/]+)/catalog")
_UPLOAD = re.compile(r"/console/onboard/([^/]+)/[^/]+/upload")


class Room(NamedTuple):
    """What a large body may take.

    Args:
        merchant: whose it is.
        most: bytes.
    """

    merchant: str
    most: int


class LargeBodies:
    """Who may send large bodies, and when. For the event loop."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, merchant: str) -> AsyncIterator[None]:
        """A merchant's turn to send a large body, and to have it worked on.

        Args:
            merchant: whose it is.
        """
        own = self._turns.setdefault(merchant, asyncio.Lock())
        async with own, self._room:
            yield


def room_of(scope: Mapping[str, Any]) -> Room | None:
    """What the body of a request may take beyond what any may; None for nothing.

    Raises:
        ScopeMissing: if its key may not publish what such a request brings.
    """
    for pattern, methods, most in (
        (_CATALOG, ("PUT", "PATCH"), MOST_CATALOG),
        (_UPLOAD, ("POST",), MOST_UPLOAD + _AROUND),
    ):
        found = pattern.fullmatch(scope["path"]) if scope["method"] in methods else None
        if found is not None and "grant" in scope.get("state", {}):
            check_scope(scope["state"]["grant"], "publish", found[1])
            return Room(found[1], most)
    return None
