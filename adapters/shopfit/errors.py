"""What can go wrong, one class a kind of user mistake.

ShopfitError                 any of them; `exit_code` is what the command line returns
├── RecipeError              a recipe file or a `--set` override
├── DataError                a merchant's folder, examples or catalog
├── BaseError                a base that is missing, altered, or not the one an adapter was trained on
├── BundleError              a bundle on disk that is incomplete or edited
├── UnknownReference         a reference such as `acme/review-sentiment@7` that is malformed or names nothing
├── RegistryError            the registry or its blobs cannot be reached or written
├── KeyRefused               an API key that is malformed, unknown, expired or revoked
├── RequestError             a request to an engine that it cannot answer
├── Overloaded               an engine that has as many requests as it may hold
└── DeadlineExceeded         a request whose time was up before its answer
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_LONGEST = 4096  # characters of a line: as long as a path may be


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, in one line.

    Args:
        where: file and line, key path, or row.
        what: the value seen and what is wrong with it.
        allowed: what would be accepted; empty if `what` says it.
    """

    where: str
    what: str
    allowed: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" (allowed: {self.allowed})" if self.allowed else "")


def _line(text: str) -> str:
    """A text, without the middle if somebody's path or value makes it endless."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST * 3 // 4]} … {text[-_LONGEST // 4 :]}"


class ShopfitError(Exception):
    """A mistake the user can mend.

    Args:
        message: what is wrong and where, in one line.
        problems: every single mistake, all at once.
        next_step: what to do now, as an instruction.
    """

    exit_code = 2
    shown_problems = 20

    def __init__(self, message: str, *, problems: Sequence[Problem] = (), next_step: str = "") -> None:
        super().__init__(_line(message))
        self.message = _line(message)
        self.problems = tuple(problems)
        self.next_step = next_step

    @property
    def lines(self) -> list[str]:
        """The message, a line a problem, and the next step; each is one line to whoever shows it."""
        lines = [self.message]
        lines += [_line(f"  {problem}") for problem in self.problems[: self.shown_problems]]
        if (more := len(self.problems) - self.shown_problems) > 0:
            lines.append(f"  … and {more} more")
        if self.next_step:
            lines.append(f"Next: {self.next_step}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines)


class RecipeError(ShopfitError):
    """A recipe file or an override is not valid."""


class DataError(ShopfitError):
    """A merchant's folder, examples or catalog cannot be used."""


class BaseError(ShopfitError):
    """A base is missing, altered, or not the one an adapter was trained on."""


class BundleError(ShopfitError):
    """A bundle on disk is incomplete or was edited."""


class UnknownReference(ShopfitError):  # noqa: N818 - reads as what it is
    """A reference is malformed or names nothing in the registry."""


class RegistryError(ShopfitError):
    """The registry or its blobs cannot be reached, read or written."""


class KeyRefused(ShopfitError):  # noqa: N818 - reads as what it is
    """An API key is not accepted. Whoever presents it learns no more; why is for the platform's logs.

    Args:
        why: what is wrong with it. It is expired or revoked only to who has the whole key.
        key: id of the key that is expired or revoked.
    """

    def __init__(self, why: Literal["malformed", "unknown", "expired", "revoked"], key: str | None = None) -> None:
        super().__init__(
            "this API key is not valid",
            next_step="check that all of it was copied (sf_…), or ask whoever runs the platform for another",
        )
        self.why = why
        self.key = key


class RequestError(ShopfitError):
    """An engine cannot answer this request."""


class Overloaded(ShopfitError):  # noqa: N818 - reads as what it is
    """An engine has as many requests as it may hold."""


class DeadlineExceeded(ShopfitError, TimeoutError):  # noqa: N818 - reads as what it is
    """A request's time was up before it was answered."""
