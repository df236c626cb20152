"""The files that pages load. All of them come from here; what others wrote is pinned by its SHA-256.

htmx 2.0.11 (0BSD) and uPlot 1.6.32 (MIT), as npm has them; their licences lie beside them.
"""

import gzip
import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from shopfit.errors import ShopfitError

PINNED = {
    "htmx.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
"""SHA-256 of each file that others wrote."""

_KINDS = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "LICENSE": "text/plain"}
_OWN = ("console.css", "console.js", "charts.js", "labelling.js", "live.js", "onboarding.js", "icon.svg")
_LICENCES = ("htmx.LICENSE", "uPlot.LICENSE")


class Asset(NamedTuple):
    """A file.

    Args:
        content: its bytes.
        compressed: the same by gzip.
        kind: its media type.
        mark: changes with the content.
    """

    content: bytes
    compressed: bytes
    kind: str
    mark: str


@cache
def asset(name: str) -> Asset | None:
    """A file by its name; None if there is none.

    Raises:
        ShopfitError: if one that is pinned was changed.
    """
    if name not in (*PINNED, *_OWN, *_LICENCES):
        return None
    content = (files(__package__) / "assets" / name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if name in PINNED and PINNED[name] != digest:
        raise ShopfitError(f"the console's {name} is not the file that it was", next_step="install shopfit again")
    return Asset(content, gzip.compress(content, 9, mtime=0), _KINDS[name.rpartition(".")[2]], digest[:12])


def address(name: str) -> str:
    """Where a page finds a file: another address, if the content is another one."""
    found = asset(name)
    assert found is not None, name
    return f"/console/assets/{name}?{found.mark}"
