"""Changes of what answers: promoting, canaries and rolling back, and in words what each of them will change."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from shopfit.errors import UnknownReference
from shopfit.registry import AuditEntry, Reference, Registry, Release, Version
from shopfit.serve.console.formats import percent
from shopfit.serve.console.routes import BadForm

Change = Literal["promote", "canary", "end-canary", "rollback"]
CHANGES: tuple[Change, ...] = get_args(Change)
_AUDIT = 10  # newest entries that are shown


class Words(NamedTuple):
    """A message of the catalog with its values."""

    key: str
    values: dict[str, str]


@dataclass(frozen=True, slots=True)
class Released:
    """What answers for an adapter.

    Args:
        adapter: `merchant/recipe`.
        versions: of it, the oldest first.
        canary: under way; None without.
        audit: the newest changes, the last first.
    """

    adapter: str
    versions: Sequence[Version]
    canary: Release | None
    audit: Sequence[AuditEntry]

    def named(self, alias: str) -> Version | None:
        """The version of an alias."""
        return next((one for one in self.versions if alias in one.aliases), None)

    @property
    def production(self) -> Version | None:
        """What answers."""
        return self.named("production")

    @property
    def previous(self) -> Version | None:
        """What answered before."""
        return self.named("previous")

    def may(self, change: Change, version: Version) -> bool:
        """Whether a change is to be had, for whoever may do it."""
        production, ready = self.production, version.status != "refused"
        is_production = production is not None and production.number == version.number
        is_canary = self.canary is not None and self.canary.number == version.number
        match change:
            case "promote":
                return ready and not is_production
            case "canary":
                return ready and production is not None and not is_production
            case "end-canary":
                return is_canary
            case "rollback":
                return is_production and self.previous is not None

    def words(self, change: Change, version: Version, share: int) -> list[Words]:
        """What a change of a version will change.

        Args:
            change: that is asked for.
            version: that it is about.
            share: of a canary, in percent.

        Raises:
            BadForm: if it is not to be had, as when somebody else was faster.
        """
        if not self.may(change, version):
            why = f": the gate refused it, {version.reason}" if version.status == "refused" else ""
            raise BadForm(f"this cannot be done with {version.name} now{why}", next_step="load the page again")
        now = "" if self.production is None else self.production.name
        told = {"version": version.name, "adapter": self.adapter, "production": now, "share": f"{share}%"}
        match change:
            case "promote":
                return self._promoted(version, told)
            case "rollback":
                assert self.previous is not None
                back = {**told, "version": self.previous.name}
                return [Words("rolls_back", back), Words("becomes_previous", back), *self._ends(self.previous, back)]
            case "canary":
                other = self.canary
                key = "share_now" if other is not None and other.number == version.number else "replaces"
                ends = [] if other is None else [Words(key, told | _of(other))]
                return [Words("canary_answers", told), Words("canary_stays", told), *ends]
            case "end-canary":
                assert self.canary is not None
                return [Words("canary_ends", told | _of(self.canary))]

    def _promoted(self, version: Version, told: dict[str, str]) -> list[Words]:
        found = [Words("answers_all", told)]
        found.append(Words("stays_previous" if self.production else "nothing_now", told))
        if self.production is not None and self.previous not in (None, version):
            assert self.previous is not None
            found.append(Words("loses_previous", {**told, "previous": self.previous.name}))
        return found + self._ends(version, told)

    def _ends(self, version: Version, told: dict[str, str]) -> list[Words]:
        if self.canary is None:
            return []
        key = "its_canary_ends" if self.canary.number == version.number else "canary_goes_on"
        return [Words(key, told | _of(self.canary))]


def released(registry: Registry, merchant: str, recipe: str) -> Released:
    """What answers for an adapter; it asks the registry.

    Raises:
        UnknownReference: if there is none.
    """
    versions, adapter = registry.versions(merchant, recipe), f"{merchant}/{recipe}"
    if not versions:
        raise UnknownReference(f"there is no adapter {adapter}", next_step="go back to the start")
    releases = [one for one in registry.releases(merchant) if one.recipe == recipe and one.kind == "canary"]
    _, audit = registry.audit_page(merchant, recipe=recipe, most=_AUDIT, since_erased=True)
    return Released(adapter, versions, releases[0] if releases else None, audit)


def call_of(registry: Registry, change: Change, version: Version, share: int, actor: str) -> Callable[[], object]:
    """What makes a change in the registry.

    Args:
        registry: that is changed.
        change: which.
        version: that it is about.
        share: of a canary, in percent.
        actor: who does it, for the audit.
    """
    reference, adapter = Reference(version.merchant, version.recipe, version.number), _adapter(version)
    match change:
        case "promote":
            return lambda: registry.promote(reference, actor=actor)
        case "rollback":
            return lambda: registry.rollback(adapter, actor=actor)
        case "canary":
            return lambda: registry.start_release(reference, kind="canary", share=share / 100, actor=actor)
        case "end-canary":
            return lambda: registry.end_release(adapter, kind="canary", actor=actor)


def _adapter(version: Version) -> str:
    return f"{version.merchant}/{version.recipe}"


def _of(canary: Release) -> dict[str, str]:
    return {"canary": canary.name, "its_share": percent(canary.share)}
