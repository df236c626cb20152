"""A fleet of onboardings: the main job for many merchants at once, on one base that is loaded once.

Each merchant's run is what `onboard` does. It has a thread of its own, and only one of them runs at a time, in a fixed
order: what needs no training (data, starts, fusion, calibration, evaluation, the gate, the registry) is done one after
another. A run that waits for its trainings, those of all its folds and the final one, gives its turn to others; when
all wait, the fleet trains what they have queued together.

Runs share the base, the registry and the encoder of search, and nothing that is a merchant's. One that fails, fails
alone.
"""

import json
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shopfit.base.by_language import merchants_by_base, several_bases
from shopfit.base.embed import LateEmbedder
from shopfit.errors import DataError, RecipeError, ShopfitError, UnknownReference
from shopfit.merchant.examples import content_digest
from shopfit.merchant.merchant import Merchant
from shopfit.onboarding import Job, Onboarded, make_versions
from shopfit.recipe.loading import dump_recipe
from shopfit.recipe.schema import AUTO, Recipe
from shopfit.registry import Registry
from shopfit.registry.temp_folders import sweep
from shopfit.settings import Settings, checkpoints, fleets
from shopfit.tune.checkpoints import Checkpoints
from shopfit.tune.fleet import SLOTS, Fleet, check_fleet
from shopfit.tune.fleet_trainer import FleetTrainer
from shopfit.tune.processes import check_alone
from shopfit.tune.run_context import base_of, prepare
from shopfit.tune.trainer import make_accelerator
from shopfit.tune.training_callback import Heartbeat
from shopfit.turns import Turn

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

State = Literal["promoted", "candidate", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one merchant's run in a fleet.

    Args:
        merchant: its name.
        state: what the gate said of the version, or that there is none.
        reason: the gate's, or what went wrong.
        version: the last that was registered, such as `acme/review-sentiment@7`; empty if it failed.
        instant: the version that was made before it without training; empty if there is none.
        metric: the recipe's.
        before: what the bare base reaches on the test set; None if that is undefined.
        after: what the version reaches.
        seconds: from the beginning of its run, waiting for others included.
        problems: of a failure, each in a line.
        next_step: of a failure.
        earlier: whether a fleet that was interrupted made it.
    """

    merchant: str
    state: State
    reason: str
    version: str = ""
    instant: str = ""
    metric: str = ""
    before: float | None = None
    after: float | None = None
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    next_step: str = ""
    earlier: bool = False

    @classmethod
    def of(cls, merchant: str, error: Exception, seconds: float = 0.0) -> "Outcome":
        """That of a run which failed.

        Args:
            merchant: its name.
            error: what went wrong.
            seconds: from the beginning of its run.
        """
        if not isinstance(error, ShopfitError):
            return cls(merchant, "failed", f"{type(error).__name__}: {error}", seconds=seconds)
        problems = [str(problem) for problem in error.problems]
        return cls(
            merchant, "failed", error.message, seconds=seconds, problems=problems, next_step=error.next_step or ""
        )

    @property
    def needs_attention(self) -> bool:
        """Whether nothing of this run serves."""
        return self.state == "failed" or (self.state == "refused" and not self.instant)


Reporter = Callable[[str, str, str], None]
"""Told a merchant, and of its run what a `shopfit.tune.reporter.Reporter` is told."""


def onboard_fleet(
    merchants: Sequence[Merchant],
    recipe: Recipe,
    *,
    settings: Settings,
    actor: str,
    instant: bool = False,
    resume: bool = False,
    attempt: str = "",
    erasures: Mapping[str, int] | None = None,
    slots: int = SLOTS,
    check: Callable[[Merchant], None] = lambda _: None,
    reporter: Reporter = lambda _merchant, _what, _detail: None,
    ended: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Make, evaluate and register an adapter for each of many merchants.

    Args:
        merchants: at least one, each once.
        recipe: what to make.
        settings: where state lives.
        actor: who asks, for the registry's audit.
        instant: as for `onboard`.
        resume: whether to leave out those of whom the same recipe's interrupted fleet has registered a version.
        attempt: names what this call is a part of, such as a fleet over machines. Merchants that another part of it
            began go on, as with `resume`.
        erasures: of each merchant until now, which is the default. One that is erased later gets no version.
        slots: trainings at a time, and runs.
        check: refuses a merchant by raising ShopfitError, before its data is read.
        reporter: told of every resolved choice.
        ended: told of each outcome, as soon as it is there.

    Returns:
        the outcomes, in the order of the merchants.

    Raises:
        RecipeError: if a fleet does not train this recipe, before anything is loaded, or on its base.
        DataError: if a merchant is there twice, or none is.
        ShopfitError: if the base or the registry cannot be opened.
    """
    check_fleet(recipe)
    names = check_merchants(merchants)
    recipe = on_one_base(recipe, merchants)
    records = {merchant.name: _Record(settings.home, merchant, recipe, instant, attempt) for merchant in merchants}
    sweep(settings.home)
    with Registry.open(settings) as registry:
        goes_on = {name for name, record in records.items() if resume or record.begun}
        found = {name: done for name in names if name in goes_on and (done := records[name].read(registry)) is not None}
        for outcome in found.values():
            ended(outcome)
        for name in set(names) - set(found):
            records[name].begin(anew=name not in goes_on)
        if len(found) < len(names):
            accelerator = make_accelerator(recipe)
            check_alone("a fleet is one process, not", accelerator)
            base = base_of(recipe, settings, str(accelerator.device))
            fleet = Fleet(base, slots=slots, rank=recipe.adapter.rank)
            encoder = LateEmbedder(settings.home)
            shared = (registry, settings, accelerator, fleet, encoder, actor)
            yard = _Yard(*shared, recipe, instant, check, reporter, erasures or registry.erasures(names))

            def start(merchant: Merchant) -> Turn:
                def work(turn: Turn) -> None:
                    record = records[merchant.name]
                    outcome = yard.run(merchant, turn, record.notes)
                    if outcome.version:
                        record.write(outcome)
                    else:
                        record.remove()
                    found[merchant.name] = outcome

                return Turn(f"shopfit-fleet-{merchant.name}", work)

            left = deque(merchant for merchant in merchants if merchant.name not in found)
            _conduct(left, start, lambda merchant: ended(found[merchant.name]), fleet, slots)
    return [found[name] for name in names]


def on_one_base(recipe: Recipe, merchants: Sequence[Merchant]) -> Recipe:
    """The recipe with the base for the language that all merchants have; the encoder is settled for each.

    Raises:
        RecipeError: if their languages have several bases, or the base is chosen by examples.
    """
    if recipe.base == AUTO:
        raise RecipeError(
            f"base of {recipe.name} is {AUTO}, and a fleet is on one base",
            next_step="name the base, such as --set base=minilm-l6",
        )
    found = merchants_by_base(recipe, {merchant.name: merchant.language for merchant in merchants})
    if len(found) > 1:
        raise RecipeError(
            f"the merchants' languages ask for several bases, and a fleet is on one: {several_bases(found)}",
            next_step="make a fleet of each, or name one: --set base=…",
        )
    return recipe.model_copy(update={"base": next(iter(found)), "bases": {}})


def check_merchants(merchants: Sequence[Merchant]) -> list[str]:
    """The names of a fleet's merchants.

    Raises:
        DataError: if one is there twice, or none is.
    """
    names = [merchant.name for merchant in merchants]
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise DataError(f"a fleet has each merchant once: {', '.join(twice)} is there twice", next_step="name it once")
    if not names:
        raise DataError("a fleet of no merchants makes nothing", next_step="name at least one")
    return names


def _conduct(
    queue: deque[Merchant], start: Callable[[Merchant], Turn], over: Callable[[Merchant], None], fleet: Fleet, most: int
) -> None:
    """Give each run its turn; the fleet trains whenever all of them wait."""
    alive: list[tuple[Merchant, Turn]] = []
    try:
        while queue or alive:
            while queue and len(alive) < most:
                merchant = queue.popleft()
                alive.append((merchant, start(merchant)))
            for merchant, turn in list(alive):
                if turn.ready:
                    turn.take()
                if turn.over:
                    alive.remove((merchant, turn))
                    over(merchant)
            if fleet.busy and not any(turn.ready for _, turn in alive) and not (queue and len(alive) < most):
                fleet.step()
    finally:
        for _, turn in alive:
            turn.end()


@dataclass(frozen=True, slots=True)
class _Yard:
    """What the runs of a fleet share."""

    registry: Registry
    settings: Settings
    accelerator: "Accelerator"
    fleet: Fleet
    encoder: LateEmbedder
    actor: str
    recipe: Recipe
    instant: bool
    check: Callable[[Merchant], None]
    reporter: Reporter
    erasures: Mapping[str, int]

    def run(self, merchant: Merchant, turn: Turn, notes: Checkpoints) -> Outcome:
        """One merchant's run, in its turn; what goes wrong is its outcome."""
        started = time.perf_counter()

        def say(what: str, detail: str) -> None:
            if what != "registered":  # what is registered is recorded first
                turn.check()
            self.reporter(merchant.name, what, detail)

        trainer = FleetTrainer(self.fleet, self.accelerator, turn.wait)
        try:
            self.check(merchant)
            context = prepare(
                merchant,
                self.recipe,
                settings=self.settings,
                accelerator=self.accelerator,
                base=self.fleet.base,
                reporter=say,
            )
            done = make_versions(
                Job(
                    self.registry,
                    self.settings,
                    self.encoder.anew(),
                    self.actor,
                    say,
                    notes,
                    erasures={merchant.name: self.erasures[merchant.name]},
                ),
                replace(context, trainer=trainer),
                started,
                instant=self.instant,
                callback=Heartbeat(say, "tuning", "the adapter"),
            )
            assert done is not None  # there is one process
            notes.clear()
            return _outcome(done, time.perf_counter() - started)
        except Exception as error:  # a merchant's own, whatever it is
            return Outcome.of(merchant.name, error, time.perf_counter() - started)
        finally:
            trainer.withdraw()


def _outcome(done: Onboarded, seconds: float) -> Outcome:
    report = done.report
    verdict, metric = report.verdict, report.metric
    base = next(row for row in report.systems if row.kind == "base")
    before, after = (row.metrics[metric] for row in (base, report.adapter))
    return Outcome(
        merchant=report.merchant,
        state="promoted" if verdict.promote else "candidate" if verdict.candidate else "refused",
        reason=verdict.reason,
        version=done.version.name,
        instant="" if done.instant is None else done.instant.version.name,
        metric=metric,
        before=before.value if before.defined else None,
        after=after.value if after.defined else None,
        seconds=seconds,
    )


class _Record:
    """What a fleet has begun and registered for a merchant, in a file that is removed with the merchant.

    Args:
        home: shopfit's.
        merchant: whose files, as they are now, it is of.
        recipe: of the fleet.
        instant: likewise.
        attempt: as for `onboard_fleet`.
    """

    def __init__(self, home: Path, merchant: Merchant, recipe: Recipe, instant: bool, attempt: str) -> None:
        self._merchant, self._attempt = merchant.name, attempt
        self._path = fleets(home, merchant.name) / f"{recipe.name}.json"
        self._run = content_digest([dump_recipe(recipe), instant, _files(merchant.folder)])
        self.notes = Checkpoints(checkpoints(home, merchant.name) / recipe.name)

    @property
    def begun(self) -> bool:
        """Whether another part of the same attempt has begun the merchant's run."""
        return self._of_this_attempt(self._found())

    def read(self, registry: Registry) -> Outcome | None:
        """What is there of the same fleet; None if that is nothing, cannot be read, or is registered no more."""
        kept = self._found()
        try:
            outcome = Outcome(**kept["outcome"] | {"earlier": not self._of_this_attempt(kept)})
            registry.resolve(outcome.version)
        except (ValueError, TypeError, KeyError, UnknownReference):
            return None
        return outcome

    def begin(self, *, anew: bool) -> None:
        """Forget what was registered, and that the run was begun before if it begins anew."""
        self.remove()
        if anew:
            self.notes.forget_notes()
        if self._attempt:
            self._keep({})

    def write(self, outcome: Outcome) -> None:
        """Keep an outcome."""
        self._keep({"outcome": asdict(outcome)})

    def remove(self) -> None:
        """Forget it: the merchant's next run begins anew."""
        self._path.unlink(missing_ok=True)

    def _keep(self, said: Mapping[str, Any]) -> None:
        """Keep what is said; on a disk that cannot be written it is not kept, and the run will be made anew."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part = self._path.with_suffix(".part")
            document = {"schema": 1, "run": self._run, "attempt": self._attempt, **said}
            part.write_text(json.dumps(document), encoding="utf-8")
            part.replace(self._path)
        except OSError as error:
            logger.warning("--resume will make %s anew: %s", self._merchant, error)

    def _of_this_attempt(self, kept: Mapping[str, Any]) -> bool:
        return bool(self._attempt) and kept.get("attempt") == self._attempt

    def _found(self) -> dict[str, Any]:
        """What the same fleet kept; empty if that is nothing, or cannot be read."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) and found.get("run") == self._run else {}


def _files(folder: Path) -> list[list[Any]]:
    """Names, sizes and times of the files in a folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        with suppress(OSError):
            if path.is_file():
                state = path.stat()
                found.append([str(path.relative_to(folder)), state.st_size, state.st_mtime_ns])
    return found
