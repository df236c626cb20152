"""How reports print metrics and numbers."""

import math
from collections.abc import Mapping

from shopfit.evaluation.intervals import Interval
from shopfit.recipe.tasks import METRICS

UNDEFINED = "n/a"


def metric_name(metric: str, k: int) -> str:
    """A metric with its cut-off: `ndcg@k` -> `ndcg@10`."""
    return metric.replace("@k", f"@{k}")


def arrow(metric: str) -> str:
    """↓ for a metric whose lower values are better, else nothing."""
    return " ↓" if METRICS[metric].lower_is_better else ""


def number(value: float) -> str:
    """Three decimals."""
    return UNDEFINED if math.isnan(value) else f"{value:.3f}"


def signed(value: float) -> str:
    """Three decimals, with the sign; what rounds to nothing has none."""
    if math.isnan(value):
        return UNDEFINED
    text = f"{value:+.3f}"
    return "0.000" if text in {"-0.000", "+0.000"} else text


def span(interval: Interval, digits: int = 3) -> str:
    """The interval's ends: `0.801-0.874`."""
    if math.isnan(interval.low) or math.isnan(interval.high):
        return UNDEFINED
    return f"{interval.low:.{digits}f}-{interval.high:.{digits}f}"


def signed_with_span(interval: Interval) -> str:
    """A difference with its interval: `+0.124 [+0.080, +0.171]`."""
    if math.isnan(interval.low) or math.isnan(interval.high):
        return signed(interval.value)
    return f"{signed(interval.value)} [{signed(interval.low)}, {signed(interval.high)}]"


def settings_in_words(values: Mapping[str, str | int | float]) -> str:
    """Keys of a recipe with their values, in a line: `adapter.method lora, adapter.rank 8`."""
    return ", ".join(f"{key} {value}" for key, value in values.items())


def trained_on(examples: int, pairs: int) -> str:
    """What the weights were fitted on: `86 examples`, or `0 examples; 50 pairs from the catalog`."""
    return f"{examples} examples" + (f"; {pairs} pairs from the catalog" if pairs else "")


def calibration_told(facts: Mapping[str, float]) -> str:
    """What a calibration did on the test set; nothing if there was none."""
    ece = f"ECE {number(facts['ece_before'])} -> {number(facts['ece_after'])}" if applied(facts) else ""
    sure = f"sure of {facts['sure']:.0%}" if "sure" in facts else ""
    sure += f", right in {facts['precision']:.0%} of them" if "precision" in facts else ""
    if not ece:
        return sure and f"S{sure[1:]}"
    return f"Calibrated to temperature {facts['temperature']:.3f}: {ece}" + (f"; {sure}" if sure else "")


def retrieval_told(facts: Mapping[str, float], k: int) -> str:
    """What ranking only what search finds loses; nothing where the whole catalog is ranked."""
    if not facts:
        return ""
    said = f"Of {facts['items']:,.0f} items it ranks the {facts['found']:.0f} that search finds"
    if "right_found" in facts:
        said += f"; {facts['right_found']:.0%} of the right ones are among them"
    if "first_found" in facts:
        said += f", and {facts['first_found']:.0%} of the first {k} that it would rank of all"
    sample = f" and {facts['sample']:,.0f} items" if facts.get("sample", facts["items"]) < facts["items"] else ""
    return f"{said} ({facts['searches']:.0f} searches{sample})"


def applied(facts: Mapping[str, float]) -> bool:
    """Whether a calibration changed any probability."""
    return bool(facts) and facts["ece_before"] != facts["ece_after"]
