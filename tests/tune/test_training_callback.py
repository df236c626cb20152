"""A long training says how far it is, a short one says nothing."""

from shopfit.tune.training_callback import Heartbeat


def test_a_line_whenever_ten_seconds_have_passed() -> None:
    said: list[tuple[str, str]] = []
    now = 0.0
    beat = Heartbeat(lambda stage, line: said.append((stage, line)), "folds", "fold 2 of 3", clock=lambda: now)
    beat.begin(100)
    for step in range(1, 31):
        now += 1
        beat.step(step, 0.5)
    assert said == [
        ("folds", "fold 2 of 3: step 10 of 100, loss 0.500, 90 s left at most"),
        ("folds", "fold 2 of 3: step 20 of 100, loss 0.500, 80 s left at most"),
        ("folds", "fold 2 of 3: step 30 of 100, loss 0.500, 70 s left at most"),
    ]


def test_a_training_of_a_few_seconds_says_nothing() -> None:
    said: list[str] = []
    now = 0.0
    beat = Heartbeat(lambda _, line: said.append(line), "folds", "fold 1 of 3", clock=lambda: now)
    beat.begin(9)
    for step in range(1, 10):
        now += 1
        beat.step(step, 0.5)
    assert said == []
