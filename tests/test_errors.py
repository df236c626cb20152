"""What a message is made of: short lines, every mistake, and what to do next."""

from shopfit.errors import Problem, RecipeError


def test_no_line_is_endless_whatever_it_shows() -> None:
    endless = "0x" + "f" * 100_000 + "\x00"
    error = RecipeError(
        f"there is no recipe file {endless}",
        problems=[Problem(f"{endless}: tune.lr", endless, endless)] * 3,
        next_step="name another",
    )
    assert all(len(line) <= 4096 + 3 for line in error.lines)
    assert error.message.startswith("there is no recipe file 0xff")
    assert len(str(error)) < 20_000
    assert error.lines[-1] == "Next: name another"


def test_a_line_that_fits_is_whole() -> None:
    path = "/" + "a/" * 2000
    assert RecipeError(path).message == path
