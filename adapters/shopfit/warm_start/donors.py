"""What other merchants have learned and let others start from: the house's starter, and the nearest donors."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from shopfit.adapter.artifacts import needed
from shopfit.adapter.bundle import Manifest
from shopfit.adapter.initial_weights import Start, can_start, start_from
from shopfit.base.by_language import encoder_of, usual_encoder
from shopfit.base.load import Base
from shopfit.errors import BundleError, RecipeError
from shopfit.merchant.examples import Example
from shopfit.merchant.sampling import draw_balanced
from shopfit.merchant.splits import VALID_FROM
from shopfit.methods import METHODS
from shopfit.recipe.names import HOUSE
from shopfit.recipe.schema import AUTO, Recipe
from shopfit.registry import Registry, Version
from shopfit.tune.folds import folds
from shopfit.tune.reporter import Reporter
from shopfit.tune.trainer import Trainer
from shopfit.tune.training_dataset import TrainingSet
from shopfit.warm_start.own_catalog import catalog_start
from shopfit.warm_start.selection import (
    MOST_DONORS,
    Candidate,
    Choice,
    Donor,
    candidates,
    choose_start,
    kept_and_trained,
)
from shopfit.warm_start.untrained import untrained_start, untrained_starts

_LOOKED_AT = 256  # the latest versions, at most
_SHOWN = 32  # examples that a decoder's untrained starts see


class Neighbours:
    """Others' finished adapters that fit a recipe, a base and a method; DoRA fits none.

    Args:
        registry: where they are.
        base: that they must be for.
        recipe: that they must be of, by its name.
        merchant: whose adapter will start; its own versions are left out.
    """

    def __init__(self, registry: Registry, base: Base, recipe: Recipe, merchant: str) -> None:
        self._registry = registry
        self._base = base
        self._recipe = recipe
        self._merchant = merchant

    def starter(self) -> Start | None:
        """The weights of the house's starter, if there is one."""
        version = self.starter_version()
        return None if version is None else self._start(version)

    def starter_version(self) -> Version | None:
        """The house's starter in production, unless the merchant itself was one of its donors."""
        for version in self._registry.versions(HOUSE, self._recipe.name):
            if "production" in version.aliases and self._fits(version):
                manifest = self._manifest(version)
                if manifest is not None and can_start(manifest) and self._merchant not in manifest.donors:
                    return version
        return None

    def donors(self, vector: Callable[[], Sequence[float]], encoder: Callable[[], str] = lambda: "") -> list[Donor]:
        """The nearest merchants that share, nearest first.

        Args:
            vector: computes the mean direction of the merchant's embedded texts; called only if there are donors.
            encoder: fingerprint of the encoder that made it, likewise; donors of another one are passed over, if both
                are known.
        """
        if not METHODS[self._recipe.adapter.method].adds_up:
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
            shares = manifest is not None and can_start(manifest) and manifest.share and manifest.vector
            if manifest is not None and shares and _encoder(manifest) == encoder_of(self._recipe):
                found.append((version, manifest))
        if not found:
            return []
        mine, made_by = np.asarray(vector()), {"", encoder()}
        alike = [
            pair
            for pair in found
            if len(pair[1].vector) == len(mine) and (made_by == {""} or pair[1].encoder in made_by)
        ]
        near = sorted(alike, key=lambda pair: -float(np.dot(mine, np.asarray(pair[1].vector))))
        starts = [(version, self._start(version)) for version, _ in near[:MOST_DONORS]]
        return [
            Donor(version.name, start.factors)
            for version, start in starts
            if start is not None and start.factors is not None
        ]

    def _fits(self, version: Version) -> bool:
        return _alike(self._recipe, version) and self._base.known_by(version.base_fingerprint)

    def _manifest(self, version: Version) -> Manifest | None:
        """None for one that is damaged: another merchant's broken adapter is no reason to fail."""
        try:
            return self._registry.manifest(version)
        except BundleError:
            return None

    def _start(self, version: Version) -> Start | None:
        try:
            return start_from(self._registry.read(version, needed), version.name, self._base)
        except BundleError:
            return None


def find_start(
    registry: Registry,
    trainer: Trainer,
    recipe: Recipe,
    merchant: str,
    training_set: TrainingSet,
    *,
    vector: Callable[[], Sequence[float]],
    encoder: Callable[[], str] = lambda: "",
    language: str,
    pairs: Sequence[Example] = (),
    keep: bool = False,
    reporter: Reporter,
) -> Choice:
    """Where a merchant's adapter starts: as the recipe says, or as the merchant's own examples decide.

    Args:
        registry: where others' adapters are.
        trainer: on a bare base.
        recipe: its `start` says how to find it.
        merchant: whose adapter it will be.
        training_set: the merchant's examples; there may be none.
        vector: computes the mean direction of its embedded texts.
        encoder: fingerprint of the encoder that made it; empty if it is not known.
        language: tag of the merchant's, in BCP 47.
        pairs: of its catalog, for `catalog_start`; may be empty.
        keep: whether a starter may also be taken as it is, without training; one that was not trained on all of the
            merchant's labels never is. A recipe whose `tune.steps` is 0 takes nothing else.
        reporter: told what was compared.

    Raises:
        UnknownReference: if `start` names a version that is not there.
        RecipeError: if it is of another method.
        BaseError: if it is for another base.
    """
    base, untrained = trainer.base, recipe.tune.steps == 0
    if recipe.start == "scratch":
        return Choice(Start(kept=untrained), why="the recipe says so")
    if recipe.start != "auto":
        version = registry.resolve(recipe.start)
        _check_method(recipe, version)
        reporter("start", f"{version.name}: the recipe says so")
        bundle = registry.read(version, needed)
        offsets = tuple(bundle.manifest.offsets) if bundle.manifest.labels == list(training_set.labels) else ()
        named = start_from(bundle, version.name, base)
        named = replace(named.as_it_is(language), offsets=offsets) if untrained else named
        return Choice(named, why="the recipe says so")
    known = Neighbours(registry, base, recipe, merchant)
    if untrained:
        among = candidates(base, recipe, [Start(kept=True)], _as_it_is(known.starter(), training_set, language), [])
        bare = _untrained(base, recipe)
        if bare and not training_set.valid:  # all at once costs minutes, and no more are shown
            few = draw_balanced(training_set.train, _SHOWN, f"{recipe.tune.seed}/untrained")
            training_set = replace(training_set, train=few)
        if folds(recipe, training_set):  # else nothing could be compared
            among[1:1] = bare
        return _compared(trainer, recipe, training_set, among, reporter)
    # without an example donors cannot be compared
    donors = known.donors(vector, encoder) if training_set.train or training_set.valid else []
    starter = known.starter()
    count = len(training_set.train) + len(training_set.valid)
    from_catalog = catalog_start(trainer, recipe, pairs, training_set, reporter=reporter) if count else Start()
    own = [from_catalog]
    if keep and not from_catalog.scratch and count < VALID_FROM:  # from there on starts are compared after one epoch
        own = kept_and_trained(from_catalog)
    shared = [] if starter is None else [*(_as_it_is(starter, training_set, language) if keep else []), starter]
    return _compared(trainer, recipe, training_set, candidates(base, recipe, own, shared, donors), reporter)


def _untrained(base: Base, recipe: Recipe) -> list[Candidate]:
    return [
        Candidate(f"{name} as it is", partial(untrained_start, name, base, recipe), kept=True, from_others=False)
        for name in untrained_starts(base, recipe)
    ]


def _as_it_is(starter: Start | None, training_set: TrainingSet, language: str) -> list[Start]:
    """A starter to keep without training, if it was trained on all of the merchant's labels."""
    if starter is None or not starter.labels.issuperset(training_set.labels):
        return []
    return [starter.as_it_is(language)]


def _compared(
    trainer: Trainer, recipe: Recipe, training_set: TrainingSet, among: Sequence[Candidate], reporter: Reporter
) -> Choice:
    if len(among) > 1:
        reporter("start", f"comparing {', '.join(one.name for one in among)}")
    choice = choose_start(
        trainer,
        recipe,
        training_set,
        among,
        on_loss=lambda name, loss: reporter("start", f"{name}: loss {loss:.3f}"),
        reporter=reporter,
    )
    reporter("start", f"{choice.start.title}: {choice.why}")
    return choice


def _encoder(manifest: Manifest) -> str:
    """The encoder that made a donor's vector, by its name."""
    said = manifest.recipe_snapshot.get("serve", {}).get("encoder", AUTO)
    return usual_encoder(said)


def _alike(recipe: Recipe, version: Version) -> bool:
    """Whether a version's adapter can start one of the recipe's method."""
    method = METHODS.get(version.method)
    return method is not None and method.form is METHODS[recipe.adapter.method].form


def _check_method(recipe: Recipe, version: Version) -> None:
    if not _alike(recipe, version):
        raise RecipeError(
            f"{version.name} is an adapter of {version.method}, which cannot start one of {recipe.adapter.method}",
            next_step="start from one of the same method (LoRA and AdaLoRA start each other), or set `start: auto`",
        )
