import ast
from pathlib import Path
from typing import Any, get_args

import pytest

import shopfit
from shopfit.evaluation import measure
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example
from shopfit.recipe.tasks import TASKS, Task
from shopfit.tasks import ClosedTask, ScoredTask, pooled, task_of


def test_choices_keep_the_order_of_the_labels() -> None:
    rows = [Example("1", {}, label="b"), Example("2", {}, label="a")]
    found: Any = task_of("choose").collect(["b", "a"], rows, [(), ()], [[0.9, 0.1], [0.2, 0.8]], None)
    assert found.labels == ("b", "a")
    assert found.gold.tolist() == [0, 1]
    assert found.probabilities.tolist() == [[0.9, 0.1], [0.2, 0.8]]


@pytest.mark.parametrize(("catalog", "size"), [(Catalog.of_titles(iter("wxyz")), 4), (None, 3)])
def test_rankings_may_differ_in_length(catalog: Catalog | None, size: int) -> None:
    rows = [Example("1", {}, relevant=("x",)), Example("2", {}, relevant=("y", "z"))]
    found: Any = task_of("rank").collect([], rows, [("x", "y"), ("x", "y", "z")], [[1, 2], [3, 4, 5]], catalog)
    assert [scores.tolist() for scores in found.scores] == [[1, 2], [3, 4, 5]]
    assert found.relevant == (frozenset("x"), frozenset("yz"))
    assert found.catalog_size == size


def test_texts_stay_as_they_are() -> None:
    found: Any = task_of("generate").collect([], [Example("1", {}, output={"a": 1})], [()], ["{"], None)
    assert (found.outputs, found.gold) == (("{",), ({"a": 1},))


def test_ratings_keep_their_bounds() -> None:
    rows = [Example("1", {}, score=4.0), Example("2", {}, score=1.5)]
    found: Any = task_of("rate").collect(["1", "3", "5"], rows, [(), ()], [3.5, 2.0], None)
    assert (found.scores.tolist(), found.gold.tolist()) == ([3.5, 2.0], [4.0, 1.5])
    assert (found.low, found.high) == (1.0, 5.0)


def test_no_rows() -> None:
    found: Any = task_of("choose").collect(["a", "b"], [], [], [], None)
    assert found.probabilities.shape == (0, 2)
    assert task_of("rate").collect(["1", "2"], [], [], [], None).rows == 0


def test_every_task_of_the_table_is_known_and_no_other() -> None:
    assert get_args(Task) == tuple(TASKS)
    for name in TASKS:
        task = task_of(name)
        assert (task.name, task.request.task) == (name, name)
        assert isinstance(task, ClosedTask) == TASKS[name].closed
        assert isinstance(task, ScoredTask) != TASKS[name].written
    with pytest.raises(KeyError):
        task_of("sort")  # type: ignore[arg-type]


def test_only_a_task_with_score_fusion_says_what_it_is_of() -> None:
    asked = {ScoredTask: ("facts", "fusion_rows", "fused"), ClosedTask: ("facts", "parts", "judged", "fused")}
    for kind, methods in asked.items():
        bare: Any = type("Bare", (kind,), dict.fromkeys(kind.__abstractmethods__))()
        assert bare.fusion is None
        assert bare.facts([], [], str, None) == {}
        assert bare.fusion_rows(None, None, None, None) == []
        for name in TASKS:
            task = task_of(name)
            if isinstance(task, kind) and isinstance(task, ClosedTask) == (kind is ClosedTask):
                assert task.fusion is not None
                assert set(methods) <= vars(type(task)).keys()


def test_no_other_room_compares_the_name_of_a_task() -> None:
    room = Path(shopfit.__file__).parent
    found = []
    for path in sorted(set(room.rglob("*.py")) - set((room / "tasks").glob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            asked = [getattr(side, "attr", getattr(side, "id", None)) for side in sides]
            named = {part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)}
            if isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant):
                asked, named = ["task"], {node.value.value}
            if "task" in asked and named & set(TASKS):
                found.append(f"{path}:{node.lineno}")
    assert found == []


@pytest.mark.parametrize("task", TASKS)
def test_what_is_collected_is_of_the_task_and_measured_by_every_metric_of_it(task: Task) -> None:
    row = Example("1", {}, label="a", relevant=("x",), output={"a": 1}, score=2.0)
    answer = {"choose": [0.9, 0.1], "rank": [2.0, 1.0], "generate": '{"a": 1}', "rate": 1.5}[task]
    labels = {"choose": ["a", "b"], "rate": ["1", "2"]}.get(task, [])
    found = task_of(task).collect(labels, [row], [("x", "y")], [answer], None)
    assert (found.task, found.rows) == (task, 1)
    assert set(measure(found, TASKS[task].metric_names)) == set(TASKS[task].metric_names)
    assert pooled([found, found]).rows == 2


def test_answers_to_several_tasks_are_not_pooled() -> None:
    parts = [task_of("choose").collect(["a", "b"], [], [], [], None), task_of("rank").collect([], [], [], [], None)]
    with pytest.raises(ValueError, match="only answers to one task"):
        pooled(parts)
