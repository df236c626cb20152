"""What commands share: who acts, what is shown, and what is only data in it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text
from tests.cli.accounts import UID, unknown_user

import shopfit
from shopfit.cli.screen import Screen
from shopfit.cli.streams import neutral, one_line
from shopfit.cli.terminal import actor, announce, print_json


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


HOSTILE = [
    "[/x] [red]all[/red] [bold",
    "[link=https://example.com]click[/link]",
    "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "\x9b31m",
    "one\nerror: two",
    "one\rtwo\x08\x08\x0b\x0c\x85\u2028\u2029",
    "abc\u202edcba\u2066\u2069\u200f",
    "\ud800 \udcff",
    "\U000e0041\U000e007f",
    ":tada: :smile:",
    "\\[x]",
    "",
]
CONTROLS = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff\U000e0000-\U000e007f]"
)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_shown_is_data(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    announce(screen)("merchant", text)
    screen.row(text, text)
    screen.entry(text, text, 8)
    screen.print(text)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[3] == one_line(text)
    assert all(CONTROLS.search(line) is None and one_line(text) in line for line in lines)


@pytest.mark.parametrize("text", HOSTILE)
def test_tables_and_texts_are_data_too(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(title=text, caption=text)
    table.add_column(text)
    table.add_row(text)
    table.add_row(Text(text))
    screen = Screen()
    screen.print(table)
    screen.print(Text(text))
    assert CONTROLS.search(capsys.readouterr().out) is None


@pytest.mark.parametrize("text", HOSTILE)
def test_json_holds_it_exactly_and_shows_no_control(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_json({text: [text], "number": float("nan"), "other": float("-inf"), "path": Path("[/x]")})
    shown = capsys.readouterr().out
    assert CONTROLS.search(shown) is None
    assert json.loads(shown) == {text: [text], "number": None, "other": None, "path": "[/x]"}


def test_ordinary_text_is_shown_as_it_is() -> None:
    for text in ("Größe 中文 नमस्ते עברית العربية", "👩‍👩‍👧 é ﬁ\tx", "a\u200cb"):
        assert neutral(text) == one_line(text) == text


def test_no_markup_is_left_in_the_package() -> None:
    markup = re.compile(r"\[/[a-z ]*\]|\[(bold|dim|red|green|cyan|yellow)[a-z ]*\]|from_markup|markup=True")
    for path in Path(shopfit.__file__).parent.rglob("*.py"):
        assert markup.search(path.read_text(encoding="utf-8")) is None, path


def test_errors_are_data_too(tmp_path: Path) -> None:
    for name in ("[/x].yaml", "\x1b[2J.yaml", "a\nb.yaml", "\u202egpj.yaml"):
        for more in ([], ["--json"]):
            command = [sys.executable, "-m", "shopfit", "recipe", "validate", str(tmp_path / name), *more]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 2
            assert CONTROLS.search(done.stdout + done.stderr) is None
            assert done.stderr.startswith(f"error: there is no recipe file {tmp_path}/{one_line(name)}\nNext: ")
            if more:
                assert name in json.loads(done.stdout)["error"]


def test_libraries_get_a_temporary_folder_where_there_is_none(tmp_path: Path) -> None:
    script = (
        "import os, sys, tempfile; tempfile._candidate_tempdir_list = lambda: [os.environ.get('TMPDIR', '/nowhere')];"
        "from shopfit.libraries import quiet; quiet(); print(tempfile.gettempdir())"
    )
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment |= {"SHOPFIT_HOME": str(tmp_path / "home"), "HOME": "/nonexistent"}
    shown = subprocess.check_output([sys.executable, "-c", script], env=environment, text=True)
    assert shown == f"{tmp_path}/home/libraries\n"
