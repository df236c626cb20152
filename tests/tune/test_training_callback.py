"""A long training says how far it is, a short one says nothing."""

from shopfit.tune.training_callback import Heartbeat


def told(name: str, steps: range, of: int) -> list[tuple[str, str]]:
    """What is said of a training that takes a second a step."""
    said: list[tuple[str, str]] = []
    now = 0.0
    beat = Heartbeat(lambda stage, line: said.append((stage, line)), "folds", name, clock=lambda: now)
    beat.begin(of)
    for step in steps:
        now += 1
        beat.step(step, 0.5)
    return said


def test_a_line_whenever_eight_seconds_have_passed() -> None:
    assert told("fold 2 of 3", range(1, 31), of=100) == [
        ("folds", "fold 2 of 3: step 8 of 100, loss 0.500, 92 s left at most"),
        ("folds", "fold 2 of 3: step 16 of 100, loss 0.500, 84 s left at most"),
        ("folds", "fold 2 of 3: step 24 of 100, loss 0.500, 76 s left at most"),
    ]


def test_a_training_of_a_few_seconds_says_nothing() -> None:
    assert told("fold 1 of 3", range(1, 8), of=7) == []


def test_of_a_training_that_goes_on_only_its_own_steps_took_time() -> None:
    line = "the adapter: step 68 of 100, loss 0.500, 32 s left at most"
    assert told("the adapter", range(61, 70), of=100) == [("folds", line)]
