"""The model card of a bundle: its README.md (Mitchell et al., Model Cards for Model Reporting, arXiv:1810.03993)."""

import json
import string
from collections.abc import Mapping
from typing import Any, cast

from shopfit.adapter.bundle import Manifest
from shopfit.evaluation.gate import leads
from shopfit.evaluation.report import PLOT, Report
from shopfit.evaluation.wording import arrow, metric_name, number, retrieval_told, signed_with_span, span, trained_on
from shopfit.recipe.methods import METHOD_RULES, SWITCHES, Method
from shopfit.recipe.schema import Tune
from shopfit.recipe.tasks import TASKS

_KINDS = {
    "fixed": "a set that the merchant fixed",
    "held out": "held out of the merchant's examples",
    "pretext": "held out of the pairs from the catalog",
}
_FEW = 100  # test rows from which a small gain may be told from chance


def card(report: Report, manifest: Manifest) -> str:
    """Write the card, in Markdown.

    Args:
        report: of the adapter.
        manifest: of its bundle.
    """
    name = f"{report.merchant}/{report.recipe}"
    reference = f"{name}@candidate" if report.verdict.candidate else name
    snapshot, base = manifest.recipe_snapshot, manifest.base.name
    description = " ".join(str(snapshot.get("description", "")).split())
    parts = [
        f"# {name}",
        *([description] if description else []),
        f"An adapter that {TASKS[report.task].does} for the merchant `{report.merchant}` on the base `{base}`, "
        f"trained by shopfit from {trained_on(report.n_train, report.n_pretext)}.",
        f"> {report.verdict.reason}",
        "## How to use it",
        *_usage(report, reference, snapshot, base),
        "## What it reaches",
        f"On {report.n_test} test rows ({_KINDS[report.test_kind]}), 95% bootstrap intervals in brackets, "
        "best value of each column in bold. A prior is what can be said with no model at all.",
        _table(report),
        f"Over the base: {metric_name(report.metric, report.k)} {signed_with_span(report.gain_over_base)}. "
        f"Over the prior {report.best_prior}: {signed_with_span(report.gain_over_prior)}. "
        "Positive is better; both are paired, on the same rows.",
        f"![Learning curve and comparison]({PLOT})",
        "## What it is",
        _facts(report, manifest),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(report, manifest)),
    ]
    return "\n\n".join(parts) + "\n"


def _usage(report: Report, reference: str, snapshot: Mapping[str, Any], base: str) -> list[str]:
    template = str(snapshot.get("prompt", {}).get("template", ""))
    items = snapshot.get("data", {}).get("item_fields", ["history"])
    names = dict.fromkeys(name for _, name, _, _ in string.Formatter().parse(template) if name)
    fields = json.dumps({name: ["…"] if name in items else "…" for name in names}, ensure_ascii=False)
    request = f"{report.task.capitalize()}Request"
    return [
        f"```sh\nshopfit predict {reference} '{fields}'\n```",
        "```python\n"
        f"from shopfit.engine import {', '.join(sorted(['Engine', request]))}\n\n"
        f'engine = Engine.load("{base}")\n'
        f'engine.{report.task}([{request}("{reference}", {fields})])\n'
        "```",
    ]


def _table(report: Report) -> str:
    metrics = list(report.adapter.metrics)
    head = ["system", "kind", *(metric_name(metric, report.k) + arrow(metric) for metric in metrics)]
    lines = [head, ["---", "---", *["---:"] * len(metrics)]]
    for row in report.systems:
        cells = []
        for metric in metrics:
            interval = row.metrics[metric]
            value = number(interval.value)
            cells.append((f"**{value}**" if leads(row, report.systems, metric) else value) + f" [{span(interval)}]")
        lines.append([row.name, row.kind, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _facts(report: Report, manifest: Manifest) -> str:
    base, data = manifest.base, manifest.data
    unit = METHOD_RULES[cast("Method", manifest.method)].unit
    asked = manifest.recipe_snapshot.get("adapter", {})
    switches = [switch for switch in SWITCHES if asked.get(switch)]
    size = f"{manifest.trainable_parameters:,} trainable parameters"
    rows = f"{len(data.train)} to fit, {len(data.valid)} to choose the best epoch, {len(data.test)} to test"
    cost = f"{report.seconds:.0f} s, {report.peak_memory_mb:.0f} MB at most"
    kept = f"{manifest.interpolation:.0%} of the way kept, " if manifest.interpolation < 1 else ""
    facts = {
        "method": ", ".join([manifest.method, *switches, f"{unit} {manifest.rank}", size]),
        "base": f"`{base.name}`, fingerprint `{base.fingerprint}`, quantization {base.quantization}",
        "chat template": f"the base's own, `{base.chat_template}`" if base.chat_template else "",
        "labels": ", ".join(f"`{label}`" for label in manifest.labels),
        "data digest": f"`{data.digest}`",
        "rows": rows,
        "rows taken out": ", ".join(f"{kind.replace('_', ' ')} {count}" for kind, count in report.leaks.items()),
        "contradictory rows": ", ".join(f"{where} {count}" for where, count in report.contradictions.items() if count),
        "start": report.start + _compared(report),
        "search": "" if report.searched is None else report.searched.worded,
        "blend": ", ".join(f"{name} {weight:.2f}" for name, weight in report.blend.items()),
        "calibration": ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in report.calibration.items()),
        "ranked": retrieval_told(report.retrieval, report.k),
        "self-training": "; ".join(
            f"round {one.number}: {one.pseudo_labels} pseudo-labels, {one.before:.3f} -> {one.after:.3f}"
            + ("" if one.kept else ", dropped")
            for one in report.self_training
        ),
        "training": f"{manifest.steps} steps, {kept}seed {manifest.seed}, {cost}",
        "libraries": ", ".join(f"{name} {version}" for name, version in manifest.libraries.items()),
        "created": manifest.created.isoformat().replace("+00:00", "Z"),
    }
    return "\n".join(
        ["| | |", "| --- | --- |", *(f"| {name} | {_cell(fact)} |" for name, fact in facts.items() if fact)]
    )


def _compared(report: Report) -> str:
    losses = ", ".join(f"{name} {loss:.3f}" for name, loss in report.start_losses.items())
    return f" (loss on held-out examples: {losses})" if losses else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _calibrated(report: Report, manifest: Manifest) -> str:
    """What the bundle's calibration makes of its probabilities."""
    from shopfit.adapter.artifacts import TEMPERATURE, THRESHOLD

    known = manifest.calibration
    trained = manifest.recipe_snapshot.get("tune", {}).get("temperature", Tune().temperature)
    if report.blend:
        said = "are those of the blend, which held-out answers fitted; the column ece says how far off."
    elif TEMPERATURE not in known:
        said = "are not calibrated: no answer was held out for it; the column ece says how far off they are."
    elif known[TEMPERATURE] == trained:
        said = (
            f"are those of training, at temperature {number(trained)}: held-out answers asked for no other; the column "
            "ece says how far off they are."
        )
    else:
        said = f"are calibrated to temperature {number(known[TEMPERATURE])} by held-out answers"
        if {"ece_before", "ece_after"} <= report.calibration.keys():
            before, after = (number(report.calibration[f"ece_{when}"]) for when in ("before", "after"))
            said += f": on the test rows the ece went from {before} to {after}"
        said += "."
    sure = known.get(THRESHOLD, 0.0)
    return f"Its probabilities {said}" + (f" From {number(sure)} on it says that it is sure." if sure else "")


def _limits(report: Report, manifest: Manifest) -> list[str]:
    metric, reached = metric_name(report.metric, report.k), report.adapter.metrics[report.metric]
    limits = [
        "It was fitted to one merchant's examples; what it does for another merchant or language was not measured.",
        "It belongs to the base with the fingerprint above, quantized as above; on any other its numbers do not hold.",
        f"Its {metric} could as well be anywhere in {span(reached)} on other rows like these.",
    ]
    if report.n_test < _FEW:
        limits.append(f"{report.n_test} test rows are few: small gains cannot be told from chance.")
    if report.verdict.rows_to_decide:
        limits.append(
            f"Whether it is better was not proven; about {report.verdict.rows_to_decide:,} test rows would decide."
        )
    if report.gain_over_base.low <= 0 <= report.gain_over_base.high:
        limits.append("The interval of its gain over the base includes 0.")
    if TASKS[report.task].single_label:
        limits.append(_calibrated(report, manifest))
    return [*limits, *filter(None, [TASKS[report.task].limit])]
