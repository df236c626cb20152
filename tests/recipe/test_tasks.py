from typing import Any, get_args

import pytest
from pydantic import ValidationError

from shopfit.recipe.schema import Recipe
from shopfit.recipe.tasks import METRICS, TASKS, Task

VALUES = {
    "prompt.labels": {"1": "bad", "5": "good"},  # names that are numbers: levels of a rating too
    "data.label_aliases": {"*****": "5"},
    "data.bounds": [1, 5],
    "tune.huber": 0.1,
    "tune.two_hot": 0.2,
    "tune.label_smoothing": 0.1,
    "tune.contrastive": 0.1,
    "tune.self_training.rounds": 1,
    "data.pretext": True,
}


def recipe(task: str, **sections: Any) -> Recipe:
    values = {
        "name": "some",
        "task": task,
        "data": {"file": "rows.jsonl"},
        "prompt": {"template": "{text}"},
        "evaluate": {"metric": TASKS[task].metric_names[0]},  # type: ignore[index]
    }
    for name, section in sections.items():
        values[name] = values.get(name, {}) | section  # type: ignore[operator]
    return Recipe.model_validate(values)


def test_every_task_has_its_spec_and_every_metric_one_owner() -> None:
    assert tuple(TASKS) == get_args(Task)
    assert len(METRICS) == sum(len(spec.metrics) for spec in TASKS.values())
    assert all(spec.tie_break in spec.metric_names for spec in TASKS.values())


@pytest.mark.parametrize("task", TASKS)
def test_a_recipe_of_a_task_needs_to_say_no_more_than_its_spec_leaves_open(task: Task) -> None:
    spec = TASKS[task]
    assert recipe(task).prompt.answer == spec.answer_template
    for name in spec.metric_names:
        assert recipe(task, evaluate={"metric": name, "baselines": list(spec.baselines)}).evaluate.metric == name


@pytest.mark.parametrize("task", TASKS)
def test_what_only_steers_training_is_never_shown(task: Task) -> None:
    for name in TASKS[task].hidden:
        with pytest.raises(ValidationError, match=rf"\{{{name}\}} cannot be shown"):
            recipe(task, prompt={"template": f"{{text}} {{{name}}}"})


@pytest.mark.parametrize(("owner", "key"), [(task, key) for task, spec in TASKS.items() for key in spec.own_keys])
def test_a_key_of_some_tasks_is_refused_for_every_other(owner: Task, key: str) -> None:
    section, *path = key.split(".")
    value = VALUES[key]
    for name in reversed(path[1:]):
        value = {name: value}
    owners = [task for task, spec in TASKS.items() if key in spec.own_keys]
    assert owner in owners
    for task in TASKS:
        if task in owners:
            recipe(task, **{section: {path[0]: value}})
        else:
            with pytest.raises(ValidationError, match=rf"{key}: only for task {' or '.join(owners)}, not {task}"):
                recipe(task, **{section: {path[0]: value}})


def test_a_key_of_two_tasks_names_both() -> None:
    with pytest.raises(ValidationError, match=r"prompt\.labels: only for task choose or rate, not generate"):
        recipe("generate", prompt={"labels": {"1": "bad", "5": "good"}})


def test_of_two_values_the_better_one_has_the_gain() -> None:
    assert METRICS["accuracy"].gain(0.75, 0.5) == METRICS["log_loss"].gain(0.5, 0.75) == 0.25
    assert METRICS["ece"].merit(0.5) < METRICS["ece"].merit(0.25)
    assert METRICS["mrr"].merit(0.5) > METRICS["mrr"].merit(0.25)
