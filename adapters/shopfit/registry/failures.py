"""Translates errors of databases and disks to `RegistryUnavailable`: the address, the reason, and the next step."""

import errno
import re

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from shopfit.errors import RegistryUnavailable

_FREE_SPACE = "free some space there, then run the command again"
_ALLOW = "let this user write there, or name another place in {variable}"
_STEPS_BY_ERRNO = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EFBIG: "raise the limit on file sizes (`ulimit -f`), then run the command again",
    errno.EROFS: _ALLOW,
    errno.EACCES: _ALLOW,
    errno.EPERM: _ALLOW,
    errno.ENOTDIR: "name a folder in {variable}",
    errno.EEXIST: "name a folder in {variable}",
}
_STEPS_BY_WORDS = {
    "locked": "another process is writing; run the command again in a moment",
    "lock timeout": "another process is writing; run the command again in a moment",
    "full": _FREE_SPACE,
    "No space left": _FREE_SPACE,
    "readonly": _ALLOW,
    "read-only": _ALLOW,
    "permission": _ALLOW,
    "unable to open": "check that its folder exists and that this user may write there, or change {variable}",
    "not a database": "name another file in {variable}, or put this one back from a backup",
    "malformed": "put the file back from a backup",
}


def masked(address: str) -> str:
    """`address` without its passwords, to be shown."""
    address = re.sub(r"://([^:/@]*):.*@", r"://\1:***@", address)
    return re.sub(r"([?&][^=&]*(?:password|secret|token|key)[^=&]*=)[^&]*", r"\1***", address, flags=re.IGNORECASE)


def database_failure(address: str, error: SQLAlchemyError) -> RegistryUnavailable:
    """The error to raise when the database at `address` (already masked) raised `error`."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    reason = _first_line(cause)
    fallback = "check that the database runs and that {variable} names it"
    step = next((step for words, step in _STEPS_BY_WORDS.items() if words in reason), fallback)
    return RegistryUnavailable(
        f"the registry {address} failed: {reason}", next_step=step.format(variable="SHOPFIT_REGISTRY")
    )


def storage_failure(what: str, error: Exception, *, variable: str) -> RegistryUnavailable:
    """The error to raise when a disk or object store raised `error`.

    Args:
        what: what failed, with its address, masked.
        error: any exception; object stores raise classes of their own.
        variable: the environment variable that names the place.
    """
    number = error.errno if isinstance(error, OSError) else None
    step = _STEPS_BY_ERRNO.get(number or 0, "check that it can be reached and that {variable} names it")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else _first_line(error)
    return RegistryUnavailable(f"{what} failed: {reason}", next_step=step.format(variable=variable))


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
