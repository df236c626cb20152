"""What other merchants have learned and let others start from: the house's starter, and the nearest donors."""

from collections.abc import Callable, Sequence

import numpy as np

from shopfit.adapter.bundle import LORA, MANIFEST, Manifest
from shopfit.adapter.start import Start, start_from
from shopfit.base.load import Base
from shopfit.errors import BundleError
from shopfit.recipe.names import HOUSE
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry, Version
from shopfit.tune.starts import MOST_DONORS, Donor

_LOOKED_AT = 256  # donors at most: the latest


class Neighbours:
    """Others' finished adapters that fit a recipe, a base and a method.

    Args:
        registry: where they are.
        base: that they must be for.
        recipe: that they must be of, by its name.
        merchant: who wants to start; never its own neighbour.
    """

    def __init__(self, registry: Registry, base: Base, recipe: Recipe, merchant: str) -> None:
        self._registry = registry
        self._base = base
        self._recipe = recipe
        self._merchant = merchant

    def starter(self) -> Start | None:
        """The house's starter in production, unless the merchant itself was one of its donors."""
        for version in self._registry.versions(HOUSE, self._recipe.name):
            if "production" in version.aliases and self._fits(version):
                manifest = self._manifest(version)
                if manifest is not None and self._merchant not in manifest.donors:
                    return self._start(version)
        return None

    def donors(self, vector: Callable[[], Sequence[float]]) -> list[Donor]:
        """The nearest merchants that share, nearest first.

        Args:
            vector: makes the direction of the merchant's own texts; asked only if there are donors to compare.
        """
        if self._recipe.adapter.method == "prefix":  # prefixes of different shops have no common meaning to add up
            return []
        found: list[tuple[Version, Manifest]] = []
        versions = [
            version
            for version in self._registry.versions(recipe=self._recipe.name)
            if version.merchant not in {HOUSE, self._merchant}
            and "production" in version.aliases
            and self._fits(version)
        ]
        for version in sorted(versions, key=lambda version: version.created, reverse=True)[:_LOOKED_AT]:
            manifest = self._manifest(version)
            if manifest is not None and manifest.share and manifest.vector:
                found.append((version, manifest))
        if not found:
            return []
        mine = np.asarray(vector())
        near = sorted(found, key=lambda pair: -float(np.dot(mine, np.asarray(pair[1].vector))))
        starts = [(version, self._start(version)) for version, _ in near[:MOST_DONORS]]
        return [
            Donor(version.name, start.factors)
            for version, start in starts
            if start is not None and start.factors is not None
        ]

    def _fits(self, version: Version) -> bool:
        same = (version.method == "prefix") == (self._recipe.adapter.method == "prefix")
        return same and version.base_fingerprint == self._base.fingerprint

    def _manifest(self, version: Version) -> Manifest | None:
        """None for one that is damaged: somebody else's broken adapter is no reason to fail."""
        try:
            return self._registry.read(version, lambda _: {MANIFEST}).manifest
        except BundleError:
            return None

    def _start(self, version: Version) -> Start | None:
        folder = "native" if version.method == "prefix" else LORA

        def needed(paths: Sequence[str]) -> set[str]:
            return {path for path in paths if path == MANIFEST or path.startswith(f"{folder}/")}

        try:
            return start_from(self._registry.read(version, needed), version.name, self._base)  # type: ignore[arg-type]
        except BundleError:
            return None
