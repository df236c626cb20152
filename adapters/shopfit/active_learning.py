"""Which unlabeled rows are most worth a label: those that the adapter is unsure of, and that are unlike each other.

The rule is that of BADGE (Ash et al., arXiv:1906.03671). A row stands for the gradient that its likeliest answer would
put on a last layer, and rows are drawn one after the other, each with a chance that grows with the square of its
distance to those drawn before (k-means++). Where the adapter is sure, gradients are short and near each other, so such
rows are rarely drawn. What comes into the layer is the sentence encoder's vector of the row's text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shopfit.adapter.artifacts import needed
from shopfit.adapter.bundle import HeldBundle
from shopfit.adapter.score_fusion import log_shares, softmax
from shopfit.base.by_language import encoder_of, settled
from shopfit.base.chat_template import chat_digest
from shopfit.base.embed import LateEmbedder
from shopfit.base.load import Base, load_base
from shopfit.base.merchant_search import MerchantEmbedder, catalog_index
from shopfit.base.prompt import Prompter
from shopfit.engine import Engine, RankRequest, Tenant
from shopfit.engine.request_compilation import request_for
from shopfit.errors import DataError, Problem, RecipeError, UnknownReference
from shopfit.merchant.examples import Example, load_examples, seen
from shopfit.merchant.histories import past_items
from shopfit.merchant.labeling import file_row
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.sampling import draw
from shopfit.merchant.search import CatalogIndex, Embed
from shopfit.merchant.segments import Floats
from shopfit.merchant.splits import test_file_of
from shopfit.merchant.unlabeled import load_unlabeled, without_copies
from shopfit.recipe.methods import LARGEST_RANK
from shopfit.recipe.names import HOUSE
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry
from shopfit.settings import Settings
from shopfit.tasks import closed_task_of, task_of
from shopfit.tune.reporter import Reporter, silent
from shopfit.tune.run_context import base_of

_LOOKED_AT = 1000  # unlabeled rows
_FOUND = 20  # rank: items of the search that the adapter is asked about
_SUGGESTED = 9  # of them that a proposal names


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How unsure an adapter is of U rows.

    Args:
        gradients: (U, L) of the likeliest answer's loss by the L answers' scores; of one column where only a size is
            known.
        why: U short reasons.
        guesses: what it would answer now to each of them: `suggested`, with `probability` where it has one.
    """

    gradients: Floats
    why: list[str]
    guesses: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Pool:
    """The rows that may be proposed, and what reads them.

    Args:
        merchant: whose rows.
        recipe: that reads them.
        shown: a prompter without a tokenizer: it shows texts.
        rows: U unlabeled rows that repeat no labelled one.
        labels: those known so far, where every question has the same.
    """

    merchant: Merchant
    recipe: Recipe
    shown: Prompter
    rows: Sequence[Example]
    labels: tuple[str, ...]


def label_next(
    merchant: Merchant,
    recipe: Recipe,
    *,
    rows: int,
    settings: Settings,
    reporter: Reporter = silent,
    embed: Embed | None = None,
) -> list[dict[str, Any]]:
    """Propose unlabeled rows of a merchant to be labelled, in the form of its example file with the answer left open.

    Args:
        merchant: whose rows.
        recipe: of a task whose answers are scored.
        rows: how many, 1 or more; fewer if there are fewer.
        settings: where state lives.
        reporter: told of every resolved choice.
        embed: texts to vectors; by default the sentence encoder.

    Returns:
        the rows in the order they were drawn, each with `id`, its answer's field empty, `why`, and if somebody could be
        asked `suggested`, the answer as of now, and of a label its `probability`.

    Raises:
        RecipeError: for task generate.
        DataError: with every bad row, or if nothing is left to label.
        ShopfitError: with whatever else is wrong.
    """
    if recipe.spec.written:
        raise _no_uncertainty(recipe)
    recipe = settled(recipe, merchant.language)
    pool = _pool(merchant, recipe, reporter)
    embed = embed or MerchantEmbedder(LateEmbedder(settings.home).called(encoder_of(recipe)), merchant.name)
    uncertainty = _uncertainty(pool, settings, embed, reporter)
    vectors = embed([pool.shown.text(row.fields) for row in pool.rows]).astype(np.float64)
    chosen = draw_diverse(uncertainty.gradients, vectors, rows, recipe.tune.seed)
    return [to_fill_in(recipe, pool.rows[at], uncertainty.why[at], uncertainty.guesses[at]) for at in chosen]


def draw_diverse(gradients: Floats, vectors: Floats, count: int, seed: int) -> list[int]:
    """Rows whose gradients are long and far apart, drawn by k-means++ (BADGE, arXiv:1906.03671).

    The gradient of a last layer's weights is the outer product of both arguments; it is never written out.

    Args:
        gradients: (U, L) by the answers' scores.
        vectors: (U, D) of what comes into the layer.
        count: how many rows.
        seed: of the draws.

    Returns:
        at most `count` different places, the first of which has the longest gradient.
    """
    draws = np.random.default_rng(seed)
    sizes = (gradients**2).sum(1) * (vectors**2).sum(1)  # (U,) squared lengths
    nearest, chosen = sizes.copy(), list[int]()
    while len(chosen) < min(count, len(sizes)):
        nearest[chosen] = 0
        if not chosen or nearest.sum() <= 0:  # the rest adds nothing new: take the longest gradient
            left = np.where(np.isin(np.arange(len(sizes)), chosen), -1.0, sizes)
            place = int(left.argmax())
        else:
            place = int(draws.choice(len(sizes), p=nearest / nearest.sum()))
        chosen.append(place)
        alike = (gradients @ gradients[place]) * (vectors @ vectors[place])
        nearest = np.minimum(nearest, np.maximum(sizes + sizes[place] - 2 * alike, 0))
    return chosen


def to_fill_in(recipe: Recipe, row: Example, why: str, guess: Mapping[str, Any]) -> dict[str, Any]:
    """An unlabeled row as its merchant's example file has it, under the file's own names, its answer open."""
    return file_row(recipe, row, **{recipe.spec.answer: None, "why": why}, **guess)


def _pool(merchant: Merchant, recipe: Recipe, reporter: Reporter) -> Pool:
    """Read the unlabeled rows and what is labelled already; the bad rows of all files are named at once."""
    data = recipe.data
    catalog = merchant.catalog(data.catalog, recipe) if data.catalog else None
    history = merchant.catalog(data.history_catalog, recipe) if data.history_catalog else None
    shown = Prompter(recipe, None, catalog, history)
    problems: list[Problem] = []
    errors: list[DataError] = []

    def read(load: Callable[..., list[Example]], *file: str) -> list[Example]:
        try:
            return load(merchant, recipe, *file, catalog=catalog, history=history)
        except DataError as error:
            errors.append(error)
            problems.extend(error.problems)
            return []

    rows = read(load_unlabeled)
    there = merchant.file(data.file).exists()  # without it, every row needs a label
    examples = read(load_examples, data.file) if there else []
    test_file = test_file_of(merchant, recipe)
    test = read(load_examples, test_file) if test_file is not None else []
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise DataError("; ".join(error.message for error in errors), problems=problems, next_step=errors[0].next_step)
    kept = without_copies(rows, test, examples, lambda row: shown.text(row.fields), data.near_duplicate)
    reporter("unlabeled", f"{len(rows)} rows, of which {len(rows) - len(kept)} repeat a labelled one")
    if not kept:
        raise DataError(
            f"every unlabeled row of {merchant.name} repeats one that is labelled, so none is worth a label",
            next_step="add new rows to the unlabeled file",
        )
    looked_at = draw(kept, _LOOKED_AT, f"{recipe.tune.seed}/label-next")
    if len(looked_at) < len(kept):
        reporter("unlabeled", f"{len(looked_at)} of them are looked at, drawn by the seed")
    return Pool(merchant, recipe, shown, looked_at, task_of(recipe.task).labels(recipe, examples))


def _uncertainty(pool: Pool, settings: Settings, embed: Embed, reporter: Reporter) -> Uncertainty:
    """The uncertainty about each row of the adapter that would answer it now."""
    with Registry.open(settings) as registry:
        base, tenant = _answering(registry, pool, settings, reporter)
    task = pool.recipe.task
    if pool.recipe.spec.closed and len(tenant.labels) < 2:
        reporter("doubt", "no labels are known yet, from prompt.labels or examples, so rows are only kept apart")
        count = len(pool.rows)
        return Uncertainty(np.ones((count, 1)), ["unlike the others"] * count, [{}] * count)
    with Engine(base, slots=1, max_rank=LARGEST_RANK, embed=embed) as engine:
        if pool.recipe.spec.items:
            return _rank_uncertainty(engine, tenant, pool, embed)
        answers = engine.answer([request_for(task, tenant, row.fields, {}) for row in pool.rows])
        closed = closed_task_of(task)
        return Uncertainty(*closed.uncertainty(answers, tenant.labels), closed.guesses(answers))


def _no_uncertainty(recipe: Recipe) -> RecipeError:
    return RecipeError(
        f"recipe {recipe.name} is of task {recipe.task}: how unsure a generated answer is cannot be told",
        next_step="use a recipe of another task; draw rows to be answered by chance",
    )


def _answering(registry: Registry, pool: Pool, settings: Settings, reporter: Reporter) -> tuple[Base, Tenant]:
    """The merchant's adapter in production, else the house's starter, else the bare base."""
    merchant, recipe, shown = pool.merchant.name, pool.recipe, pool.shown
    if (mine := _in_production(registry, f"{merchant}/{recipe.name}", settings)) is not None:
        name, bundle = mine
        reporter("asked", f"{name}, the adapter in production")
        trained_on = bundle.manifest.base
        base = load_base(trained_on.name, settings.home, quantization=trained_on.quantization, dtype=trained_on.dtype)
        # the current catalogs, whose items the rows name
        return base, replace(Tenant.of(bundle, name), catalog=shown.catalog, history=shown.history)
    base = base_of(recipe, settings, None)
    starter = _in_production(registry, f"{HOUSE}/{recipe.name}", settings)
    chat = chat_digest(recipe, base.tokenizer, encoder=base.encoder)
    if starter is not None:
        known = starter[1].manifest.base
        starter = starter if base.known_by(known.fingerprint) and known.chat_template == chat else None
    reporter("asked", f"{starter[0]}, the house's starter" if starter else f"the bare base {base.name}")
    asked = starter[1] if starter else None
    return base, Tenant(merchant, recipe, pool.labels, shown.catalog, shown.history, asked)


def _in_production(registry: Registry, reference: str, settings: Settings) -> tuple[str, HeldBundle] | None:
    try:
        version = registry.resolve(reference)
    except UnknownReference:
        return None
    return version.name, registry.read(version, needed, settings.cache)


def _rank_uncertainty(engine: Engine, tenant: Tenant, pool: Pool, embed: Embed) -> Uncertainty:
    """Entropy of the scores of the items that a search finds, or of the row's own candidates; from 0 to 1."""
    index = None if pool.shown.catalog is None else catalog_index(pool.shown.catalog, embed)
    found = [_found(index, pool.shown, row) for row in pool.rows]
    asked = [place for place, items in enumerate(found) if len(items) > 1]
    answers = engine.rank(
        [RankRequest(tenant, pool.rows[place].fields, found[place], len(found[place])) for place in asked]
    )
    unit = tenant.recipe.tune.temperature if tenant.blend is None else 1.0  # a blend's scores are logits already
    uncertainties = np.ones(len(found))  # the most, where there are no two items to compare
    guesses: list[dict[str, Any]] = [{} for _ in found]
    for place, answer in zip(asked, answers, strict=True):
        shares = softmax(np.array([item.score for item in answer.items]) / unit)
        uncertainties[place] = -(shares * log_shares(shares)).sum() / np.log(len(shares))
        guesses[place] = {"suggested": [item.id for item in answer.items[:_SUGGESTED]]}
    why = [
        f"entropy {uncertainty:.3f} of {len(items)} items"
        for uncertainty, items in zip(uncertainties, found, strict=True)
    ]
    return Uncertainty(uncertainties[:, None], why, guesses)


def _found(index: CatalogIndex | None, shown: Prompter, row: Example) -> Sequence[str]:
    """The items to tell apart: the row's own candidates, else what a search finds for it."""
    if row.candidates is not None or index is None or shown.catalog is None:
        return row.candidates or ()
    left_out = () if shown.recipe.data.repeats else seen(row.fields)
    allowed = [item for item in shown.catalog if item not in left_out]
    return list(index.search(shown.query_text(row.fields), past_items(row.fields, shown.history), allowed, _FOUND))
