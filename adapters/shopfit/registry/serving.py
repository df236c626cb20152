"""Value classes of what servers share through a registry: releases, limits, catalogs and feedback. No database code."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

ReleaseKind = Literal["canary", "shadow"]
RELEASE_KINDS: tuple[ReleaseKind, ...] = get_args(ReleaseKind)

FeedbackKind = Literal["click", "purchase", "dismissal", "label", "correction"]
FEEDBACK_KINDS: tuple[FeedbackKind, ...] = get_args(FeedbackKind)
FEEDBACK_WHAT: Mapping[FeedbackKind, tuple[str, str]] = {
    "click": ("an item of the answer was opened", "item"),
    "purchase": ("an item of the answer was bought", "item"),
    "dismissal": ("an item of the answer was waved away", "item"),
    "label": ("this would have been the right label", "value"),
    "correction": ("this would have been the right text or number", "value"),
}
"""What each kind says, and the field that goes with it."""


@dataclass(frozen=True, slots=True)
class Release:
    """A version that gets a part of the traffic of an adapter beside its @production.

    Args:
        merchant: whose adapter it is.
        recipe: of the adapter.
        kind: "canary" answers a part of the users; "shadow" is asked a part of the requests, too, and never answers.
        number: of the version.
        digest: of the version's bundle, SHA-256 in hex.
        share: how large that part is: above 0, at most 1.
    """

    merchant: str
    recipe: str
    kind: ReleaseKind
    number: int
    digest: str
    share: float

    @property
    def name(self) -> str:
        """The version's immutable reference, such as `acme/review-sentiment@8`."""
        return f"{self.merchant}/{self.recipe}@{self.number}"


UNLIMITED = 2**63 - 1
"""A limit that limits nothing: the largest number that databases keep."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a merchant may ask. Each is 0, which lets nothing through, or more; `UNLIMITED` for any number; or None for
    what the options of the gateway say.

    Args:
        requests_per_minute: requests of any kind, with any of the merchant's keys.
        concurrent: requests that one gateway answers at the same time.
        tokens_per_day: tokens read and written for answers, at all gateways, in a day of UTC.
    """

    requests_per_minute: int | None = None
    concurrent: int | None = None
    tokens_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class StoredCatalog:
    """A merchant's catalog in the registry, without its items.

    Args:
        merchant: whose it is.
        digest: SHA-256 of its content, in hex: another one for each change.
        items: how many it has.
        size: bytes of its content.
        changed: when it was put or patched last, with time zone.
        actor: who did that.
        base: the version whose bundle a patch began from, as nothing was stored yet; empty otherwise, and where the
            catalog is read again.
    """

    merchant: str
    digest: str
    items: int
    size: int
    changed: datetime
    actor: str
    base: str = ""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What came of an answer.

    Args:
        merchant: whose adapter answered.
        answer_id: of the answer, as the server named it: 1-64 of a-z, A-Z, 0-9, '_' and '-'.
        kind: "click", "purchase" or "dismissal" of an item; the right "label"; or another "correction".
        at: when it happened, with time zone.
        item: id of the item it is about, at most 2,000 characters; None if it is about the answer as a whole.
        value: anything JSON can hold, at most 10 KB: the right label, or what should have been written.
        version: that answered, such as `acme/review-sentiment@7`, if that is known.
        user_hash: pseudonym of the user, 1-128 printable characters; never a name or an address.
        event: the sender's id of the event, 1-200 printable characters: the same event is kept once.
    """

    merchant: str
    answer_id: str
    kind: FeedbackKind
    at: datetime
    item: str | None = None
    value: Any = field(default=None, hash=False)
    version: str | None = None
    user_hash: str | None = None
    event: str | None = None
