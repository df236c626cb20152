"""Calibration: an adapter's temperature, and the confidence from which on it is right often enough.

Both are fitted to answers to held-out examples, never to the test set, and a temperature is applied only where it
improves held-out answers that it was not fitted to.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shopfit.adapter.artifacts import TEMPERATURE, THRESHOLD
from shopfit.adapter.score_fusion import log_shares
from shopfit.evaluation.evidence import NATS, NATS_AN_EXAMPLE
from shopfit.evaluation.metrics import measure
from shopfit.recipe.schema import Recipe
from shopfit.tasks import ChoosePredictions, Predictions

Floats = NDArray[np.float64]

_COLDEST, _HOTTEST = 0.02, 10.0
_FOLDS = 5


def at_temperature(probabilities: Floats, temperature: float) -> Floats:
    """The probabilities that the same logits give at another temperature (Guo et al., arXiv:1706.04599).

    Args:
        probabilities: (N, L), rows sum to 1.
        temperature: above 0; below 1 gives more confidence, above 1 less.
    """
    logits = log_shares(probabilities) / temperature
    raised = np.exp(logits - logits.max(1, keepdims=True))
    scaled: Floats = raised / raised.sum(1, keepdims=True)
    return scaled


def fit_temperature(held_out: ChoosePredictions, start: float = 1.0) -> float:
    """The temperature at which held-out answers are likeliest, drawn towards `start` where they are few.

    Args:
        held_out: answers as trained.
        start: what is taken if there is no evidence; 1 leaves them as they are.

    Returns:
        between 0.02 and 10.
    """
    from scipy.optimize import minimize_scalar

    gold = np.arange(len(held_out.gold)), held_out.gold
    if not len(held_out.gold):
        return start

    def objective(log_temperature: float) -> float:
        shares = at_temperature(held_out.probabilities, float(np.exp(log_temperature)))
        surprise = -log_shares(shares[gold]).sum()
        return float(surprise + 0.5 * (log_temperature - np.log(start)) ** 2)  # a prior worth one example

    found = minimize_scalar(objective, bounds=(np.log(_COLDEST), np.log(_HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def fit_threshold(held_out: ChoosePredictions, precision: float) -> float:
    """The lowest confidence from which on answers are right often enough, a wrong one added to them.

    The added one guards against chance: few answers may all be right, and the threshold was chosen where they are.

    Args:
        held_out: answers at the temperature that will be served.
        precision: wanted share of right answers, among those that are given.

    Returns:
        a probability; 1 if no confidence is enough.
    """
    confidence = held_out.probabilities.max(1)
    right = held_out.probabilities.argmax(1) == held_out.gold
    order = np.argsort(-confidence, kind="stable")
    given = np.arange(1, len(order) + 1)
    enough = np.flatnonzero(np.cumsum(right[order]) / (given + 1) >= precision)
    return float(confidence[order][enough[-1]]) if len(enough) else 1.0


def cross_fitted(held_out: ChoosePredictions) -> ChoosePredictions:
    """Held-out answers, each at the temperature that fits the others (5-fold)."""
    rows = len(held_out.gold)
    order = np.array(random.Random(0).sample(range(rows), rows), np.int64)
    probabilities = held_out.probabilities.copy()
    for number in range(_FOLDS):
        out, rest = order[number::_FOLDS], np.delete(order, slice(number, None, _FOLDS))
        others = replace(held_out, probabilities=held_out.probabilities[rest], gold=held_out.gold[rest])
        probabilities[out] = at_temperature(held_out.probabilities[out], fit_temperature(others))
    return replace(held_out, probabilities=probabilities)


def temperature_helps(held_out: ChoosePredictions) -> bool:
    """Whether a temperature makes answers that it was not fitted to likelier, and no less calibrated."""
    if not (rows := len(held_out.gold)):
        return False
    fitted = cross_fitted(held_out)
    gold = np.arange(rows), held_out.gold
    nats = float((log_shares(fitted.probabilities[gold]) - log_shares(held_out.probabilities[gold])).sum())
    before, after = (measure(one, ["ece"], 1)["ece"] for one in (held_out, fitted))
    return nats > max(NATS, NATS_AN_EXAMPLE * rows) and after <= before


def calibrate(
    recipe: Recipe, held_out: Sequence[Predictions], blended: Sequence[Predictions] | None = None
) -> dict[str, float]:
    """What a manifest keeps: temperature, and the threshold for `serve.precision` where the recipe wants one.

    Args:
        recipe: of the adapter.
        held_out: its answers to held-out examples, in one or more parts.
        blended: the same as they will be served, if a blend will answer: the threshold is for these.

    Returns:
        nothing for other tasks than choose, or where nothing was held out.
    """
    choices = [part for part in held_out if isinstance(part, ChoosePredictions) and len(part.gold)]
    if not choices:
        return {}
    answers = ChoosePredictions.join(choices)
    helps = temperature_helps(answers)
    calibration = {TEMPERATURE: recipe.tune.temperature * (fit_temperature(answers) if helps else 1.0)}
    if recipe.serve.precision is not None:
        mixed = [part for part in blended or () if isinstance(part, ChoosePredictions)]
        served = ChoosePredictions.join(mixed) if mixed else cross_fitted(answers) if helps else answers
        calibration[THRESHOLD] = fit_threshold(served, recipe.serve.precision)
    return calibration


def calibration_facts(
    answers: ChoosePredictions, temperature: float, trained: float, threshold: float
) -> dict[str, float]:
    """What a calibration does on a test set.

    Args:
        answers: to the test set, as served.
        temperature: that they were served at.
        trained: the temperature of training.
        threshold: confidence from which on the adapter is sure; 0 where it always is.

    Returns:
        `temperature`, `ece_before`, `ece_after`; with a threshold also `threshold`, `sure` (share of the answers) and
        `precision` (share of right ones among them).
    """
    before = replace(answers, probabilities=at_temperature(answers.probabilities, trained / temperature))
    facts = {"temperature": temperature}
    facts |= {f"ece_{when}": measure(one, ["ece"], 1)["ece"] for when, one in (("before", before), ("after", answers))}
    if threshold:
        sure = answers.probabilities.max(1) >= threshold
        right = answers.probabilities.argmax(1) == answers.gold
        facts |= {"threshold": threshold, "sure": float(sure.mean())}
        if sure.any():
            facts["precision"] = float(right[sure].mean())
    return facts
