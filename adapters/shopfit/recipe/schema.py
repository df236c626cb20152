"""The recipe contract: what a YAML recipe may say. One file serves tuning, evaluation and serving."""

from collections import Counter
from operator import attrgetter
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from shopfit.recipe.adapter_section import Adapter
from shopfit.recipe.augmenting import Augment, augment_problems
from shopfit.recipe.item_rules import Rules
from shopfit.recipe.label_spelling import alias_problems
from shopfit.recipe.languages import is_tag, language_of
from shopfit.recipe.levels import level_problems
from shopfit.recipe.methods import (
    METHOD_RULES,
    Quantization,
)
from shopfit.recipe.names import SLUG, SLUG_RULE
from shopfit.recipe.prompt_section import Prompt, prompt_problems
from shopfit.recipe.section import Section
from shopfit.recipe.suggestions import shown
from shopfit.recipe.tasks import TASKS, Baseline, Task, TaskSpec
from shopfit.recipe.template import placeholders
from shopfit.recipe.trackers import TRACKERS, Tracker

Dtype = Literal["float32", "bfloat16", "float16"]
AUTO, AUTO_LANGUAGE = "auto", "auto-language"
DecimalMark = Literal["auto", "point", "comma"]
Encoding = Literal[
    "utf-8", "utf-16", "windows-1250", "windows-1251", "windows-1252", "windows-1254", "iso-8859-1", "iso-8859-2",
    "iso-8859-15", "gb18030", "big5", "shift_jis", "euc-jp", "euc-kr",
]  # fmt: skip

_LOGGED = ", ".join(f"{name} (pip install '{rules.install}')" for name, rules in TRACKERS.items())
_RATES = ", ".join(f"{name} {rules.learning_rate:g}" for name, rules in METHOD_RULES.items())


def _is_relative(path: str) -> str:
    if path.startswith(("/", "~")) or ".." in path.replace("\\", "/").split("/") or "\0" in path:
        raise ValueError("must be a path inside the merchant's folder")
    if not PurePosixPath(path.replace("\\", "/")).name:
        raise ValueError("must name a file inside the merchant's folder")
    return path


MerchantPath = Annotated[str, Field(min_length=1), AfterValidator(_is_relative)]


class Data(Section):
    """Which files of the merchant's folder hold the examples, and how they are split."""

    file: MerchantPath = Field(description="example file: .jsonl, .csv, .parquet or a folder written by `datasets`")
    test_file: MerchantPath | None = Field(
        None, description="fixed test set; by default `<file>.test.<ext>` if it is there, else one is held out"
    )
    unlabeled: MerchantPath | None = Field(
        None, description="rows without their answer; by default `<file>.unlabeled.<ext>` if it is there"
    )
    encoding: Encoding = Field("utf-8", description="in which the merchant's .jsonl and .csv files are written")
    columns: dict[str, str] = Field(
        {}, description="our field name: the file's column name, in example files and catalogs alike"
    )
    decimal: DecimalMark = Field(
        "auto",
        description="what stands before the decimals of prices and other numbers that are text: by default settled "
        "from all values of a column",
    )
    label_aliases: dict[str, str] = Field(
        {}, description='choose: the file\'s label: ours, such as {"5": positive, "1": negative}'
    )
    bounds: list[float] | None = Field(
        None, description="rate: the least and the largest score, such as [1, 5]; those of the examples if left out"
    )
    catalog: MerchantPath | None = Field(
        None, description="catalog the ranked items come from; leave out for plain titles"
    )
    history_catalog: MerchantPath | None = Field(
        None, description="catalog of the ids in `item_fields`, where it is another one"
    )
    item_fields: list[str] = Field(
        ["history"], description="fields of an example that hold item ids and are shown as titles"
    )
    history_length: int = Field(8, ge=1, le=256, description="latest items of a history that are shown")
    repeats: bool = Field(False, description="rank: whether an item of the history may be recommended again")
    shots: int | None = Field(
        None,
        ge=0,
        description="examples to train on: balanced by label, sampled by the seed; all of them by default. "
        "rank: 0 trains on pretext pairs alone",
    )
    pretext: bool = Field(
        False, description="rank: train on pairs made from catalog and histories too; always where there is no example"
    )
    test_fraction: float = Field(
        0.3, gt=0, lt=1, description="share held out as test set, by group, where none is fixed"
    )
    max_test: int = Field(1000, ge=2, description="test examples used at most")
    near_duplicate: float = Field(
        0.92, gt=0.5, le=1, description="similarity from which a training text counts as a copy of a test text"
    )
    augment: list[Augment] = Field([], description="steps that vary training examples anew each epoch; none by default")


class SelfTraining(Section):
    """choose: whether the adapter learns from its own surest answers to the unlabeled rows."""

    rounds: int = Field(0, ge=0, le=3, description="rounds at most; one that does not help ends it")
    confidence: float = Field(
        0.9, gt=0, lt=1, description="calibrated probability from which on an answer is a pseudo-label"
    )


class Tune(Section):
    """How the adapter is fitted."""

    epochs: int = Field(6, ge=1, le=1000, description="passes over the training examples at most")
    steps: int | None = Field(
        None, ge=0, le=10_000_000, description="optimizer steps at most; 0 takes the best of what needs no training"
    )
    batch_size: int = Field(
        8,
        ge=1,
        le=4096,
        description="examples a forward on one process; times `accumulate`: of an optimizer step",
    )
    accumulate: int = Field(
        1,
        ge=1,
        le=1024,
        description="forwards an optimizer step; several processes share its batch_size x accumulate examples out",
    )
    lr: float | None = Field(None, gt=0, le=1, description=f"peak learning rate; by method if left out: {_RATES}")
    lr_ratio: float = Field(
        1.0,
        ge=1,
        le=1000,
        description="lora, adalora: the learning rate of B is so many times `lr`, that of A (LoRA+, arXiv:2402.12354); "
        "1 is off",
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps with rising learning rate")
    weight_decay: float = Field(0.01, ge=0, le=1, description="decoupled weight decay")
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    optimizer: Literal["adamw", "adamw-8bit", "paged-adamw-8bit"] = Field(
        "adamw", description="the 8-bit ones are bitsandbytes'"
    )
    mixed_precision: Literal["no", "bf16", "fp16"] = Field("no", description="autocast type while training")
    gradient_checkpointing: bool = Field(False, description="trade a third more time for memory")
    interpolation: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of the way from the first to the trained weights that is kept (arXiv:2109.01903):  "
        "0.75 for rank on an encoder if left out, else 1",
    )
    patience: int = Field(2, ge=1, description="epochs without a better task metric until training stops")
    valid_fraction: float = Field(
        0.2, gt=0, le=0.5, description="share of the training examples held out for early stopping"
    )
    negatives: int = Field(7, ge=1, le=1023, description="rank: sampled items that are not relevant, an example")
    temperature: float = Field(0.2, gt=0, description="choose, rank, rate: softmax of scores / temperature")
    huber: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="rate: share of the range beyond which an error counts linearly (Huber, 1964); 0 squares all",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="choose: share of the target that is spread over all labels (arXiv:1512.00567)"
    )
    two_hot: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="rate: share of cross-entropy with the two levels around a score (arXiv:2403.03950); 0.5 if unset",
    )
    adversarial: float = Field(
        0.0,
        ge=0,
        description="size of an adversarial push on an example's embeddings (arXiv:1605.07725), in standard deviations "
        "of the base's embeddings; twice the time a step; 0 is off",
    )
    contrastive: float = Field(
        0.0, ge=0, lt=1, description="choose: share of the supervised contrastive loss (arXiv:2011.01403); 0 is off"
    )
    contrastive_temperature: float = Field(0.3, gt=0, description="choose: similarities are divided by it")
    seed: int = Field(7, ge=0, lt=2**31, description="seed of sampling, initialisation, order and dropout")
    trackers: list[Tracker] = Field([], description=f"where the run is logged: {_LOGGED}")
    self_training: SelfTraining = SelfTraining()

    @property
    def rows_a_step(self) -> int:
        """Examples an optimizer step, on all processes together."""
        return self.batch_size * self.accumulate


class Evaluate(Section):
    """What the report measures on the test set."""

    metric: str = Field(description="the metric that early stopping and the gate use")
    k: int = Field(10, ge=1, le=1000, description="rank: cut-off of the @k metrics")
    candidates: int = Field(
        100,
        ge=2,
        le=100_000,
        description="rank: items to choose from, the relevant ones included, where a row names none",
    )
    baselines: list[Baseline] = Field([], description="simple models trained on the same rows")
    resamples: int = Field(1000, ge=100, le=100_000, description="bootstrap resamples behind the 95% intervals")


class Gate(Section):
    """When an adapter is promoted: it must be proven to beat the bare base and every prior on the recipe's metric."""

    min_gain: float = Field(
        0.0, ge=0, description="by how much, at least; the lower end of the gain's 95% interval must be above it"
    )


class Serve(Section):
    """How the adapter answers."""

    top: int = Field(5, ge=1, le=1000, description="rank: items returned")
    retrieve: int = Field(50, ge=1, le=10_000, description="recommend: items found by search that the adapter ranks")
    encoder: str = Field(
        "auto",
        min_length=1,
        description="encoder that search, score fusion and baselines embed with: a packaged one, Hub id or local "
        "folder; auto: the packaged one for the merchant's language",
    )
    rules: Rules = Field(Rules(), description="recommend: which items may be recommended")
    max_new_tokens: int = Field(128, ge=1, le=4096, description="generate: tokens at most")
    temperature: float = Field(0.0, ge=0, le=5, description="generate: 0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="generate: nucleus sampling")
    precision: float | None = Field(
        None, gt=0, lt=1, description="choose: share of right answers wanted among those the adapter says it is sure of"
    )
    stop: list[str] = Field([], description="generate: texts that end the answer")
    json_schema: dict[str, Any] | None = Field(None, description="generate: JSON schema that every answer follows")
    titles: bool = Field(False, description="generate: every answer is the title of a catalog item in stock")


class Recipe(Section):
    """A task for a language model and one merchant's examples."""

    schema_: Literal[1] = Field(1, alias="schema", description="version of this contract")
    name: str = Field(pattern=rf"^{SLUG}$", description=f"the recipe's name: {SLUG_RULE}")
    description: str = Field("", description="what the adapter does, in one line")
    task: Task = Field(description="choose a label, rank items, rate with a number, or generate text")
    base: str = Field(
        "smollm2-135m",
        min_length=1,
        description="packaged base, Hub id or local folder; auto-language: the one for the merchant's language; or "
        "auto: the packaged ones compete on the examples",
    )
    bases: dict[str, str] = Field(
        {},
        description="with base auto-language: bases by language, such as {en: smollm2-135m}; for others it is the "
        "packaged encoder that reads it, or to generate the decoder",
    )
    data: Data
    prompt: Prompt
    adapter: Adapter = Adapter()
    quantization: Quantization = Field(
        "none", description="numeric form of the frozen base: int8 or nf4 by bitsandbytes; int8 on a CPU is our own"
    )
    dtype: Literal["auto", Dtype] = Field(
        "auto",
        description="numbers of the frozen base: auto is bfloat16 on a GPU that computes in it, else float32, and "
        "float32 for what is not quantized of a quantized base; the adapter is always trained in float32",
    )
    tune: Tune = Tune()
    start: str = Field(
        "auto",
        pattern=rf"^(auto|scratch|{SLUG}/{SLUG}(@([1-9][0-9]{{0,8}}|[a-z][a-z-]{{0,31}}))?)$",
        description="where the adapter's weights start: auto compares scratch, the house's starter and what merchants "
        "that share have learned, on the merchant's own examples; or a reference such as house/review-sentiment@3",
    )
    blend: bool = Field(
        True,
        description="choose, rank, rate: whether popularity, search and the like may add to the adapter's score, with "
        "weights learned from held-out examples, where that is better in cross-validation",
    )
    evaluate: Evaluate
    gate: Gate = Gate()
    serve: Serve = Serve()

    @model_validator(mode="before")
    @classmethod
    def _default_answer(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(prompt := values.get("prompt"), dict) and not prompt.get("answer"):
            spec = TASKS.get(str(values.get("task")))  # type: ignore[call-overload]
            values = values | {"prompt": prompt | {"answer": "" if spec is None else spec.answer_template}}
        return values

    @model_validator(mode="after")
    def _parts_fit(self) -> "Recipe":
        spec = self.spec
        baselines = spec.baselines
        problems = prompt_problems(self.task, spec, self.prompt)
        if (metric := self.evaluate.metric) not in spec.metric_names:
            allowed = ", ".join(spec.metric_names)
            problems.append(
                f"evaluate.metric: {shown(metric)} is not a metric of task {self.task} (allowed: {allowed})"
            )
        if unknown := [shown(name) for name in self.evaluate.baselines if name not in baselines]:
            what = f"{', '.join(unknown)} is no baseline of task {self.task}"
            problems.append(f"evaluate.baselines: {what} (allowed: {', '.join(baselines)})")
        if spec.answer_field is None and self.data.catalog is None and self.prompt.answer != " {title}":
            problems.append("prompt.answer: without data.catalog an item is only its {title}")
        catalog = (self.data.catalog or self.data.history_catalog) is not None
        problems += augment_problems(self.data.augment, catalog=catalog)
        if limit := self.adapter.limit(self.quantization):
            problems.append(
                f"{limit.key}: {limit.what} does not work in {self.quantization}: {limit.why} "
                f"(the nearest that works: {limit.nearest})"
            )
        rules = METHOD_RULES[self.adapter.method]
        if self.tune.lr_ratio != 1 and not rules.factors:
            problems.append(f"tune.lr_ratio: {rules.title} has no factors A and B (allowed: 1)")
        if self.quantization != "none" and self.dtype not in {"auto", "float32"}:
            what = f"what is not quantized of a base in {self.quantization} is float32"
            problems.append(f"dtype: {what} (allowed: auto, float32)")
        problems += _foreign_keys(self)
        problems += _language_problems(self)
        if self.data.shots == 0 and not spec.from_catalog:
            what = "learns nothing from a catalog: it needs examples, or a starter that is asked instead"
            problems.append(f"data.shots: task {self.task} {what} (allowed: 1 or more)")
        if "data.label_aliases" in spec.own_keys:
            problems += alias_problems(self.data.label_aliases, self.prompt.labels)
        if spec.kind == "number":
            problems += level_problems(self.data.bounds, self.prompt.labels)
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def spec(self) -> TaskSpec:
        """What sets the recipe's task apart."""
        return TASKS[self.task]

    @property
    def fields(self) -> list[str]:
        """Names of the example fields that the prompt shows, in order."""
        return placeholders(self.prompt.template)


def _language_problems(recipe: Recipe) -> list[str]:
    """What is wrong with `bases`."""
    unknown = [tag for tag in recipe.bases if not is_tag(tag)]
    found = [f"bases: {shown(tag)} is no language (allowed: tags such as en or zh)" for tag in unknown]
    languages = Counter(language_of(tag) for tag in recipe.bases if tag not in unknown)
    found += [f"bases: {language} is there twice (allowed: once)" for language, count in languages.items() if count > 1]
    named = [name for name in recipe.bases.values() if not name.strip() or name in {AUTO, AUTO_LANGUAGE}]
    return found + [f"bases: {shown(name)} is no base (allowed: the name of one)" for name in named]


def _foreign_keys(recipe: Recipe) -> list[str]:
    """Keys that have a value, and are for other tasks alone."""
    owners: dict[str, list[str]] = {}
    allowed: dict[str, str] = {}
    for task, spec in TASKS.items():
        for key, elsewhere in spec.own_keys.items():
            owners.setdefault(key, []).append(task)
            allowed[key] = elsewhere
    return [
        f"{key}: only for task {' or '.join(tasks)}, not {recipe.task}"
        + (f" (allowed: {allowed[key]})" if allowed[key] else "")
        for key, tasks in owners.items()
        if recipe.task not in tasks and attrgetter(key)(recipe)
    ]
