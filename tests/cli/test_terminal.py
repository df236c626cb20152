"""What commands share: who acts, and what is shown."""

import os
import subprocess
import sys

import pytest
from tests.cli.accounts import UID, unknown_user

from shopfit.cli.terminal import actor


def test_who_acts_is_the_accounts_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    assert actor() == "ada"


def test_who_acts_is_a_number_where_no_account_has_it() -> None:
    command = [*unknown_user(), sys.executable, "-c", "from shopfit.cli.terminal import actor; print(actor())"]
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "PYTHONPATH"}}
    assert subprocess.check_output(command, env=environment, text=True) == f"uid:{UID}\n"


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mroot", "\udcff", "\u202etoor"])
def test_who_acts_can_be_stored_and_shown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LOGNAME", name)
    assert actor().isprintable()
