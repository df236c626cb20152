"""The gate: whether an adapter may be promoted. It must beat the bare base and every prior on the recipe's metric, and
what training adds to must be better than it was: the instant version, if one was made before.

What does not beat them on the test set is refused. What does may still owe it to chance: it is promoted where the rows
prove the gain (see `evidence`), by themselves or together with what was answered in cross-validation; else it is a
candidate, and the reason says how many test rows would decide.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shopfit.evaluation.evidence import LEAST_TELLING, Evidence
from shopfit.evaluation.intervals import Interval
from shopfit.evaluation.wording import metric_name, number, signed, signed_with_span
from shopfit.recipe.schema import Recipe
from shopfit.recipe.tasks import METRICS
from shopfit.tasks import SystemKind

_ROUNDING = 1e-9  # a gain that equals the smallest one allowed is a tie, whatever floating point makes of it


@dataclass(frozen=True, slots=True)
class SystemResult:
    """What one system reached.

    Args:
        name: of the system.
        kind: "base", "adapter", "instant", "prior" or "baseline".
        metrics: every metric of the task, by its name in recipes.
    """

    name: str
    kind: SystemKind
    metrics: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's verdict.

    Args:
        promote: whether the adapter may be promoted.
        reason: why, in full sentences, with the numbers.
        candidate: if not, whether it is better on the test set at least, though that is not proven.
        rows_to_decide: of a candidate: about how many test rows would prove the gain, were it what it seems to be.
    """

    promote: bool
    reason: str
    candidate: bool = False
    rows_to_decide: int | None = None

    @property
    def refused(self) -> bool:
        """Whether it may not even be a candidate."""
        return not self.promote and not self.candidate


UNMEASURED = Verdict(
    False,
    "The adapter is not promoted: it was measured on pairs from the catalog only, which are no shopper's questions. A "
    "test set in a file of its own would tell what it is worth.",
)


def decide(
    rows: Sequence[SystemResult],
    recipe: Recipe,
    tested: Mapping[str, Evidence],
    with_held_out: Mapping[str, Evidence] | None = None,
) -> Verdict:
    """Let an adapter pass, make it a candidate, or refuse it.

    It is refused unless it beats the base, every prior, and the instant version if there is one, by more than
    `gate.min_gain` on `evaluate.metric`. Ties lose, and so does what is undefined. It passes if the gain over base and
    priors is proven: of two versions for which it is, the better one serves. A better baseline does not stop it, but
    the reason says so.

    Args:
        rows: the results; exactly one adapter, exactly one base, and at least one prior.
        recipe: its `evaluate.metric` and `gate` decide.
        tested: the test rows' evidence for the adapter's gain, by the name of each.
        with_held_out: likewise, of the test rows and the answers from cross-validation together; None without any.
    """
    metric, least = recipe.evaluate.metric, recipe.gate.min_gain
    name = metric_name(metric, recipe.evaluate.k)
    adapter = _only(rows, "adapter")
    if not any(row.kind == "prior" for row in rows):
        raise ValueError("a report has at least one prior")
    rivals = [_only(rows, "base"), *(row for row in rows if row.kind in {"instant", "prior"})]

    undefined = [row for row in (adapter, *rivals) if not row.metrics[metric].defined]
    if undefined:
        what = _listed([_called(row) for row in undefined])
        return Verdict(
            False,
            f"The adapter is not promoted: {name} is undefined for {what} on this test set, so nothing can be said. "
            "A larger test set, with every label or field in it, or another evaluate.metric would help.",
        )

    def lead(row: SystemResult) -> float:
        return METRICS[metric].gain(adapter.metrics[metric].value, row.metrics[metric].value)

    its = f"its {name} of {number(adapter.metrics[metric].value)}"
    asked = f" by more than the {number(least)} that gate.min_gain asks for" if least else ""
    unbeaten = [row for row in rivals if lead(row) <= least + _ROUNDING]
    if unbeaten:
        beside = [f"{_called(row)} ({number(_value(row, metric))}, a gain of {signed(lead(row))})" for row in unbeaten]
        return Verdict(False, f"The adapter is not promoted: {its} does not beat {_listed(beside)}{asked}.")

    beaten = [
        f"{_called(row)} ({number(_value(row, metric))}, a gain of {signed_with_span(tested[row.name].gain)})"
        for row in rivals
    ]
    said = f"{its} beats {_listed(beaten)}{asked}"
    unproven = [row for row in rivals if row.kind != "instant" and not tested[row.name].proves(least)]
    mind = _better_still(rows, lead, metric)
    if not unproven:
        return Verdict(True, f"The adapter may be promoted: {said}.{mind}")
    known = [
        (_called(row), tested[row.name], (with_held_out or tested).get(row.name, tested[row.name])) for row in unproven
    ]
    if all(most.proves(least) for _, _, most in known):
        return Verdict(True, f"The adapter may be promoted: {said}. {_proven_together(known)}{mind}")
    wanted = max(_to_decide(one, most, least) for _, one, most in known)
    reason = f"The adapter is a candidate: {said}, but {_unproven(known, wanted)}{mind}"
    return Verdict(False, reason, candidate=True, rows_to_decide=wanted)


_Known = tuple[str, Evidence, Evidence]
"""A rival, and the evidence for the gain over it: of the test rows, and of these and the held-out ones together."""


def _proven_together(known: Sequence[_Known]) -> str:
    _, tested, most = known[0]
    gains = _listed([f"{signed_with_span(all_rows.gain)} over {rival}" for rival, _, all_rows in known])
    return (
        f"{_test_rows(tested)} not prove that alone, but together with {most.rows - tested.rows} answers from "
        f"cross-validation: a gain of {gains}."
    )


def _unproven(known: Sequence[_Known], wanted: int) -> str:
    _, tested, most = known[0]
    over = _listed([rival for rival, _, _ in known])
    more = f", nor with {most.rows - tested.rows} answers from cross-validation" if most.rows > tested.rows else ""
    return (
        f"{_test_rows(tested)} not prove it over {over}{more}. {_short_of([all_rows for _, _, all_rows in known])}"
        f"About {wanted:,} test rows would decide if the gain is what it seems to be; till then it can be promoted by "
        "hand."
    )


def _test_rows(evidence: Evidence) -> str:
    rows = f"{evidence.rows} test row" + ("" if evidence.rows == 1 else "s")
    groups = "" if evidence.groups == evidence.rows else f" of {evidence.groups} group" + "s" * (evidence.groups != 1)
    return rows + groups + (" does" if evidence.rows == 1 else " do")


def _to_decide(tested: Evidence, most: Evidence, least: float) -> int:
    """Test rows that would decide, by all that is known of the gain and of how much rows differ in it."""
    found = most.rows_to_decide(least) or tested.rows_to_decide(least) or 0
    return max(found, tested.rows + 1)


def _short_of(known: Sequence[Evidence]) -> str:
    """What is missing besides rows."""
    unseen = dict.fromkeys(label for one in known for label in one.unseen)
    if unseen:
        return f"No row has the label {_listed([repr(label) for label in unseen])}. "
    if any(one.groups < one.wanted for one in known):
        return f"Fewer than {max(one.wanted for one in known)} prove nothing. "
    if any(one.telling < LEAST_TELLING for one in known):
        return f"Fewer than {LEAST_TELLING} of them tell the two apart. "
    return ""


def _better_still(rows: Sequence[SystemResult], lead: Callable[[SystemResult], float], metric: str) -> str:
    better = [row for row in rows if row.kind == "baseline" and lead(row) < -_ROUNDING]
    if not better:
        return ""
    what = _listed([f"{row.name} ({number(_value(row, metric))})" for row in better])
    noun, verb = ("baselines", "do") if len(better) > 1 else ("baseline", "does")
    return f" Mind that the simple {noun} {what} {verb} better still on these rows."


def _value(row: SystemResult, metric: str) -> float:
    return row.metrics[metric].value


def best(rows: Sequence[SystemResult], metric: str) -> SystemResult | None:
    """The row that is best on a metric, the first of equals; None if it is undefined for all."""
    known = [row for row in rows if row.metrics[metric].defined]
    return max(known, key=lambda row: METRICS[metric].gain(row.metrics[metric].value, 0.0)) if known else None


def leads(row: SystemResult, rows: Sequence[SystemResult], metric: str) -> bool:
    """Whether a row is as good as the best of `rows` on a metric, and some other row is not."""
    values = [other.metrics[metric].value for other in rows]
    behind = [METRICS[metric].gain(row.metrics[metric].value, value) for value in values if not math.isnan(value)]
    return row.metrics[metric].defined and min(behind) >= -_ROUNDING and max(behind) > _ROUNDING


def _only(rows: Sequence[SystemResult], kind: SystemKind) -> SystemResult:
    found = [row for row in rows if row.kind == kind]
    if len(found) != 1:
        raise ValueError(f"a report has one {kind}: got {len(found)}")
    return found[0]


def _called(row: SystemResult) -> str:
    if row.kind == "prior":
        return f"the prior {row.name}"
    if row.kind == "instant":
        return "the instant version"
    return f"the {row.kind}" if row.kind == row.name else f"the {row.kind} {row.name}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
