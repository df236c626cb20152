import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shopfit.errors import RecipeError
from shopfit.recipe.loading import dump_recipe, load_recipe, parse_recipe
from shopfit.recipe.schema import Recipe

GOOD: dict[str, Any] = {
    "name": "mine",
    "task": "rank",
    "data": {"file": "searches.jsonl", "catalog": "catalog.jsonl"},
    "prompt": {"template": "Search: {query}"},
    "evaluate": {"metric": "ndcg@k"},
}


def write(folder: Path, text: str | None = None, **changes: Any) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes) if text is None else text)
    return path


def problems(source: str | Path, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(source, overrides=overrides)
    assert caught.value.next_step
    return [str(problem) for problem in caught.value.problems]


def only(source: str | Path, *overrides: str) -> str:
    [problem] = problems(source, *overrides)
    return problem


def test_a_path_and_a_name_load(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert load_recipe(path).name == load_recipe(str(path)).name == "mine"
    assert load_recipe("mine", shelves=[tmp_path / "none", tmp_path]).data.file == "searches.jsonl"
    assert load_recipe("review-sentiment").task == "choose"


def test_unknown_names_and_files_name_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"'review-sentimnt'; did you mean 'review-sentiment'\?(.|\n)*recipe ls"):
        load_recipe("review-sentimnt")
    write(tmp_path)
    with pytest.raises(RecipeError, match=r"did you mean 'mine.yaml'"):
        load_recipe(tmp_path / "mien.yaml")
    with pytest.raises(RecipeError, match=r"no recipe '\.\.'"):
        load_recipe("..")


def test_round_trip_through_json() -> None:
    recipe = load_recipe("product-recommendation", overrides=["tune.lr=1e-4", "data.columns={query: q}"])
    snapshot = dump_recipe(recipe)
    assert snapshot["schema"] == 1
    assert parse_recipe(json.loads(json.dumps(snapshot))) == recipe


def test_a_bad_snapshot() -> None:
    with pytest.raises(RecipeError, match=r"(?s)snapshot 'mine'.*evaluate\.metric: 'auc' is not a metric"):
        parse_recipe(GOOD | {"evaluate": {"metric": "auc"}})


def test_every_mistake_at_once_with_file_line_key_value_and_allowed(tmp_path: Path) -> None:
    text = """\
name: other
task: rank
lr: 3
data: {file: ../x, catalgo: c.jsonl}
prompt:
  template: "{query}"
  labels: {yes: no, on: 5}
adapter:
  method: lorra
  rank: 0
  targets: 5
tune:
  lr: abc
  lr: 1
evaluate: {metric: accuracy, rank: 3}
"""
    path = write(tmp_path, text)
    found = problems(path, "tune.seed=-1", "nonsense", "serve.top=x", "tune.nope=1")
    expected = [
        f"{path}:14 tune.lr: stands a second time, after line 13",
        f"{path}:4 data.file: '../x' must be a path inside the merchant's folder",
        f"{path}:4 data.catalgo: is not a key; did you mean 'catalog'? (allowed: file, test_file, ",
        f"{path}:7 prompt.labels.on: 5 is not text; write it in quotes (allowed: text)",
        f"{path}:9 adapter.method: 'lorra' is not accepted; did you mean 'lora'? (allowed: lora, adalora, prefix)",
        f"{path}:10 adapter.rank: 0 is out of range (allowed: a whole number, at least 1, at most 256)",
        f"{path}:11 adapter.targets: 5 is not accepted (allowed: all-linear or a list of text)",
        f"{path}:13 tune.lr: 'abc' is not accepted (allowed: a number, above 0, at most 1)",
        f"{path}:15 evaluate.rank: is not a key; did you mean 'adapter.rank'? (allowed: metric, k, ",
        f"{path}:15 evaluate.metric: 'accuracy' is not a metric of task rank (allowed: ndcg@k, hr@k, mrr, coverage@k)",
        f"{path}:3 lr: is not a key; did you mean 'tune.lr'? (allowed: schema, name, ",
        f"{path}:1 name: 'other' is not the name of the file (allowed: mine)",
        "--set: 'nonsense' is not an override (allowed: key.path=value, such as tune.lr=1e-4)",
        "--set tune.seed: -1 is out of range (allowed: a whole number, at least 0, below 2147483648)",
        "--set serve.top: 'x' is not accepted (allowed: a whole number, at least 1, at most 1000)",
        "--set tune.nope: is not a key (allowed: epochs, ",
    ]
    for line in expected:
        assert any(problem.startswith(line) for problem in found), (line, found)
    # the misspelt catalog must not be reported as missing as well
    assert not any(problem.startswith(f"{path}:5 prompt.answer") for problem in found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": None}, "task: null is not accepted (allowed: choose, rank, generate, rate)"),
        ({"data": {}}, "data.file: is missing (allowed: text; example file"),
        ({"data": {"file": ""}}, "data.file: is empty"),
        ({"data": {"file": "/etc/passwd"}}, "must be a path inside the merchant's folder"),
        *[({"data": {"file": name}}, "must name a file") for name in (".", "./", ".//.", ".\\")],
        *[
            ({"data": {"file": "a.jsonl", key: "."}}, f"data.{key}: '.' must name a file inside the merchant's folder")
            for key in ("test_file", "unlabeled", "catalog", "history_catalog")
        ],
        ({"data": {"file": "a/.."}}, "must be a path inside the merchant's folder"),
        ({"dtype": "float8"}, "(allowed: auto, float32, bfloat16, float16)"),
        ({"dtype": "float16", "quantization": "nf4"}, "dtype: what is not quantized of a base in nf4 is float32"),
        ({"data": 5}, "data: 5 is not accepted (allowed: keys with values below it)"),
        ({"name": "Not A Slug"}, "name: 'Not A Slug' is not accepted (allowed: 1-63 of a-z"),
        ({"schema": 2}, "schema: 2 is not accepted (allowed: 1)"),
        ({"prompt": {"template": "hello"}}, "prompt.template: shows no field of an example"),
        ({"prompt": {"template": "{query"}}, "prompt.template: '{query' is not a template"),
        ({"prompt": {"template": "{query:>99999999}"}}, "in a form that is not used"),
        ({"prompt": {"template": "{query.__class__}"}}, "in a form that is not used"),
        ({"prompt": {"template": "{query!r}"}}, "in a form that is not used"),
        ({"prompt": {"template": "{} {0}"}}, "in a form that is not used"),
        ({"prompt": {"template": "{query} {relevant}"}}, "prompt.template: {relevant} cannot be shown"),
        ({"prompt": {"template": "{query}", "answer": "x"}}, "prompt.answer: 'x' does not fit task rank"),
        ({"prompt": {"template": "{query}", "labels": {"a": "b", "c": "d"}}}, "prompt.labels: only for task choose"),
        ({"evaluate": {"metric": "mrr", "baselines": ["minilm-logreg"]}}, "is no baseline of task rank"),
        ({"tune": {"lr": float("inf")}}, "tune.lr: .inf is not a finite number"),
        (
            {"tune": {"trackers": ["comet"]}},
            "tune.trackers.0: 'comet' is not accepted (allowed: tensorboard, wandb, mlflow, trackio)",
        ),
        ({"adapter": {"targets": ["q", 1]}}, "adapter.targets: ['q', 1] is not accepted"),
        ({"adapter": {"method": "adalora", "init_rank": 4}}, "init_rank must be above rank (8)"),
        ({"adapter": {"method": "adalora", "rslora": True}}, "rslora is only for the method lora, not adalora"),
        ({"adapter": {"method": "prefix", "rslora": True}}, "rslora is only for the method lora, not prefix"),
        ({"adapter": {"method": "adalora", "dora": True}}, "dora is only for the method lora, not adalora"),
        ({"adapter": {"method": "prefix", "dora": True}}, "dora is only for the method lora, not prefix"),
    ],
)
def test_one_mistake_one_message(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert message in only(write(tmp_path, **changes))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"a": " x", "b": "x"}, "share the same words"),
        ({"a": " ", "b": "x"}, "a label has no words"),
        ({"a": "x"}, "one label leaves nothing to choose"),
    ],
)
def test_labels_that_cannot_be_told_apart(tmp_path: Path, labels: dict[str, str], message: str) -> None:
    path = write(
        tmp_path, task="choose", prompt={"template": "{text}", "labels": labels}, evaluate={"metric": "accuracy"}
    )
    assert message in only(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "is empty"), ("# nothing\n", "is empty"), ("[1, 2]", "is a list"), ("hello", "is a single value")],
)
def test_files_that_are_no_recipe(tmp_path: Path, text: str, message: str) -> None:
    assert message in only(write(tmp_path, text))


def test_yes_and_no_stay_words_and_an_empty_section_says_nothing(tmp_path: Path) -> None:
    text = """\
name: mine
task: choose
data: {file: x.jsonl}
prompt:
  template: "{text}"
  labels:
    yes: on
    no: off
tune:
  # lr: 1
  mixed_precision: no
  seed: 1e1
serve:
evaluate: {metric: accuracy}
"""
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.prompt.labels == {"yes": "on", "no": "off"}
    assert (recipe.tune.mixed_precision, recipe.tune.seed, recipe.serve.top) == ("no", 10, 5)


def test_a_broken_file_still_lists_broken_overrides(tmp_path: Path) -> None:
    found = problems(write(tmp_path, "a: [1"), "x")
    assert len(found) == 2


def test_the_name_is_the_files(tmp_path: Path) -> None:
    assert only(write(tmp_path), "name=other") == "--set name: 'other' is not the name of the file (allowed: mine)"


def test_overrides_change_the_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, tune={"lr": 0.1})
    recipe = load_recipe(
        path,
        overrides=[
            "tune.lr=1e-4",
            "prompt.answer=' {title} = {brand}'",
            "serve.stop=[a]",
            "tune.seed=1",
            "tune.seed=2",
        ],
    )
    assert (recipe.tune.lr, recipe.prompt.answer, recipe.tune.seed) == (1e-4, " {title} = {brand}", 2)
    assert recipe.serve.stop == ["a"]
    assert load_recipe(path, overrides=["tune.lr="]).tune.lr is None


@given(st.floats(min_value=1e-12, max_value=1, exclude_min=True))
def test_any_learning_rate_can_be_set(rate: float) -> None:
    assert load_recipe("review-sentiment", overrides=[f"tune.lr={rate!r}"]).tune.lr == rate


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_can_be_set_as_json(text: str) -> None:
    assert load_recipe("review-sentiment", overrides=[f"description={json.dumps(text)}"]).description == text


@given(st.text(max_size=40))
def test_whatever_is_set_is_taken_or_explained(text: str) -> None:
    error: RecipeError | None = None
    try:
        load_recipe("review-sentiment", overrides=[text])
    except RecipeError as raised:
        error = raised
    assert (error is None and "=" in text) or (error and all(each.where.startswith("--set") for each in error.problems))


@pytest.mark.parametrize(
    "source", ["x" * 5000 + ".yaml", "a\0b.yaml", "\ud800/x.yaml", "~nobody-of-that-name/x.yaml", "\ud800"]
)
def test_names_that_no_file_can_have(source: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(source)
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tune.seed=0x" + "f" * 200_000, "--set tune.seed: '0xfff"),
        ("tune.lr=.nan", "--set tune.lr: '.nan' .nan is not a finite number"),
        (".".join(["a"] * 500) + "=1", "is not an override"),
        ("tune.\udcff=1", "is not an override"),
        ("tune.lr=" + "[" * 5000, "nested too deep"),
        ("serve.json_schema={x: " + "y" * 300_000 + "}", "is too large (allowed: at most 256 KiB)"),
    ],
)
def test_overrides_that_nothing_can_be_made_of(tmp_path: Path, override: str, message: str) -> None:
    assert message in only(write(tmp_path), override)


def test_a_recipe_of_nothing_but_mistakes_costs_little(tmp_path: Path) -> None:
    text = yaml.safe_dump(GOOD) + "tune:\n" + "".join(f"  k{number}: 1\n" for number in range(9_000))
    assert len(problems(write(tmp_path, text))) == 9_000


PIECES = [
    "name",
    "task",
    "rank",
    "choose",
    "data",
    "file",
    "prompt",
    "template",
    "labels",
    "tune",
    "lr",
    "serve",
    "json_schema",
    "evaluate",
    "metric",
    "mrr",
    "mine",
    "augment",
    "columns",
    "a.jsonl",
    "{query}",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "'",
    "|",
    ">",
    "&a",
    "*a",
    "!!int",
    "#",
    "?",
    "1e999",
    ".nan",
    "-.inf",
    "-1",
    "0o7",
    "1:30:00",
    "1_0",
    "2026-05-01",
    "~",
    "true",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "\n    ",
    '"',
    "0x" + "f" * 5000,
    "9" * 5000,
    "\t",
    "\\ud800",
    "\ufeff",
    "é",
    "\x00",
]
TEXT = st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(max_size=40)
VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**400, -(10**4000)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SECTIONS = sorted(Recipe.model_json_schema()["properties"])
KEYS = sorted({key for part in Recipe.model_json_schema()["$defs"].values() for key in part.get("properties", {})})


def only_recipe_errors(read: Callable[[], object]) -> None:
    """Either an answer, or a RecipeError whose message can be written anywhere, is not endless, and names no Python."""
    try:
        read()
    except RecipeError as error:
        message = str(error)
        message.encode()
        assert len(message) < 20_000


@given(text=TEXT, overrides=st.lists(TEXT, max_size=2))
@example(text="0x" + "f" * 20_000 + "\x00", overrides=[])
@example(text="0x" + "f" * 20_000, overrides=[])
@example(text="name: " + "x" * 20_000, overrides=[])
@example(text="!" + "x" * 20_000 + " 1", overrides=["name=!" + "x" * 20_000 + " 1"])
@example(text="x/" * 10_000 + ".yaml", overrides=[])
@example(text="prompt: {answer: " + "x" * 20_000 + "}", overrides=["prompt.answer=" + "x" * 20_000])
@example(text="evaluate: {metric: " + "x" * 20_000 + "}", overrides=["evaluate.metric=" + "x" * 20_000])
@example(text="", overrides=["data.label_aliases={a: " + "x" * 20_000 + "}", "prompt.labels=[b, c]"])
@example(text="", overrides=["data.label_aliases={" + "x" * 20_000 + ": a}", "prompt.labels=[b, " + "y" * 20_000 + "]"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_text_and_no_override_raises_anything_else(tmp_path: Path, text: str, overrides: list[str]) -> None:
    path = tmp_path / "mine.yaml"
    for content in (text, yaml.safe_dump(GOOD) + text):
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
        only_recipe_errors(lambda: load_recipe(path, overrides=overrides))
    only_recipe_errors(lambda: load_recipe(text, shelves=[tmp_path]))


@given(section=st.sampled_from(SECTIONS), key=st.sampled_from(KEYS), value=TEXT)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_value_of_any_key_raises_anything_else(tmp_path: Path, section: str, key: str, value: str) -> None:
    path = write(tmp_path)
    only_recipe_errors(lambda: load_recipe(path, overrides=[f"{section}={value}", f"{section}.{key}={value}"]))
    only_recipe_errors(lambda: load_recipe(path, overrides=[f"{section}.{key}={value}"]))


@given(section=st.sampled_from(SECTIONS), key=st.sampled_from(KEYS), value=VALUE)
@settings(deadline=None)
def test_no_snapshot_raises_anything_else(section: str, key: str, value: Any) -> None:
    known = GOOD.get(section)
    only_recipe_errors(lambda: parse_recipe(GOOD | {section: value}))
    only_recipe_errors(
        lambda: parse_recipe(GOOD | {section: (known if isinstance(known, dict) else {}) | {key: value}})
    )
