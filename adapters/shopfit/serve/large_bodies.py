"""Bodies that may be large: catalogs, from whoever may publish them, a merchant's one by one and few at a time of all.

Each is in memory as long as its request, so without this some keys could fill it for everybody.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from shopfit.serve.authentication import check_scope

MOST_CATALOG = 256 * 1024 * 1024
"""Bytes of a body that holds a catalog."""
_AT_ONCE = 4  # large bodies, of all merchants
_CATALOG = re.compile(r"/v1/merchants/([^/]+)/catalog")


class LargeBodies:
    """Who may send large bodies, and when. For the event loop."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, merchant: str) -> AsyncIterator[None]:
        """A merchant's turn to send a large body, and to have it worked on.

        Args:
            merchant: whose catalog it is.
        """
        own = self._turns.setdefault(merchant, asyncio.Lock())
        async with own, self._room:
            yield


def merchant_of_catalog(scope: Mapping[str, Any]) -> str:
    """The merchant whose catalog a request sends; empty if it sends none.

    Raises:
        ScopeMissing: if its key may not publish that.
    """
    found = _CATALOG.fullmatch(scope["path"]) if scope["method"] in ("PUT", "PATCH") else None
    if found is None:
        return ""
    check_scope(scope["state"]["grant"], "publish", found[1])
    return found[1]
