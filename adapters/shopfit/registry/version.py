"""Value classes of the registry: versions, their identities, audit entries, and its revision. No database code."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

Status = Literal["ready", "refused"]


class Identity(NamedTuple):
    """What a reference names: a number for display, and the digest that caches use.

    The number alone is not enough: after a restore of the registry it may be given to other weights.
    """

    number: int
    digest: str


@dataclass(frozen=True, slots=True)
class Revision:
    """What the registry held at a moment: another one, if anything that servers watch has changed since.

    Revisions are compared by `==` and nothing else: they are neither ordered nor counted.

    Args:
        mark: random; each change makes a new one.
    """

    mark: str


@dataclass(frozen=True, slots=True)
class Version:
    """One bundle in the registry. Only its aliases change.

    Args:
        merchant: that it belongs to.
        recipe: name of the recipe it was trained with.
        number: counts up from 1 per (merchant, recipe).
        digest: the bundle's digest, SHA-256 in hex.
        status: "refused" if the gate refused it.
        reason: why it was refused; empty if it was not.
        created: when it was published, with time zone.
        base_name: the base it was trained on.
        base_fingerprint: fingerprint of that base.
        method: lora, adalora or prefix.
        rank: rank of its low-rank weights; virtual tokens for prefix tuning.
        size: bytes of all its files.
        metrics: what its report measured.
        summary: what its report says in short, as whoever published it put it; None without.
        aliases: the aliases that name it now, sorted.
    """

    merchant: str
    recipe: str
    number: int
    digest: str
    status: Status
    reason: str
    created: datetime
    base_name: str
    base_fingerprint: str
    method: str
    rank: int
    size: int
    metrics: dict[str, float] = field(hash=False)
    aliases: tuple[str, ...]
    summary: dict[str, Any] | None = field(default=None, hash=False)

    @property
    def name(self) -> str:
        """Its immutable reference, such as `acme/review-sentiment@7`."""
        return f"{self.merchant}/{self.recipe}@{self.number}"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change to the registry.

    Args:
        time: when, with time zone.
        actor: who.
        action: publish, promote, rollback, unalias, remove, release, release-end, limit, catalog, catalog-drop,
            key-create, key-revoke, erase-begun or erase.
        reference: the version that was published, promoted, rolled back to, removed or released; the merchant that was
            erased, or whose key, limits or catalog it is; empty for a key of the platform.
        detail: what changed; of an erased merchant, the receipt as JSON.
    """

    time: datetime
    actor: str
    action: str
    reference: str
    detail: str
