"""shopfit: fit one shared language model to every shop.

A base model is loaded once; each merchant gets a small adapter, trained from a handful of examples, kept in a
registry, and swapped in for that merchant's requests only. Importing this package is cheap: torch and its
friends load with the first name that needs them.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES: dict[str, str] = {}
__all__ = sorted(["__version__", *_HOMES])


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'shopfit' has no attribute {name!r}")
