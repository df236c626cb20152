"""Whatever is typed, there is an answer or one clear message, and never a traceback."""

import contextlib
import io
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.cli.conftest import Run, open_shop, write_rows
from tests.conftest import REAL_BASES

from shopfit.cli import main
from shopfit.merchant.merchant import Merchant

CASES = int(os.environ.get("SHOPFIT_FUZZ_CASES", "60"))  # `make soak` asks for more
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]")

NASTY = [
    "",
    " ",
    "-",
    "--",
    "-1",
    "0",
    "nan",
    "inf",
    "1e999",
    "0xfff",
    "9" * 5000,
    "1,2,,3",
    "a,b",
    "..",
    "/",
    "~",
    "~nobody-of-that-name/x",
    "../../etc/passwd",
    "a" * 5000,
    "a/b/c@1",
    "acme/sentiment@0",
    "acme/sentiment@99999999999999999999",
    "house/x@production",
    "[/x] [red]",
    "\x1b[2J\x9b31m",
    "\u202etoor",
    "a\nb\rc\td",
    "\udcff\udcfe",
    "é中文👩‍👩‍👧",
    "{",
    "{}",
    "[]",
    '{"text": NaN}',
    '{"text": Infinity}',
    '{"text": "a", "text": "b"}',
    '{"text": "\\ud800"}',
    '{"text": null}',
    '{"text": {"a": [1]}}',
    '{"text": ' + "[" * 5000,
    '{"text": ' + "9" * 5000 + "}",
    '{"history": 7}',
    '{"candidates": []}',
    "=",
    "=1",
    "text=",
    "text=a",
    "tune.epochs=nan",
    "tune.lr=-1",
    "tune.lr=1e-400",
    "prompt.template=",
    "prompt.labels={",
    "data.file=/dev/zero",
    "data.file=../../x",
    "base=nowhere",
    "name=[/x]",
    "x" * 300 + ".yaml",
    "/dev/null",
    "/dev/full",
    "/proc/self/mem",
]

argument = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.integers(-(10**30), 10**30).map(str),
    st.floats().map(str),
)
overrides = argument.map(lambda value: ["--set", value])
recipe = st.one_of(st.just("RECIPE"), argument)
reference = st.one_of(st.just("acme/sentiment@1"), argument)
# what trains is only given what it must refuse
bad_shots = st.sampled_from(["", "a,b", "-1", "nan", "1e3", "1,,2", "٣", "9" * 5000, "1_000", "0x1"])
bad_number = st.sampled_from(["", "a", "-1", "0", "nan", "1e3", "9" * 30, "9" * 5000, "1.5", "0x1"])


def options(*named: tuple[str, st.SearchStrategy[str]]) -> st.SearchStrategy[list[str]]:
    """Some of the options with a value each, in any order."""
    chosen = st.sampled_from(named).flatmap(lambda pair: pair[1].map(lambda value: [pair[0], value]))
    return st.lists(chosen, max_size=3).map(lambda pairs: [part for pair in pairs for part in pair])


def line(*parts: "str | st.SearchStrategy[str] | st.SearchStrategy[list[str]]") -> st.SearchStrategy[list[str]]:
    """A command line of fixed and drawn parts."""
    drawn = [st.just([part]) if isinstance(part, str) else part for part in parts]
    return st.tuples(*drawn).map(
        lambda found: [one for part in found for one in ([part] if isinstance(part, str) else part)]
    )


SHOP = ["--data", "SHOP"]
cheap = st.one_of(
    line(argument),
    line(argument, argument),
    line("recipe", argument, argument),
    line("recipe", "show", recipe, overrides),
    line("recipe", "validate", recipe, overrides),
    line("recipe", "cp", argument, "TARGET"),
    line("recipe", "cp", "review-sentiment", argument.map(lambda value: f"TARGET{value.replace('/', '')}"[:400])),
    line("base", "show", argument),
    line("registry", argument, argument),
    line("registry", "ls", argument, argument),
    line("registry", "show", argument),
    line("registry", "verify", argument),
    line("registry", "promote", argument, "--alias", argument),
    line("registry", "promote", "acme/sentiment@1", "--alias", argument),
    line("registry", "rollback", argument),
    line("registry", "rm", argument),
    line("starter", "ls", "--donor", argument),
    line("starter", "fit", recipe, "--from", argument, "--from", argument),
    line("adapter", argument, "RECIPE", "--data", argument),
    line("adapter", "acme", "RECIPE", *SHOP, "--search", bad_number),
    line("curve", "acme", "RECIPE", *SHOP, "--shots", bad_shots),
    line("curve", "acme", "RECIPE", *SHOP, "--seeds", bad_number),
    line("label-next", "acme", "RECIPE", *SHOP, "--rows", bad_number),
    line("plan", "acme", argument, "--data", argument, overrides),
    line("evaluate", argument, "--data", argument),
    line("predict", argument, argument, options(("--query", argument), ("--history", argument))),
)
requests = line(
    "predict",
    "acme/sentiment@1",
    st.one_of(st.just([]), argument.map(lambda value: [value])),
    options(
        ("--query", argument),
        ("--history", argument),
        ("--field", argument),
        ("--candidate", argument),
        ("--top", argument),
    ),
)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> dict[str, str]:
    """A shop, its recipe, and a home in which acme/sentiment@1 is registered."""
    from shopfit.onboarding import onboard
    from shopfit.recipe.loading import load_recipe
    from shopfit.settings import Settings

    root = tmp_path_factory.mktemp("arguments")
    folder = open_shop(root / "acme", tiny_base)
    write_rows(folder / "reviews.unlabeled.jsonl", [{"text": "a lovely thing"}])
    home = root / "home"
    home.mkdir()
    (home / "bases").symlink_to(REAL_BASES)
    (root / "work").mkdir()
    found = Settings(home=home, registry=f"sqlite:///{home}/registry.db", blobs=str(home / "blobs"))
    made = onboard(
        Merchant.open(folder),
        load_recipe(str(folder / "sentiment.yaml"), overrides=["tune.epochs=1"]),
        settings=found,
        actor="me",
    )
    assert made is not None
    return {
        "HOME": str(home),
        "WORK": str(root / "work"),
        "SHOP": str(folder),
        "RECIPE": str(folder / "sentiment.yaml"),
        "TARGET": str(root / "work" / "mine.yaml"),
    }


def invoke(arguments: list[str], places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    """Run the command line in this process. Returns its exit status, output and errors."""
    full = [places.get(part, part) for part in arguments]
    full = [part.replace("TARGET", places["TARGET"]) for part in full]
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with monkeypatch.context() as patched:
        patched.setenv("SHOPFIT_HOME", places["HOME"])
        patched.chdir(places["WORK"])
        patched.setattr(sys, "argv", ["shopfit", *full])
        try:
            with (
                contextlib.redirect_stdout(streams[0]),
                contextlib.redirect_stderr(streams[1]),
                pytest.raises(SystemExit) as ended,
            ):
                main()
        finally:
            for number, handler in signals.items():
                signal.signal(number, handler)
    shown = []
    for stream in streams:
        stream.flush()
        assert isinstance(stream.buffer, io.BytesIO)
        shown.append(stream.buffer.getvalue().decode())
    assert isinstance(ended.value.code, int)
    return ended.value.code, shown[0], shown[1]


def check(arguments: list[str], places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    status, shown, errors = invoke(arguments, places, monkeypatch)
    assert status in {0, 2, 3}, arguments
    assert CONTROLS.search(shown + errors) is None
    if status == 2:
        assert errors.startswith(("error: ", "Usage: ")), (arguments, errors)
    else:
        assert errors == "", arguments


fuzzed = settings(max_examples=CASES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@fuzzed
@given(arguments=cheap, as_json=st.booleans())
def test_any_arguments_are_answered_or_refused(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], as_json: bool
) -> None:
    check([*arguments, "--json"] if as_json else arguments, places, monkeypatch)


@fuzzed
@given(arguments=requests, as_json=st.booleans())
def test_any_request_is_answered_or_refused(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], as_json: bool
) -> None:
    check([*arguments, "--json"] if as_json else arguments, places, monkeypatch)


@pytest.mark.parametrize("value", NASTY)
def test_every_nasty_value_as_a_request(places: dict[str, str], monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    check(["predict", "acme/sentiment@1", value], places, monkeypatch)
    check(["recipe", "validate", value], places, monkeypatch)
    check(["plan", "acme", places["RECIPE"], "--data", value], places, monkeypatch)
    check(["evaluate", "acme/sentiment@1", "--data", value], places, monkeypatch)


REFUSED = [
    (["predict", "acme/sentiment@1", '{"text": NaN}'], "NaN is no number in JSON"),
    (["predict", "acme/sentiment@1", '{"text": "a", "text": "b"}'], "'text' stands there twice"),
    (["predict", "acme/sentiment@1", '{"text": "\\ud800"}'], "half of a character"),
    (["predict", "acme/sentiment@1", '{"text": ' + "[" * 100_000], "nested too deeply"),
    (["predict", "acme/sentiment@1", "a", "--field", "text=b"], "text is given more than once"),
    (["predict", "acme/sentiment@1", "a", "--top", "3"], "--candidate and --top are for ranking"),
    (["predict", "acme/sentiment@1", "a", "--candidate", "x"], "--candidate and --top are for ranking"),
    (["predict", "acme/sentiment@1", "a", "--top", "-1"], "-1 is not in the range"),
    (["predict", "acme/sentiment@1", "a", "--top", "9" * 30], "is not in the range"),
    (["predict", "acme/sentiment@1", "\udcff"], r"'\udcff' is not text in UTF-8"),
    (["plan", "acme", "RECIPE", "--data", ""], "names nothing"),
    (["adapter", "acme", "RECIPE", "--data", "SHOP", "--search", "0"], "0 is not in the range"),
    (["label-next", "acme", "RECIPE", "--data", "SHOP", "--rows", "0"], "0 is not in the range"),
    (["label-next", "acme", "RECIPE", "--data", "SHOP", "--out", ""], "names nothing"),
    (["curve", "acme", "RECIPE", "--data", "SHOP", "--seeds", "0"], "0 is not in the range"),
    (["curve", "acme", "RECIPE", "--data", "SHOP", "--shots", "a,b"], "no list of whole numbers"),
    (["recipe", "show", "~nobody-of-that-name/x.yaml"], "there is no such user"),
    (["recipe", "show", "./" + "x" * 300 + ".yaml"], "File name too long"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_is_refused_says_why(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    status, shown, errors = invoke(arguments, places, monkeypatch)
    assert (status, shown) == (2, "")
    assert said in errors


def test_bytes_that_the_locale_cannot_read_are_utf_8(run: Run) -> None:
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run("recipe", "show", "review-sentiment", "--set", "description=Größe 中文", "--json", **ascii_locale)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["description"] == "Größe 中文"
    done = run("recipe", "show", "review-sentiment", "--set", b"description=\xff".decode(errors="surrogateescape"))
    assert done.returncode == 2
    assert r"'description=\udcff' is not text in UTF-8" in done.stderr
