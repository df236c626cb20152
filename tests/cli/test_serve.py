"""The help of `shopfit serve`: every option by what it is about, with its unit, range and default."""

import re
from dataclasses import fields

from tests.cli.conftest import Run

from shopfit.serve.options import RANGES, ServeOptions

GROUPS = ["Listening", "Time", "Each engine (there is one a base)", "Merchants without a limit of their own", "Logs"]


def test_every_option_says_its_range_and_default(run: Run) -> None:
    lines = run("serve", "--help").stdout.splitlines()
    assert [line[:-1] for line in lines if re.fullmatch(r"\S.*:", line)] == [*GROUPS, "Other"]
    told = re.split(r"\n  --", "\n".join(lines))
    options = {text.split()[0].replace("-", "_"): " ".join(text.split()) for text in told[1:]}
    known = {field.name: field.default for field in fields(ServeOptions)}
    assert options.keys() == known.keys() - {"auth", "adapters_in_metrics"} | {"no_auth"}
    for name, text in options.items():
        if isinstance(known.get(name), bool) or name == "no_auth":
            continue
        assert "default: " in text
        if name in RANGES and name != "memory":
            assert RANGES[name][2].partition(";")[0] in text


def test_a_value_out_of_range_is_told_the_range_that_the_help_says(run: Run) -> None:
    done = run("serve", "--load-timeout", "0")
    assert done.returncode == 2
    assert "--load-timeout is 0.0 (allowed: 1 to 86,400 seconds)" in done.stderr
