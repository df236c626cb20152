"""A run that prints to no terminal says every few seconds that it goes on."""

import time

import pytest

from shopfit.cli.screen import Screen
from shopfit.cli.terminal import announce
from shopfit.cli.ticker import Ticker


def test_a_silent_stage_is_named_again(capsys: pytest.CaptureFixture[str]) -> None:
    screen, said = Screen(), ""
    with Ticker(screen, announce(screen), every=0.02) as ticker:
        ticker("evaluating", "adapter and base on 49 test examples")
        deadline = time.monotonic() + 60
        while said.count("evaluating  goes on") < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
            said += capsys.readouterr().out
    said += capsys.readouterr().out
    assert said.count("evaluating  goes on") >= 2
    assert "s so far" in said
    time.sleep(0.1)
    assert not capsys.readouterr().out, "nothing is said after the run"


def test_a_stage_that_speaks_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    with Ticker(screen, announce(screen), every=3600.0) as ticker:
        ticker("folds", "3 trainings")
    assert capsys.readouterr().out.strip() == "folds  3 trainings"


def test_seconds_count_from_the_stage_whatever_is_said_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    screen, now = Screen(), 0.0
    with Ticker(screen, announce(screen), every=0.02, clock=lambda: now) as ticker:
        ticker("folds", "3 trainings")
        now = 7.0
        ticker("folds", "fold 1 of 3: step 8 of 9")
        said, deadline = "", time.monotonic() + 60
        while "goes on" not in said and time.monotonic() < deadline:
            time.sleep(0.01)
            said += capsys.readouterr().out
    assert "folds  goes on, 7 s so far" in said


def test_an_error_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    with pytest.raises(ValueError, match="no"), Ticker(screen, announce(screen), every=0.02):
        raise ValueError("no")
    capsys.readouterr()
    time.sleep(0.1)
    assert not capsys.readouterr().out
