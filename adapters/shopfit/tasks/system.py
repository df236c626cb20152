"""A system: anything that answers a test set, so that an adapter can be compared with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example
from shopfit.tasks.predictions import Predictions

if TYPE_CHECKING:
    from shopfit.merchant.search import Embed
    from shopfit.tasks.task import TaskType

MINILM = "minilm"
"""Short name of minilm-l6, which names of systems and parts begin with."""
SystemKind = Literal["base", "adapter", "instant", "prior", "baseline"]
"""`instant`: the version of the same merchant that was made without training, before this one."""
Text = Callable[[Example], str]
"""An example -> what its prompt shows of it, histories as titles."""
Answers = Callable[[Sequence[Example], Sequence[Sequence[str]]], Sequence[Any]]
"""N examples and their candidates (empty unless rank) -> N arrays of probabilities or scores, or N texts."""


@dataclass(frozen=True, slots=True)
class System:
    """A prior or a baseline, fitted.

    Args:
        name: as reports print it.
        kind: "prior" or "baseline".
        task: what it answers.
        answer: gives the answers.
        labels: names of the answers that every question has.
        catalog: rank: the items; None for plain titles.
        fitted: whether it has learned from examples; if not, it answers the same without any.
    """

    name: str
    kind: SystemKind
    task: "TaskType"
    answer: Answers
    labels: tuple[str, ...] = ()
    catalog: Catalog | None = None
    fitted: bool = True

    def predict(self, rows: Sequence[Example], candidates: Sequence[tuple[str, ...]] = ()) -> Predictions:
        """Answer a test set.

        Args:
            rows: N examples; their right answers are only copied into the predictions.
            candidates: rank: the items each row is to rank.
        """
        pools = candidates or [()] * len(rows)
        return self.task.collect(self.labels, rows, pools, self.answer(rows, pools), self.catalog)


@dataclass(frozen=True, slots=True)
class Learned:
    """What a baseline learns from. It uses no prompter and loads no encoder.

    Args:
        train: the training examples, at least one.
        text: an example's text.
        query_text: the same without items.
        embed: turns texts into vectors.
        encoder: short name of its encoder, as systems are called by.
        minilm: turns texts into vectors by minilm-l6, for systems that are to use it whatever `embed` does.
        labels: names of the answers that every question has, in the order of predictions.
        catalog: rank: the items; None for plain titles.
        history: rank: the items of histories, where they are others.
        seed: of the cross-validation's folds.
    """

    train: Sequence[Example]
    text: Text
    query_text: Text
    embed: "Embed"
    labels: tuple[str, ...] = ()
    catalog: Catalog | None = None
    history: Catalog | None = None
    seed: int = 0
    encoder: str = MINILM
    minilm: "Embed | None" = None

    def vectors(self, rows: Sequence[Example]) -> Any:
        """(N, D) float64 vectors of the texts of N examples: in float32 probabilities miss 1 by too much.

        They are as long as it takes for products to differ by as much as similarities do.
        """
        from shopfit.merchant.search import similarity

        size = similarity(self.embed, 1.0) - similarity(self.embed, 0.0)
        return self.embed([self.text(row) for row in rows]).astype("float64") * size**0.5
