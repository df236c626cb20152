"""Whose rows may be labelled for what, and the runs beside that: the order of rows, the learning curve, training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from shopfit.merchant.kept_folder import find_merchant, kept_merchant
from shopfit.merchant.merchant import Merchant
from shopfit.recipe.loading import load_recipe, parse_recipe
from shopfit.recipe.names import is_slug
from shopfit.recipe.schema import Recipe
from shopfit.recipe.shipped import sample_merchants, shipped_recipes
from shopfit.runs import Job, Run, all_runs
from shopfit.runs.worker import IN_RUN
from shopfit.serve.console.label_queues import LabelQueues
from shopfit.serve.console.routes import BadForm, NoPage, Visit
from shopfit.settings import merchant_folder

_PROPOSED = 200  # rows that a run puts in order
_SETS = "--set"


@dataclass(frozen=True, slots=True)
class Desk:
    """What a page of one merchant and recipe works on.

    Args:
        home: SHOPFIT_HOME.
        name: of the merchant.
        merchant: as its data lie now; None if there are none yet.
        recipe: that rows are labelled for.
        shipped: whether runs can be started by the recipe's name.
        overrides: `key=value` that the last training was asked with, and so are all runs of this page.
    """

    home: Path
    name: str
    merchant: Merchant | None
    recipe: Recipe
    shipped: bool
    overrides: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The page's address."""
        return f"/console/label/{self.name}/{self.recipe.name}"

    def kept(self) -> Merchant:
        """The merchant's folder to write to, made if there is none."""
        return kept_merchant(self.home, self.name)

    def runs(self, job: Job) -> list[Run]:
        """Its runs of a job, the newest first."""
        return runs_of(self.home, self.name, self.recipe.name, job)

    def arguments(self, job: Job) -> list[str]:
        """Of the command of a run."""
        sets = [word for one in self.overrides for word in (_SETS, one)]
        told = ["--rows", str(_PROPOSED), "--out", f"{IN_RUN}next.jsonl"] if job == "label-next" else []
        return [*sets, *told]


@dataclass(frozen=True, slots=True)
class Proposals:
    """What the newest order of rows says.

    Args:
        run: that made it; None without.
        order: keys of rows, in turn.
        told: what it said of each.
    """

    run: Run | None
    order: Sequence[str]
    told: Mapping[str, Mapping[str, Any]]


def desk_of(visit: Visit, merchant: str, recipe: str) -> Desk:
    """What a page works on.

    Raises:
        NoPage: if the key may not see the merchant, or there is no such merchant or recipe.
        RecipeError: if the recipe is not valid.
        DataError: if the merchant's folder is not.
        RegistryError: if the registry cannot be read.
    """
    visit.reads(merchant)
    folder, home = find_merchant(visit.home, merchant), visit.home
    own = {one.recipe: one.newest for one in visit.gateway.fleet.adapters() if one.merchant == merchant}
    if not is_slug(merchant) or (folder is None and not own and visit.grant.merchant != merchant):
        raise NoPage("there is no such page, or not for this key", next_step="go back to the start")
    if recipe in shipped():
        overrides = _overrides(home, merchant, recipe)
        return Desk(home, merchant, folder, load_recipe(recipe, overrides=overrides), True, overrides)
    if recipe not in own:
        raise NoPage("there is no such page, or not for this key", next_step="go back to the start")
    manifest = visit.gateway.registry.manifest(own[recipe])
    return Desk(home, merchant, folder, _with_labels(parse_recipe(manifest.recipe_snapshot), manifest.labels), False)


def merchants_of(visit: Visit) -> list[str]:
    """Merchants whose rows the key may label, by name; samples included for the platform's."""
    if visit.grant.merchant is not None:
        return [visit.grant.merchant]
    kept = merchant_folder(visit.home, "x").parent
    named = {one.name for one in kept.iterdir() if one.is_dir() and is_slug(one.name)} if kept.is_dir() else set()
    return sorted({*sample_merchants(), *named, *(one.merchant for one in visit.gateway.fleet.adapters())})


def recipes_of(visit: Visit, merchant: str) -> list[str]:
    """Names of the recipes that a merchant's rows may be labelled for: the shipped ones, and those of its versions."""
    own = {one.recipe for one in visit.gateway.fleet.adapters() if one.merchant == merchant}
    return [*shipped(), *sorted(own - set(shipped()))]


@cache
def shipped() -> tuple[str, ...]:
    """Names of the shipped recipes."""
    return tuple(one.name for one in shipped_recipes())


def proposals_of(desk: Desk, queues: LabelQueues) -> Proposals:
    """The order that the newest finished run gave."""
    for run in desk.runs("label-next"):
        result = run.result
        rows = result.get("rows") if isinstance(result, dict) else None
        if isinstance(rows, list) and run.state() == "done":
            known = [row for row in rows if isinstance(row, dict)]
            keys = queues.keys(desk.recipe, known)
            return Proposals(run, keys, dict(zip(keys, known, strict=True)))
    return Proposals(None, (), {})


def runs_of(home: Path, merchant: str, recipe: str, job: Job) -> list[Run]:
    """A merchant's runs of a job for a recipe, the newest first."""
    return [run for run in all_runs(home, merchant) if run.asked.job == job and Path(run.asked.recipe).stem == recipe]


def check_not_written(recipe: Recipe) -> None:
    """Make sure that rows of a recipe can be labelled by keys.

    Raises:
        BadForm: if its answers are texts that are written.
    """
    if recipe.spec.written:
        raise BadForm(
            f"the answers of {recipe.name} are texts, which are written and not chosen",
            next_step=f"write them into {recipe.data.file}, a row each",
        )


def _with_labels(recipe: Recipe, labels: Sequence[str]) -> Recipe:
    """A recipe that names the answers that its adapter knows."""
    if recipe.prompt.labels or not recipe.spec.closed:
        return recipe
    return recipe.model_copy(
        update={"prompt": recipe.prompt.model_copy(update={"labels": {one: one for one in labels}})}
    )


def _overrides(home: Path, merchant: str, recipe: str) -> tuple[str, ...]:
    """What the last training was asked to change in a recipe."""
    for run in runs_of(home, merchant, recipe, "adapter"):
        words = run.asked.arguments
        return tuple(words[place + 1] for place, word in enumerate(words[:-1]) if word == _SETS)
    return ()
