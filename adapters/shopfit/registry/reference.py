"""References: how a version in the registry is named.

A reference is checked by one strict pattern before anything touches a disk or a database, so no part of it can be a
path, a wildcard, or another merchant's name.
"""

import re
from dataclasses import dataclass

from shopfit.errors import UnknownReference
from shopfit.recipe.names import SLUG, SLUG_RULE

PRODUCTION, CANDIDATE, PREVIOUS = "production", "candidate", "previous"

_PATTERN = re.compile(
    rf"(?P<merchant>{SLUG})/(?P<recipe>{SLUG})(?:@(?:(?P<number>[1-9][0-9]{{0,8}})|(?P<alias>[a-z][a-z-]{{0,31}})))?",
    re.ASCII,
)
_RULE = (
    "merchant/recipe, merchant/recipe@7 or merchant/recipe@candidate; "
    f"names are {SLUG_RULE}; versions are 1-999999999; aliases are 1-32 of a-z and '-', starting with a letter"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to one version: by number or by alias.

    Args:
        merchant: a slug.
        recipe: a slug.
        number: 1 to 999999999; it always names the same version.
        alias: a movable name; "production" where neither it nor a number is given.

    Raises:
        UnknownReference: if a part does not follow the pattern, or both a number and an alias are given.
    """

    merchant: str
    recipe: str
    number: int | None = None
    alias: str | None = None

    def __post_init__(self) -> None:
        if self.number is None and self.alias is None:
            object.__setattr__(self, "alias", PRODUCTION)
        number = self.number
        if number is not None and (type(number) is not int or not 0 < number < 10**9):  # a bool is an int, too
            raise _malformed(f"{self.merchant!s:.80}/{self.recipe!s:.80}@<not a version's number>")
        match = _PATTERN.fullmatch(str(self))
        parts = (self.merchant, self.recipe, None if number is None else str(number), self.alias)
        if match is None or match.groups() != parts:
            raise _malformed(f"{self.merchant}/{self.recipe}@{number or ''}{self.alias or ''}")

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read a reference as users write it.

        Args:
            text: `merchant/recipe` (its @production), `merchant/recipe@7` or `merchant/recipe@candidate`.

        Raises:
            UnknownReference: if `text` is anything else.
        """
        match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise _malformed(text if isinstance(text, str) else f"<{type(text).__name__}>")
        number = match["number"]
        return cls(match["merchant"], match["recipe"], int(number) if number else None, match["alias"])

    def __str__(self) -> str:
        return f"{self.merchant}/{self.recipe}@{self.alias if self.number is None else self.number}"


def _malformed(text: str) -> UnknownReference:
    shown = text if len(text) <= 80 else text[:80] + "…"
    return UnknownReference(
        f"{shown!r} is not a reference (allowed: {_RULE})",
        next_step="run `shopfit registry ls` to see the references there are",
    )
