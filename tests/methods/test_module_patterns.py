"""Patterns on modules' names mean what they mean to PEFT, and none takes long."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfit.errors import BundleError
from shopfit.methods.lora import rank_and_scale
from shopfit.methods.module_patterns import matches

MODULES = [
    *(f"model.layers.{layer}.self_attn.{name}" for layer in (0, 1, 12) for name in ("q_proj", "v_proj")),
    *("model.layers.1.mlp.up_proj", "transformer.h.3.attn.c_attn", "lm_head", "q_proj", "model.decoder", "a.", "x-y"),
]
PATTERNS = [
    *(
        "q_proj",
        "proj",
        "self_attn.q_proj",
        r"self_attn\.q_proj",
        "^q_proj",
        "q_proj$",
        "^model.layers.0.self_attn.q_proj",
    ),
    *(r"layers\.\d+\.self_attn.*", r"layers\.[0-9]+\..*_proj", ".*decoder.*", "layers.0.*q_proj", ".+", "", "x-y"),
    *(
        r"layers\.(0|1)\.self_attn\.(q|v)_proj",
        "q_proj|lm_head",
        r"(?:h|layers)\.3.*",
        ".*?up_proj",
        "^(q_proj|lm_head)$",
    ),
    *("l+m_?head", "[a-z]_proj", "[qv]_proj", r"\d?", "(|self_attn.)q_proj"),
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_finds_what_peft_finds(pattern: str) -> None:
    for module in MODULES:
        assert matches(pattern, module) == bool(re.match(rf"(.*\.)?({pattern})$", module)), module


@given(
    pattern=st.text("ab.\\d01[]-()|*+?^$_{},2", max_size=12),
    module=st.text("ab.01_-", max_size=8),
)
def test_what_is_accepted_is_a_pattern_that_finds_what_peft_finds(pattern: str, module: str) -> None:
    try:
        found = matches(pattern, module)
    except ValueError:
        return
    assert found == (re.match(rf"(.*\.)?({pattern})$", module) is not None)  # as PEFT's get_pattern_key has it


@pytest.mark.parametrize(
    "pattern",
    [
        *("([a-z_.0-9]+)+!", "(a|a)*b", "(a*)*", "((a))", "(a){9}", "a{2,}", r"\w+", r"(a)\1", "(?=a)", "(?P<x>a)"),
        *("[^a]", "[(a)]", r"\(d)", "a++", "(", ")", "[", "*", "é", "x" * 501, "(0|1)" * 40, "[b-a]"),
    ],
)
def test_a_pattern_that_is_not_read_is_refused_by_name(pattern: str) -> None:
    for key in ("rank_pattern", "alpha_pattern"):
        with pytest.raises(BundleError, match=f"x has the {key} '"):
            rank_and_scale({"r": 8, "lora_alpha": 8, key: {pattern: 4}}, MODULES[0], "x")


def test_too_many_patterns_are_refused() -> None:
    with pytest.raises(BundleError, match=r"x has 1001 of rank_pattern \(allowed: 1000\)"):
        rank_and_scale({"rank_pattern": {f"q{number}": 4 for number in range(1001)}}, MODULES[0], "x")


def test_many_stars_on_a_long_name_come_to_an_end() -> None:
    assert not matches(".*a" * 100 + "b", "a" * 5_000)
    assert matches(".*a" * 100, "a" * 5_000)
