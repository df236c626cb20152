"""Metrics of `generate`, over texts; a text that is a JSON object is compared as one (see `answers`).

predictions  N texts as generated
references   N right answers, JSON objects as JSON text
"""

from typing import Any

import datasets
import numpy as np

from shopfit.evaluation.metrics.answers import field_counts, is_exact, parse_object, token_f1
from shopfit.evaluation.metrics.local import LocalMetric

_INPUTS = __doc__ or ""


class GenerateMetric(LocalMetric):
    """A metric over generated texts."""

    inputs = _INPUTS

    def row(self) -> dict[str, Any]:
        """Two texts."""
        return {"predictions": datasets.Value("string"), "references": datasets.Value("string")}

    def score(self, predictions: Any, references: Any, **_: Any) -> float:
        """Mean over the rows; nan without rows."""
        merits = [self.of(output, gold) for output, gold in zip(predictions, references, strict=True)]
        return float(np.mean(merits)) if merits else float("nan")

    def of(self, output: str, gold: str) -> float:
        """Merit of one row."""
        raise NotImplementedError


class ValidJson(GenerateMetric):
    """Share of outputs that are a JSON object and nothing else."""

    metric = "valid_json"

    def of(self, output: str, _: str) -> float:
        """0 or 1, whatever the right answer."""
        return float(parse_object(output) is not None)


class FieldF1(GenerateMetric):
    """Micro F1 over the fields of the right objects: scalars by equality, lists by the overlap of their sets."""

    metric = "field_f1"

    def score(self, predictions: Any, references: Any, **_: Any) -> float:
        """In [0, 1]; nan where no right answer is an object with fields."""
        rows = [field_counts(output, gold) for output, gold in zip(predictions, references, strict=True)]
        right, extra, missing = np.sum(rows, 0).tolist() if rows else (0, 0, 0)
        return 2 * right / (2 * right + extra + missing) if right + extra + missing else float("nan")


class ExactMatch(GenerateMetric):
    """Share of outputs that are the right answer."""

    metric = "exact_match"

    def of(self, output: str, gold: str) -> float:
        """0 or 1."""
        return float(is_exact(output, gold))


class TokenF1(GenerateMetric):
    """Mean F1 over words."""

    metric = "token_f1"
    citation_of = "Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text (arXiv:1606.05250)"

    def of(self, output: str, gold: str) -> float:
        """In [0, 1]."""
        return token_f1(output, gold)
