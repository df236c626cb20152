"""A system: anything that answers a test set, so that an adapter can be compared with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example
from shopfit.recipe.tasks import Task
from shopfit.tasks import Pool, Predictions, task_of

Kind = Literal["base", "adapter", "prior", "baseline"]


@dataclass(frozen=True, slots=True)
class System:
    """A prior or a baseline, fitted.

    Args:
        name: as reports print it.
        kind: "prior" or "baseline".
        task: what it answers.
        answer: N examples and their candidates (empty unless rank) -> N arrays of probabilities or scores, or N texts.
        labels: choose: every label.
        catalog: rank: the items; None for plain titles.
        fitted: whether it has learned from examples; if not, it answers the same without any.
    """

    name: str
    kind: Kind
    task: Task
    answer: Callable[[Sequence[Example], Sequence[Pool]], Sequence[Any]]
    labels: tuple[str, ...] = ()
    catalog: Catalog | None = None
    fitted: bool = True

    def predict(self, rows: Sequence[Example], candidates: Sequence[Pool] = ()) -> Predictions:
        """Answer a test set.

        Args:
            rows: N examples; their right answers are only copied into the predictions.
            candidates: rank: the items each row is to rank.
        """
        pools = candidates or [()] * len(rows)
        return task_of(self.task).collect(self.labels, rows, pools, self.answer(rows, pools), self.catalog)
