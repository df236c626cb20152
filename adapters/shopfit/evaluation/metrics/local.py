"""What our `evaluate` modules share: they live in memory, and need neither a hub nor a cache folder."""

from typing import Any, ClassVar

import datasets
import evaluate


class LocalMetric(evaluate.Metric):  # type: ignore[misc]
    """A metric of one number.

    A subclass names its `metric` and `inputs`, says in `row` what one row holds, and computes the number in `score`.
    """

    metric: ClassVar[str]
    inputs: ClassVar[str]
    citation_of: ClassVar[str] = ""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"keep_in_memory": True} | options)

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description=self.__doc__ or self.metric,
            citation=self.citation_of,
            inputs_description=self.inputs,
            features=datasets.Features(self.row()),
        )

    def _build_data_dir(self) -> str:
        # evaluate makes this folder under ~/.cache even for what is kept in memory
        return str(super()._build_data_dir()) if not self.keep_in_memory else ""

    def _compute(self, *, predictions: Any, references: Any, **options: Any) -> dict[str, float]:
        return {self.metric: float(self.score(predictions, references, **options))}

    def row(self) -> dict[str, Any]:
        """What a row's prediction and reference are, as `datasets` features."""
        raise NotImplementedError

    def score(self, predictions: Any, references: Any, **options: Any) -> float:
        """The number, from N predictions and N references.

        Args:
            predictions: as `row` says.
            references: likewise.
            options: what `compute` was given beyond these; each metric takes its own and ignores the others'.
        """
        raise NotImplementedError
