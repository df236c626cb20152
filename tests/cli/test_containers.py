"""Every command where containers put it: no home, no account, an ASCII terminal, a full disk, a closed pipe, read-only.

| command                | no home at all | no account, ASCII | full stdout    | closed pipe | read-only home     |
| ---------------------- | -------------- | ----------------- | -------------- | ----------- | ------------------ |
| recipe                 | works          | works             | 4, and said    | silent, 0   | works              |
| base ls, base show     | 2, says what   | works             | 4, and said    | silent, 0   | works              |
| registry ls, show, …   | 2, says what   | works             | 4, and said    | silent, 0   | works, or 2        |
| registry promote, …    | 2, says what   | works             | 0, and said    | 0, and said | 2, nothing changed |
| predict, evaluate, plan| 2, says what   | works             | 4, and said    | silent, 0   | works, or 2        |
| adapter, starter fit   | 2, says what   | works             | 0, 3, and said | 0 or 3      | 2, before any work |
| curve                  | 2, says what   | works             | 4, and said    | silent, 0   | 2, before any work |
| label-next             | 2, says what   | works             | 0, and said    | 0, and said | works, or 2        |
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cli.accounts import UID, held_to_modes, unknown_user
from tests.cli.conftest import open_shop, write_rows
from tests.conftest import REAL_BASES

pytestmark = pytest.mark.proof

TIMEOUT = 600  # against hanging: the longest takes about ten seconds
LABELS = ("[bad]", "[/good] ✓")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
REFERENCE = "acme/sentiment@1"


@dataclass(frozen=True)
class Container:
    """A shop in a folder with brackets in its name, and a home in which its adapter is registered."""

    root: Path
    made: "subprocess.CompletedProcess[bytes]"

    @property
    def shop(self) -> Path:
        return self.root / "shops [/x]" / "acme"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def recipe(self) -> list[str]:
        return ["acme", str(self.shop / "sentiment.yaml"), "--data", str(self.shop), "--set", "tune.epochs=1"]

    def of(self, command: str) -> list[str]:
        """The command's arguments in full."""
        name, *more = command.split()
        match name:
            case "adapter" | "plan" | "curve" | "label-next":
                return [name, *self.recipe, *more]
            case "evaluate":
                return [name, REFERENCE, "--data", str(self.shop), *more]
        return [name, *more]


def shopfit(
    arguments: list[str], folder: Path, *, before: tuple[str, ...] | list[str] = (), **environment: str
) -> "subprocess.CompletedProcess[bytes]":
    """Run the command line with nothing in its environment but what Python and the tests need."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS") if name in os.environ}
    command = [*before, sys.executable, "-m", "shopfit", *arguments]
    return subprocess.run(
        command, cwd=folder, env=kept | environment, capture_output=True, timeout=TIMEOUT, check=False
    )


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Container:
    """Made by a user without an account and without a home, on an ASCII terminal."""
    root = tmp_path_factory.mktemp("container")
    container = Container(root, subprocess.CompletedProcess([], 0))
    folder = open_shop(container.shop, tiny_base, description="[/x] [red]Größe 中文 :tada:", labels=LABELS)
    write_rows(folder / "reviews.unlabeled.jsonl", [{"text": f"new [/y] {row}: a lovely thing"} for row in range(6)])
    for place in (root / "home", root / "work"):
        place.mkdir()
        place.chmod(0o777)
    (root / "home" / "bases").symlink_to(REAL_BASES)
    for place in (root, *root.parents[:3], *tiny_base.parents[:3], REAL_BASES):
        if place.is_relative_to(root.parents[1]) or place == REAL_BASES:
            place.chmod(place.stat().st_mode | 0o055)
    made = shopfit(
        container.of("adapter"), root / "work", before=unknown_user(), SHOPFIT_HOME=str(container.home), **ASCII
    )
    return Container(root, made)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """An empty folder that everybody may write."""
    folder = tmp_path / "work"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def test_an_unknown_user_without_a_home_makes_an_adapter_on_an_ascii_terminal(container: Container) -> None:
    made = container.made
    assert (made.returncode, made.stderr) in {(0, b""), (3, b"")}
    shown = made.stdout.decode("ascii")
    assert r"acme, [/x] [red]Gr\xf6\xdfe \u4e2d\u6587 :tada: " in shown
    assert f"({container.shop})" in shown
    assert "labels  [/good] + 12, [bad] 12\n" in shown
    assert "acme/sentiment@1, " in shown
    assert sorted(path.name for path in container.home.iterdir() if path.suffix not in {".db-wal", ".db-shm"}) == [
        "bases",
        "blobs",
        "cache",
        "libraries",
        "registry.db",
        "runs",
    ]


WORKS = [
    "recipe ls",
    "recipe validate review-sentiment",
    "recipe show review-sentiment",
    "recipe schema",
    "recipe cp review-sentiment mine.yaml",
    "base ls",
    "registry ls",
    f"registry show {REFERENCE}",
    "registry verify",
    f"registry promote {REFERENCE} --force",
    "starter ls",
    "plan",
    f"predict {REFERENCE} lovely",
    f"predict {REFERENCE} lovely --json",
    "evaluate",
    "label-next --rows 2",
    "label-next --rows 2 --json",
    "curve --shots 8 --seeds 1",
]


@pytest.mark.parametrize("command", WORKS)
def test_a_command_works_for_that_user(container: Container, work: Path, command: str) -> None:
    done = shopfit(container.of(command), work, before=unknown_user(), SHOPFIT_HOME=str(container.home), **ASCII)
    assert (done.returncode, done.stderr.decode()[-2000:]) == (0, "") or "--json" in command
    assert done.returncode == 0, done.stderr
    done.stdout.decode("ascii")
    assert not {path.name for path in work.iterdir()} - {"mine.yaml", "acme-sentiment.next.jsonl"}
    if "--json" in command:
        json.loads(done.stdout)
    if "predict" in command:
        assert b"[bad]" in done.stdout
    if "show acme" in command:
        assert f"uid:{UID}".encode() in done.stdout


NEEDS_HOME = [
    "base ls",
    "base fetch smollm2-135m",
    "registry ls",
    f"registry promote {REFERENCE}",
    "starter ls",
    f"predict {REFERENCE} lovely",
    "plan",
    "evaluate",
    "label-next",
    "curve",
    "adapter",
]


@pytest.mark.parametrize("command", NEEDS_HOME)
def test_without_any_home_the_message_names_shopfit_home(container: Container, work: Path, command: str) -> None:
    done = shopfit(container.of(command), work, before=unknown_user())
    assert done.returncode == 2
    shown = done.stderr.decode()
    assert shown.startswith("error: ~/.shopfit lies in a home that is not there: HOME is not set")
    assert "set SHOPFIT_HOME" in shown
    assert list(work.iterdir()) == []


def test_recipes_need_no_home(container: Container, work: Path) -> None:
    done = shopfit(["recipe", "ls"], work, before=unknown_user())
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "gbk", "latin-1", "utf-8"])
def test_every_encoding_is_written(container: Container, work: Path, encoding: str) -> None:
    commands = [("recipe validate review-sentiment", "✓ review-sentiment")]
    if encoding == "gbk":
        commands.append((f"predict {REFERENCE} lovely", "[/good] ✓"))
    for command, mark in commands:
        done = shopfit(container.of(command), work, SHOPFIT_HOME=str(container.home), PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, b"")
        assert (mark if encoding == "utf-8" else mark.replace("✓", "+")) in done.stdout.decode(encoding)


Writer = Callable[[list[str]], tuple[int, str]]


@pytest.fixture(params=["full", "closed pipe", "closed"])
def lost(request: pytest.FixtureRequest, container: Container, work: Path) -> tuple[str, Writer]:
    """Runs a command whose standard output is lost; returns its exit status and standard error."""

    def run(arguments: list[str]) -> tuple[int, str]:
        command = [sys.executable, "-m", "shopfit", *arguments]
        environment = os.environ | {"SHOPFIT_HOME": str(container.home)}
        if request.param == "closed":
            command = ["sh", "-c", '"$@" >&-', "sh", *command]
        reading, writing = os.pipe()
        os.close(reading)
        full = os.open("/dev/full", os.O_WRONLY)
        try:
            done = subprocess.run(
                command,
                cwd=work,
                env=environment,
                stdout=full if request.param == "full" else writing,
                stderr=subprocess.PIPE,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        finally:
            os.close(writing)
            os.close(full)
        return done.returncode, done.stderr

    return request.param, run


REASONS = {"full": "No space left on device", "closed pipe": "Broken pipe", "closed": "Bad file descriptor"}


@pytest.mark.parametrize("command", ["recipe ls", "recipe schema", "registry ls --json", f"registry show {REFERENCE}"])
def test_what_only_prints_has_failed_when_it_cannot(
    container: Container, lost: tuple[str, Writer], command: str
) -> None:
    how, run = lost
    status, shown = run(container.of(command))
    if how == "closed pipe":  # `| head`: whoever read has had enough
        assert (status, shown) == (0, "")
    else:
        assert (status, shown) == (4, f"error: standard output cannot be written: {REASONS[how]}\n")


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["shown", "json"])
def test_what_was_done_is_done_when_it_cannot_be_printed(
    container: Container, lost: tuple[str, Writer], more: list[str], work: Path
) -> None:
    how, run = lost
    status, shown = run(["registry", "promote", REFERENCE, "--alias", "canary", "--force", *more])
    assert status == 0
    assert shown == (
        f"error: standard output cannot be written: {REASONS[how]}; all the same, {REFERENCE} is now @canary\n"
    )
    status, shown = run(["recipe", "cp", "review-sentiment", "mine.yaml", *more])
    assert (status, (work / "mine.yaml").is_file()) == (0, True)
    assert "copied review-sentiment to mine.yaml" in shown


@pytest.mark.parametrize("lost", ["full", "closed pipe"], indirect=True)
def test_a_version_is_registered_though_nobody_hears_of_it(
    container: Container, lost: tuple[str, Writer], tmp_path: Path
) -> None:
    how, run = lost
    status, shown = run(container.of("adapter --json"))
    assert status in {0, 3}
    line = shown.splitlines()[-1]
    assert line.startswith(f"error: standard output cannot be written: {REASONS[how]}; all the same, acme/sentiment@")
    assert " is registered" in line


def test_a_closed_standard_error_changes_nothing(container: Container, work: Path) -> None:
    for closing in (">&- 2>&- <&-", "2>/dev/full"):
        command = ["sh", "-c", f'"$@" {closing}', "sh", sys.executable, "-m", "shopfit", "registry"]
        environment = os.environ | {"SHOPFIT_HOME": str(container.home)}
        promoted = subprocess.run(
            [*command, "promote", REFERENCE, "--alias", "canary", "--force"], env=environment, timeout=TIMEOUT
        )
        assert promoted.returncode == 0
        assert subprocess.run([*command, "show", "nothing"], env=environment, timeout=TIMEOUT).returncode == 2


@pytest.fixture(params=["used", "empty"])
def read_only(request: pytest.FixtureRequest, container: Container, tmp_path: Path) -> Path:
    """A home that nothing can be written to: with a registry in it, or without."""
    home = tmp_path / "read-only"
    if request.param == "used":
        shutil.copytree(container.home, home, symlinks=True, ignore=shutil.ignore_patterns("libraries", "curves"))
    else:
        home.mkdir()
        (home / "bases").symlink_to(REAL_BASES)
    for path in (home, *home.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)
    return home


READS = ["base ls", "registry ls", "starter ls", f"predict {REFERENCE} x", "label-next --rows 1"]
WRITES = [
    "adapter",
    "curve",
    "curve --out mine.png",
    "starter fit review-sentiment --from one --from other",
    f"registry promote {REFERENCE} --force",
]


def snapshot(home: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", READS)
def test_a_read_only_home_is_read_or_there_is_one_clear_message(
    container: Container, read_only: Path, work: Path, command: str
) -> None:
    before = snapshot(read_only)
    places = {"HOME": str(read_only), "SHOPFIT_HOME": str(read_only)}
    done = shopfit(container.of(command), work, before=held_to_modes(), **places)
    shown = done.stderr.decode()
    if done.returncode != 0:
        assert done.returncode == 2
        assert shown.startswith("error: ")
        assert str(read_only) in shown or REFERENCE in shown
        assert "Next: " in shown
    else:
        assert shown == ""
    assert snapshot(read_only) == before


@pytest.mark.parametrize("command", WRITES)
def test_what_must_write_to_a_read_only_home_is_refused_before_any_work(
    container: Container, read_only: Path, work: Path, command: str
) -> None:
    before = snapshot(read_only)
    places = {"HOME": str(read_only), "SHOPFIT_HOME": str(read_only)}
    done = shopfit(container.of(command), work, before=held_to_modes(), **places)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: ")
    assert str(read_only).encode() in done.stderr or REFERENCE.encode() in done.stderr
    assert b"Next: " in done.stderr
    assert snapshot(read_only) == before


def test_a_folder_that_cannot_be_written_is_found_before_rows_are_chosen(container: Container, work: Path) -> None:
    work.chmod(0o555)
    done = shopfit(container.of("label-next"), work, before=held_to_modes(), SHOPFIT_HOME=str(container.home))
    assert (done.returncode, done.stdout) == (2, b"")
    assert f"nothing can be written to the folder {work}: Permission denied".encode() in done.stderr
    assert b"--out" in done.stderr
