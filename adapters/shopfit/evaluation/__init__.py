"""Evaluation: predictions -> metrics with intervals, beside priors and baselines; a report, and the gate's verdict.

It never asks a model itself, except in `assess`. Heavy libraries are imported by what needs them, when it is called.
"""

from shopfit.evaluation.gate import SystemResult, Verdict, decide
from shopfit.evaluation.intervals import Interval, bootstrap, paired_difference
from shopfit.evaluation.metrics import measure
from shopfit.evaluation.model_card import card
from shopfit.evaluation.picture import plot
from shopfit.evaluation.report import Contender, CurvePoint, Report, make_report
from shopfit.evaluation.terminal import show, table
from shopfit.tasks import ChoosePredictions, GeneratePredictions, Predictions, RankPredictions, RatePredictions, System

__all__ = [
    "ChoosePredictions",
    "Contender",
    "CurvePoint",
    "GeneratePredictions",
    "Interval",
    "Predictions",
    "RankPredictions",
    "RatePredictions",
    "Report",
    "System",
    "SystemResult",
    "Verdict",
    "bootstrap",
    "card",
    "decide",
    "make_report",
    "measure",
    "paired_difference",
    "plot",
    "show",
    "table",
]
