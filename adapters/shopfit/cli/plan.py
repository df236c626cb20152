"""`shopfit plan`: what a run would cost."""

import click

from shopfit.cli.terminal import (
    as_json,
    check_named,
    console,
    counted,
    merchant_of,
    only_prints,
    print_json,
    recipe_options,
)
from shopfit.documents import document
from shopfit.libraries import quiet, share_cores


@click.command(short_help="Say what training an adapter would cost; keep nothing.")
@recipe_options
@as_json
@only_prints
def command(merchant: str, recipe: str, data: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check MERCHANT's data for RECIPE, measure a few steps on this machine, and estimate the whole run.

    What these steps train is thrown away. What others' adapters add, to be compared as starts, is not counted.
    """
    from shopfit.recipe.loading import load_recipe

    loaded = load_recipe(recipe, overrides=overrides)
    opened = merchant_of(merchant, data)
    check_named(opened, loaded, overrides)
    share_cores()
    quiet()
    from shopfit.adapter.stack import rank_note
    from shopfit.adapter.weight_files import form_note
    from shopfit.base.by_language import encoder_of
    from shopfit.base.embed import LateEmbedder
    from shopfit.merchant.labels import spellings_text
    from shopfit.settings import Settings
    from shopfit.tasks import task_of
    from shopfit.tune.cost import plan
    from shopfit.tune.folds import without_trackers
    from shopfit.tune.run_context import prepare
    from shopfit.tune.trainer import make_accelerator

    accelerator = make_accelerator(without_trackers(loaded))
    settings = Settings.from_environment()
    languages: list[str] = []

    def told(what: str, detail: str) -> None:
        if what == "language":
            languages.append(detail)

    context = prepare(opened, loaded, settings=settings, accelerator=accelerator, reporter=told)
    fused = loaded.blend and task_of(loaded.task).fusion is not None
    embeds = fused or any(name != "bm25" for name in loaded.evaluate.baselines)
    cost = plan(context, LateEmbedder(settings.home).called(encoder_of(context.recipe)) if embeds else None)
    if as_json:
        print_json(
            document(cost)
            | {"seconds": cost.seconds, "without_examples": context.splits.without_examples, "language": languages}
        )
        return
    rows = {
        "examples": f"{cost.examples} to train on, {cost.valid} held out to stop early, {cost.test} to test"
        + (f" ({context.splits.without_examples})" if context.splits.absent else ""),
        "base": context.base.name,
        "steps": f"{cost.steps} at most ({counted(loaded.tune.epochs, 'epoch')})",
        "tokens": f"{cost.tokens_per_epoch:,} an epoch, {cost.longest} in the longest row",
        "adapter": f"{loaded.adapter.method}, {counted(cost.trainable_parameters, 'parameter')}, "
        + f"{cost.adapter_mb:.1f} MB"
        + rank_note(loaded.adapter)
        + form_note(loaded.adapter),
        "memory": f"{cost.peak_memory_mb:,.0f} MB at most, with the base in {cost.dtype}",
        "time": f"about {cost.seconds:,.0f} s: {cost.begin_seconds:,.0f} to begin, {cost.train_seconds:,.0f} to train, "
        + (f"{cost.parts_seconds:,.0f} on {cost.trainings} parts to cross-validate, " if cost.trainings else "")
        + f"{cost.evaluate_seconds:,.0f} to evaluate",
    }
    if languages:
        rows["language"] = "; ".join(languages)
    if cost.labels:
        rows["labels"] = ", ".join(f"{label} {count}" for label, count in cost.labels.items())
    if cost.spellings:
        rows["spellings"] = spellings_text(cost.spellings)
    if cost.contradict:
        rows["contradict"] = cost.contradict
    for name, value in rows.items():
        console().row(name, value)
