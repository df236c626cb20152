from shopfit.recipe.suggestions import did_you_mean, nearest, shown


def test_near_names() -> None:
    assert did_you_mean("temperatur", ["epochs", "temperature"]) == "; did you mean 'temperature'?"
    assert nearest("LR", ["lr"]) == "lr"
    assert did_you_mean("zebra", ["epochs"]) == ""
    assert nearest(5, ["epochs"]) is None


def test_values_are_shown_short_and_as_they_were_written() -> None:
    assert [shown(value) for value in (None, True, "a\nb", 1.5)] == ["null", "true", r"'a\nb'", "1.5"]
    assert len(shown("x" * 500)) == 60
