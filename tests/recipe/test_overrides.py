import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfit.recipe.overrides import Overrides


@given(st.integers(), st.sampled_from(["a", "a.b", "a.b.c"]))
def test_a_value_lands_at_its_path_and_nothing_else_changes(value: int, key: str) -> None:
    before = {"a": {"z": 1}, "y": 2} if "." in key else {"y": 2}
    changed, problems = Overrides.parse([f"{key}={value}"]).apply(before)
    found: object = changed
    for part in key.split("."):
        assert isinstance(found, dict)
        found = found[part]
    assert (found, problems, changed["y"]) == (value, [], 2)
    assert before.get("a", {"z": 1}) == {"z": 1}


def test_split_on_the_first_equals_sign() -> None:
    assert Overrides.parse(["a = b=c"]).values == ((("a",), "b=c"),)


@pytest.mark.parametrize("text", ["", "a", "=1", "a.=1", ".a=1", "a..b=1", " =1"])
def test_what_is_no_override(text: str) -> None:
    [problem] = Overrides.parse([text]).problems
    assert problem.where == "--set"
    assert "key.path=value" in problem.allowed


def test_a_value_that_is_not_yaml() -> None:
    [problem] = Overrides.parse(["a.b=x: y: z"]).problems
    assert str(problem).startswith("--set a.b: 'x: y: z' is not YAML")


def test_a_path_through_a_value() -> None:
    _, [problem] = Overrides.parse(["task.x=1"]).apply({"task": "rank"})
    assert str(problem) == "--set task.x: task is 'rank', which has no keys"


def test_which_keys_come_from_overrides() -> None:
    overrides = Overrides.parse(["tune.lr=1"])
    assert overrides.sets(("tune", "lr"))
    assert overrides.sets(("tune", "lr", 0))
    assert not overrides.sets(("tune",))
    assert overrides.lead_through(("tune",))
