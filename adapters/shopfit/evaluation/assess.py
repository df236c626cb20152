"""Answer a test set with an engine, or with an adapter in training, and collect the predictions."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from shopfit.adapter.adapted_model import AdaptedModel
from shopfit.adapter.artifacts import needed
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.engine import Engine, Tenant, offline_scoring
from shopfit.engine.offline_scoring import ask_generate
from shopfit.engine.request_compilation import request_for
from shopfit.merchant.examples import Example
from shopfit.recipe.loading import dump_recipe
from shopfit.tasks import Predictions, task_of


def assess(engine: Engine, tenant: Tenant, examples: Sequence[Example]) -> Predictions:
    """What the engine answers to a test set with the tenant's adapter: exactly what it would serve."""
    recipe, items = tenant.recipe, task_of(tenant.recipe.task).pools(tenant.recipe, examples, tenant.catalog)
    options = [{"candidates": pool, "top": len(pool)} if recipe.spec.items else {} for pool in items]
    asked = [
        request_for(recipe.task, tenant, example.fields, more) for example, more in zip(examples, options, strict=True)
    ]
    answers = [answer.raw(tenant.labels, pool) for answer, pool in zip(engine.answer(asked), items, strict=True)]
    return task_of(recipe.task).collect(tenant.labels, examples, items, answers, tenant.catalog)


class Answers:
    """What one base's engines answer, by adapter and test set: versions of a run are compared with the same systems."""

    def __init__(self) -> None:
        self._known: dict[str, Predictions] = {}

    def of(self, engine: Engine, tenant: Tenant, examples: Sequence[Example]) -> Predictions:
        """As `assess`, asked once."""
        key = _key(tenant, examples)
        if key not in self._known:
            self._known[key] = assess(engine, tenant, examples)
        return self._known[key]


def _key(tenant: Tenant, examples: Sequence[Example]) -> str:
    """A digest of all that answers depend on, besides the base and the merchant's catalog."""
    recipe = dump_recipe(tenant.recipe)
    tune = {name: recipe["tune"][name] for name in ("seed", "temperature")}
    files = {} if tenant.bundle is None else tenant.bundle.manifest.files
    said = {
        "recipe": {**recipe, "adapter": None, "start": None, "tune": tune},
        "labels": tenant.labels,
        "files": {name: files[name] for name in sorted(needed(files))},
        "temperature": tenant.temperature,
        "blend": None if tenant.blend is None else tenant.blend.model_dump(mode="json"),
        "offsets": tenant.offsets,
        "rows": [example.id for example in examples],
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def ask(
    adapted: AdaptedModel, base: Base, prompter: Prompter, labels: Sequence[str], examples: Sequence[Example]
) -> list[Any]:
    """The raw answers of an adapter that is still in training: what `collect` takes."""
    recipe, rows = prompter.recipe, [example.fields for example in examples]
    if recipe.spec.written:
        return list(ask_generate(adapted, base, prompter, rows))
    pools = task_of(recipe.task).pools(recipe, examples, prompter.catalog)
    return offline_scoring.ask(adapted, prompter, rows, labels=labels, pools=pools)
