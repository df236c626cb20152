"""Names for servers that keep for ever what a name meant, as vLLM does: a version's number together with its digest.

A number alone does not do: after the registry was put back from a backup it may be given to other weights.
"""

import re
from dataclasses import dataclass

from shopfit.errors import UnknownReference
from shopfit.registry.reference import Reference
from shopfit.registry.version import Identity, Version

_DIGITS = 16  # of the digest: two versions of one adapter and number agree on them by no chance
_PATTERN = re.compile(rf"(?P<reference>[^:]{{1,140}}):(?P<digest>[0-9a-f]{{{_DIGITS}}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class PinnedName:
    """What never names anything else, such as `acme/review-sentiment@7:0f3a5c7e9b1d2f4a`.

    Args:
        reference: with a number.
        digest: the first 16 hex digits of the bundle's.
    """

    reference: Reference
    digest: str

    @classmethod
    def of(cls, version: Version) -> "PinnedName":
        """The name of a version. Each has one: a server would keep a second spelling as a second adapter."""
        return cls(Reference(version.merchant, version.recipe, version.number), version.digest[:_DIGITS])

    @classmethod
    def parse(cls, text: str) -> "PinnedName":
        """Read a name as `str` writes it. Nothing but the text is looked at.

        Raises:
            UnknownReference: if it is anything else, such as a reference by alias or without a digest.
        """
        match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
        if match is not None:
            reference = Reference.parse(match["reference"])
            if reference.number is not None:
                return cls(reference, match["digest"])
        raise UnknownReference(
            f"{text if isinstance(text, str) else type(text).__name__!r:.100} is not the name of one version for ever "
            f"(allowed: merchant/recipe@7:digest, of the digest its first {_DIGITS} hex digits)",
            next_step="ask the gateway, which spells these names, or see `shopfit registry ls`",
        )

    def names(self, identity: Identity) -> bool:
        """Whether it is the name of what has this number and digest."""
        return identity.number == self.reference.number and identity.digest[:_DIGITS] == self.digest

    def __str__(self) -> str:
        return f"{self.reference}:{self.digest}"
