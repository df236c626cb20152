"""The registry: versions of adapters, their aliases, their files, API keys, what servers share, and an audit log.

`Registry` is imported lazily, so that using `Reference` imports no database library.
"""

from typing import TYPE_CHECKING, Any

from shopfit.registry.alias_cache import AliasCache
from shopfit.registry.grant import Grant, IssuedKey, Key
from shopfit.registry.key_cache import KeyCache
from shopfit.registry.reference import Reference
from shopfit.registry.serving import UNLIMITED, Feedback, Limits, Release, StoredCatalog
from shopfit.registry.version import AuditEntry, Identity, Revision, Version

if TYPE_CHECKING:
    from shopfit.registry.registry import Registry

__all__ = [
    "UNLIMITED",
    "AliasCache",
    "AuditEntry",
    "Feedback",
    "Grant",
    "Identity",
    "IssuedKey",
    "Key",
    "KeyCache",
    "Limits",
    "Reference",
    "Registry",
    "Release",
    "Revision",
    "StoredCatalog",
    "Version",
]


def __getattr__(name: str) -> Any:
    if name == "Registry":
        from shopfit.registry.registry import Registry

        return Registry
    raise AttributeError(f"module 'shopfit.registry' has no attribute {name!r}")
