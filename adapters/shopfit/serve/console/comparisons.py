"""Comparisons of two versions: runs of `shopfit compare`, found again by the versions and the data they are of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopfit.merchant.kept_folder import find_merchant, folder_digest
from shopfit.registry import Version
from shopfit.runs import OVER, Run, State, all_runs

_DONE = "done"


@dataclass(frozen=True, slots=True)
class Comparing:
    """What is known of a comparison.

    Args:
        has_data: whether the merchant's rows are here.
        run: the last one that was asked for; None if none was.
        state: of it; "asked" without.
        result: of the newest that was made of the same two versions; None without.
        current: whether the merchant's data are still what that was made of.
    """

    has_data: bool
    run: Run | None
    state: State
    result: Mapping[str, Any] | None
    current: bool

    @property
    def under_way(self) -> bool:
        """Whether it is waited for."""
        return self.run is not None and self.state not in OVER

    @property
    def failure(self) -> Mapping[str, Any] | None:
        """Why the last one failed; None if it did not."""
        if self.run is None or self.state not in ("failed", "lost", "stopped"):
            return None
        told = [event.facts for event in self.run.events if event.kind == "failed"]
        return told[-1] if told else {"message": "", "problems": [], "next": ""}

    def rows(self, better: str) -> list[Mapping[str, Any]]:
        """The rows where the versions differ.

        Args:
            better: only those where "first" or "second" is; empty for all.
        """
        found = [] if self.result is None else self.result["different"]
        return [row for row in found if better in ("", row["better"])]


def comparing(home: Path, first: Version, second: Version) -> Comparing:
    """What is known of the comparison of two versions; it reads files.

    Raises:
        ShopfitError: if the merchant's data cannot be read.
    """
    merchant = find_merchant(home, first.merchant)
    data = None if merchant is None else folder_digest(merchant.folder)
    wanted = (first.name, second.name)
    runs = [run for run in all_runs(home, first.merchant) if run.asked.job == "compare" and _of(run) == wanted]
    last = runs[0] if runs else None
    state: State = "asked" if last is None else last.state()
    result = next((found for run in runs if (found := _result(run, first, second)) is not None), None)
    return Comparing(merchant is not None, last, state, result, result is not None and result["data"] == data)


def _of(run: Run) -> tuple[str, ...]:
    return run.asked.arguments[:2]


def _result(run: Run, first: Version, second: Version) -> Mapping[str, Any] | None:
    """What it answered, if these are the same versions: a number may have been given to other weights."""
    found = run.result
    if not isinstance(found, dict) or "different" not in found or run.state() != _DONE:
        return None
    same = [found["first"]["digest"], found["second"]["digest"]] == [first.digest, second.digest]
    return found if same else None
