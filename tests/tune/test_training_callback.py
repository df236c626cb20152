"""A long training says how far it is, a short one says nothing."""

from shopfit.tune.training_callback import Heartbeat


def test_a_line_whenever_eight_seconds_have_passed() -> None:
    said: list[tuple[str, str]] = []
    now = 0.0
    beat = Heartbeat(lambda stage, line: said.append((stage, line)), "folds", "fold 2 of 3", clock=lambda: now)
    beat.begin(100)
    for step in range(1, 31):
        now += 1
        beat.step(step, 0.5)
    assert said == [
        ("folds", "fold 2 of 3: step 8 of 100, loss 0.500, 92 s left at most"),
        ("folds", "fold 2 of 3: step 16 of 100, loss 0.500, 84 s left at most"),
        ("folds", "fold 2 of 3: step 24 of 100, loss 0.500, 76 s left at most"),
    ]


def test_a_training_of_a_few_seconds_says_nothing() -> None:
    said: list[str] = []
    now = 0.0
    beat = Heartbeat(lambda _, line: said.append(line), "folds", "fold 1 of 3", clock=lambda: now)
    beat.begin(7)
    for step in range(1, 8):
        now += 1
        beat.step(step, 0.5)
    assert said == []


def test_of_a_training_that_goes_on_only_its_own_steps_took_time() -> None:
    said: list[str] = []
    now = 0.0
    beat = Heartbeat(lambda _, line: said.append(line), "tuning", "the adapter", clock=lambda: now)
    beat.begin(100)
    for step in range(61, 70):
        now += 1
        beat.step(step, 0.5)
    assert said == ["the adapter: step 68 of 100, loss 0.500, 32 s left at most"]
