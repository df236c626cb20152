from shopfit.recipe.suggestions import did_you_mean, nearest, shown


def test_near_names() -> None:
    assert did_you_mean("temperatur", ["epochs", "temperature"]) == "; did you mean 'temperature'?"
    assert nearest("LR", ["lr"]) == "lr"
    assert did_you_mean("zebra", ["epochs"]) == ""
    assert nearest(5, ["epochs"]) is None


def test_values_are_shown_short_and_as_they_were_written() -> None:
    assert [shown(value) for value in (None, True, "a\nb", 1.5)] == ["null", "true", r"'a\nb'", "1.5"]
    assert len(shown("x" * 500)) == 60


def test_large_values_and_many_names_cost_little() -> None:
    nested: list[object] = []
    nested.append(nested)
    for value in (10**100_000, -(10**5000), {"a": ["x" * 10**6] * 10**6}, nested, [[[[[1] * 100] * 100] * 100] * 100]):
        assert len(shown(value)) <= 60
    names = [f"column {number} {'x' * 50}" for number in range(100_000)]
    assert nearest("colum 7 " + "x" * 50, names) is not None
    assert nearest("c" * 10**6, names) is None
    assert nearest("label", ["x" * 10**6, "labels"]) == "labels"
    assert nearest(10**5000, ["1"]) is None
