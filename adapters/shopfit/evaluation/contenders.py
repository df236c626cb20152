"""The systems that a report compares: the adapter as it is served, the bare base, every prior and baseline."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from shopfit.adapter.score_fusion import log_shares, softmax
from shopfit.base.by_language import encoder_of, short_name
from shopfit.base.merchant_search import with_encoder
from shopfit.base.prompt import Prompter
from shopfit.engine import Engine, Tenant
from shopfit.engine.request_compilation import request_for
from shopfit.evaluation.assess import Answers, assess
from shopfit.evaluation.report import Contender, Held
from shopfit.merchant.examples import Example
from shopfit.merchant.search import Embed
from shopfit.tasks import ChoosePredictions, Learned, Predictions, pooled, task_of

Fold = tuple[Sequence[Example], Sequence[Example], Predictions]
"""Training examples, held-out examples, and the adapter's answers to the held-out ones."""
_SAYS_NOTHING = ("N/A", "none", "…")


def compare(
    engine: Engine,
    tenant: Tenant,
    train: Sequence[Example],
    test: Sequence[Example],
    prompter: Prompter,
    embed: Embed,
    instant: Tenant | None = None,
    answers: Answers | None = None,
) -> list[Contender]:
    """Answer a test set with every system.

    Args:
        engine: answers for adapter and base.
        tenant: of the adapter.
        train: what the adapter has learned from: priors and baselines are fitted on the same.
        test: the test set.
        prompter: of the tenant.
        embed: for baselines, turns texts into vectors.
        instant: of the instant version, if one was made before.
        answers: what was answered for other versions of the run, and will be kept of these.
    """
    known = answers or Answers()
    base = known.of(engine, bare(tenant), test)
    contenders = [
        Contender("base", "base", base),
        Contender("adapter", "adapter", known.of(engine, tenant, test)),
        *([] if instant is None else [Contender("instant", "instant", known.of(engine, instant, test))]),
        *rivals(train, test, tenant, prompter, embed),
    ]
    if isinstance(base, ChoosePredictions) and (settled := contextual(engine, bare(tenant))) is not None:
        contenders.append(Contender("base-calibrated", "baseline", _settled(base, settled)))
    if tenant.blend is not None:
        alone = known.of(engine, replace(tenant, blend=None), test)
        contenders.append(Contender("adapter-alone", "baseline", alone))
    return contenders


def compare_held_out(engine: Engine, tenant: Tenant, folds: Sequence[Fold]) -> Held:
    """What base and priors answer to the examples that adapters in cross-validation were asked about.

    Args:
        engine: answers for the base.
        tenant: of the adapter.
        folds: at least one.
    """
    task = task_of(tenant.recipe.task)
    base = [assess(engine, bare(tenant), asked) for _, asked, _ in folds]
    said: dict[str, list[Predictions]] = {}
    for learned, asked, _ in folds:
        items = task.pools(tenant.recipe, asked, tenant.catalog)
        for system in task.priors(tenant.recipe, learned, labels=tenant.labels, catalog=tenant.catalog):
            said.setdefault(system.name, []).append(system.predict(asked, items))
    contenders = [
        Contender("base", "base", pooled(base)),
        Contender("adapter", "adapter", pooled([answers for _, _, answers in folds])),
        *(Contender(name, "prior", pooled(parts)) for name, parts in said.items() if len(parts) == len(folds)),
    ]
    groups = [f"held out/{example.group or example.id}" for _, asked, _ in folds for example in asked]
    return Held(contenders, groups)  # a row and its earlier steps are one group


def contextual(engine: Engine, tenant: Tenant) -> Tenant | None:
    """A tenant without its bias between labels (contextual calibration, Zhao et al., arXiv:2102.09690).

    A base scores some labels higher than others, whatever the text. This bias is measured on texts without content and
    subtracted from its scores; no example is needed.

    Args:
        engine: answers.
        tenant: whose scores they are.

    Returns:
        None for other tasks than choose, and where a prompt shows nothing but items.
    """
    recipe = tenant.recipe
    texts = [name for name in recipe.fields if name not in recipe.data.item_fields]
    if not recipe.spec.single_label or not texts:
        return None
    asked = [request_for(recipe.task, tenant, dict.fromkeys(texts, text), {}) for text in _SAYS_NOTHING]
    shares = np.array([answer.raw(tenant.labels, ()) for answer in engine.answer(asked)])
    offsets = tenant.temperature * log_shares(shares).mean(0)
    return replace(tenant, offsets=tuple(float(offset) for offset in offsets))


def _settled(base: ChoosePredictions, tenant: Tenant) -> ChoosePredictions:
    """What the base answers with a tenant's offsets, from what it answers without: its scores are the same."""
    logs = log_shares(base.probabilities) - np.array(tenant.offsets) / tenant.temperature
    return replace(base, probabilities=np.array([softmax(row) for row in logs]))


def bare(tenant: Tenant) -> Tenant:
    """The same tenant answered by the bare base."""
    return replace(tenant, name=f"the bare base for {tenant.name}", bundle=None, blend=None, offsets=())


def rivals(
    train: Sequence[Example],
    test: Sequence[Example],
    tenant: Tenant,
    prompter: Prompter,
    embed: Embed,
    *,
    fitted: bool = True,
) -> list[Contender]:
    """Every prior and every baseline of the tenant's recipe, fitted on `train` and answering `test`.

    Args:
        train: what the adapter has learned from.
        test: the test set.
        tenant: of the adapter.
        prompter: of the tenant.
        embed: turns texts into vectors.
        fitted: whether those that learn from examples are wanted too.
    """
    recipe, task = tenant.recipe, task_of(tenant.recipe.task)
    items = task.pools(recipe, test, tenant.catalog)
    learned = Learned(
        train,
        text=lambda example: prompter.text(example.fields),
        query_text=lambda example: prompter.query_text(example.fields),
        embed=embed,
        labels=tenant.labels,
        catalog=tenant.catalog,
        history=tenant.history,
        seed=recipe.tune.seed,
        encoder=short_name(encoder_of(recipe)),
        minilm=with_encoder(embed, "minilm-l6"),
    )
    systems = task.priors(recipe, train, labels=tenant.labels, catalog=tenant.catalog)
    found = {system.name: system for name in recipe.evaluate.baselines if (system := task.baseline(name, learned))}
    systems += found.values()  # encoder-cosine may be minilm-cosine
    return [
        Contender(system.name, system.kind, system.predict(test, items))
        for system in systems
        if fitted or not system.fitted
    ]
