"""The table of tasks: what sets one apart, as data. What each does is in the room `tasks`, a file a task."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Task = Literal["choose", "rank", "generate", "rate"]
AnswerKind = Literal["label", "items", "text", "number"]
Baseline = Literal[
    "bm25", "encoder-cosine", "encoder-logreg", "encoder-ridge", "minilm-cosine", "minilm-logreg", "minilm-ridge"
]
"""Simple models. Those of `encoder` embed with the recipe's own, `serve.encoder`; those of `minilm` with minilm-l6."""

_STEERING = ("id", "group", "weight", "at")  # fields of any row that a prompt never shows


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A metric that a recipe may name.

    Args:
        name: as recipes and reports call it.
        lower_is_better: its direction.
    """

    name: str
    lower_is_better: bool = False

    def gain(self, first: float, second: float) -> float:
        """By how much the first value is better than the second; nan if either is."""
        return second - first if self.lower_is_better else first - second

    def merit(self, value: float) -> float:
        """The value so that higher is better."""
        return -value if self.lower_is_better else value


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What sets a task apart.

    Args:
        does: what an adapter does, in words.
        answer: field of an example that holds its right answer.
        beside: other fields of an example that only this task knows, and no prompt shows.
        used: fields of an example that an answer may use although the prompt does not show them.
        cells: how its fields are written in a CSV file, where that is not text.
        metrics: that a recipe may name, in a report's order.
        tie_break: name of the metric that chooses between epochs whose metric is the same: on a few held-out rows it
            often stands still while the answers still become surer.
        baselines: that a recipe may name.
        answer_template: the default of `prompt.answer`.
        answer_field: the one field that `prompt.answer` shows; none where it shows those of a catalog's item.
        own_keys: recipe keys that only tasks with them have, each with the value that is allowed elsewhere, if one is.
        kind: what an answer is: one of a merchant's labels, an order of items (of a catalog or plain titles), a text
            that is written token by token, or a number; all but texts are scored.
        from_catalog: whether there is something to learn from a catalog, without any example.
        limit: what a model card says against every adapter of this task; empty if there is nothing.
    """

    does: str
    answer: str
    kind: AnswerKind
    metrics: tuple[MetricSpec, ...]
    tie_break: str
    baselines: tuple[Baseline, ...]
    answer_template: str
    answer_field: str | None
    beside: tuple[str, ...] = ()
    used: tuple[str, ...] = ()
    cells: Mapping[str, Literal["list", "json"]] = field(default_factory=dict)
    own_keys: Mapping[str, str] = field(default_factory=dict)
    from_catalog: bool = False
    limit: str = ""

    @property
    def single_label(self) -> bool:
        """Whether an answer is one of a merchant's labels."""
        return self.kind == "label"

    @property
    def items(self) -> bool:
        """Whether an answer orders items."""
        return self.kind == "items"

    @property
    def written(self) -> bool:
        """Whether an answer is written token by token."""
        return self.kind == "text"

    @property
    def closed(self) -> bool:
        """Whether every question of a merchant has the same answers, which are scored."""
        return not self.items and not self.written

    @property
    def own_fields(self) -> tuple[str, ...]:
        """Fields of an example that only this task knows, the answer first."""
        return (self.answer, *self.beside)

    @property
    def hidden(self) -> tuple[str, ...]:
        """Fields of a row that a prompt never shows: the answer, and what only steers training."""
        return (*self.own_fields, *_STEERING)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of its metrics."""
        return tuple(metric.name for metric in self.metrics)


TASKS: dict[Task, TaskSpec] = {
    "choose": TaskSpec(
        does="chooses a label",
        answer="label",
        kind="label",
        metrics=(
            MetricSpec("accuracy"),
            MetricSpec("macro_f1"),
            MetricSpec("balanced_accuracy"),
            MetricSpec("auc"),
            MetricSpec("log_loss", lower_is_better=True),
            MetricSpec("ece", lower_is_better=True),
        ),
        tie_break="log_loss",
        baselines=("minilm-logreg", "encoder-logreg"),
        answer_template=" {label}",
        answer_field="label",
        used=("liked", "disliked", "item"),
        own_keys={
            "prompt.labels": "",
            "data.label_aliases": "",
            "tune.label_smoothing": "0",
            "tune.contrastive": "0",
            "tune.self_training.rounds": "0",
        },
    ),
    "rank": TaskSpec(
        does="ranks items",
        answer="relevant",
        kind="items",
        beside=("candidates",),
        cells={"relevant": "list", "candidates": "list"},
        metrics=(
            MetricSpec("ndcg@k"),
            MetricSpec("hr@k"),
            MetricSpec("mrr"),
            MetricSpec("coverage@k"),
        ),
        tie_break="mrr",
        baselines=("bm25", "minilm-cosine", "encoder-cosine"),
        answer_template=" {title}",
        answer_field=None,
        own_keys={"data.pretext": "false"},
        from_catalog=True,
        limit="Scores compare items within one answer only, and it has not seen what is new in the catalog.",
    ),
    "generate": TaskSpec(
        does="generates text",
        answer="output",
        kind="text",
        cells={"output": "json"},
        metrics=(
            MetricSpec("valid_json"),
            MetricSpec("field_f1"),
            MetricSpec("exact_match"),
            MetricSpec("token_f1"),
        ),
        tie_break="token_f1",
        baselines=("minilm-cosine", "encoder-cosine"),
        answer_template=" {output}",
        answer_field="output",
        limit="It can write what is not true, or not valid JSON. Check its output before it reaches anyone.",
    ),
    "rate": TaskSpec(
        does="rates with a number",
        answer="score",
        kind="number",
        metrics=(
            MetricSpec("rmse", lower_is_better=True),
            MetricSpec("mae", lower_is_better=True),
            MetricSpec("spearman"),
            MetricSpec("rating_ndcg"),
        ),
        tie_break="rmse",
        baselines=("minilm-ridge", "encoder-ridge"),
        answer_template=" {score}",
        answer_field="score",
        used=("user", "item"),
        own_keys={"prompt.labels": "", "data.bounds": "", "tune.huber": "0", "tune.two_hot": "0"},
        limit="It has seen scores of few shoppers: a mean of its answers is surer than any one of them.",
    ),
}

METRICS: dict[str, MetricSpec] = {metric.name: metric for spec in TASKS.values() for metric in spec.metrics}
"""Every metric by its name."""
