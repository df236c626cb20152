"""The reference pages say what the code says, all of it, and read well."""

import ast
import re
from pathlib import Path

import click
import pytest
from docs.generate import __main__ as generate
from docs.generate import cli, errors, http, metrics, recipe
from docs.generate.json_values import allowed
from docs.generate.markdown import docstring, sentence, table

import shopfit
from shopfit.adapter.bundle import FILES, Manifest
from shopfit.recipe.schema import Recipe
from shopfit.registry.serving import FEEDBACK_KINDS, FEEDBACK_WHAT
from shopfit.serve.metrics import LABELS
from shopfit.serve.shown_store import COLUMNS, schema

PACKAGE = Path(shopfit.__file__).parent


def text_of(name: str) -> str:
    return (generate.FOLDER / name).read_text(encoding="utf-8")


def test_no_page_is_stale() -> None:
    assert generate.stale() == [], "run `make reference` and commit what it writes"


def test_every_key_of_a_recipe_is_there() -> None:
    page = text_of("recipe.md")
    keys = recipe.keys()
    assert {"name", "data.file", "tune.self_training.rounds", "serve.rules.max_price", "data.augment[].share"} <= set(
        keys
    )
    for key in keys:
        section, _, last = key.rpartition("[].")
        assert f"`{last if section else key}`" in page or re.search(rf"^#+ {re.escape(key)}$", page, re.MULTILINE), key
    for name in Recipe.model_fields:
        assert name.strip("_") in {key.split(".")[0] for key in keys}


def test_every_command_and_option_is_there() -> None:
    page = text_of("cli.md")
    for path, command, _ in cli.commands():
        assert re.search(rf"^#+ {path}$", page, re.MULTILINE), path
        assert command.help, f"{path} has no help"
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.help, f"{path} {option.name} has no help"
                assert all(name in page for name in option.opts)


def test_every_class_of_errors_is_there_with_a_cause_and_a_cure() -> None:
    bases = {
        node.name: {ast.unparse(base) for base in node.bases}
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    defined = {"ShopfitError"}
    while more := {name for name, known in bases.items() if known & defined} - defined:
        defined |= more
    kinds = errors.kinds()
    assert defined == {kind.__name__ for kind in kinds}
    page = text_of("errors.md")
    for kind in kinds:
        assert f"### {kind.__name__}" in page
        assert docstring(kind).text
        if len(kind.__mro__) > 1 and kind is not shopfit.ShopfitError:
            assert "cure" in vars(kind), f"{kind.__name__} says no cure of its own"


def test_every_endpoint_is_there_with_its_scope() -> None:
    page = text_of("http.md")
    found = http.endpoints()
    assert ("POST", "/v1/classify") in found
    assert all(f"### {method} {path}\n" in page for method, path in found)
    scopes = http.scopes(http.application())
    assert scopes["POST", "/v1/classify"] == "`infer`"
    assert scopes["PUT", "/v1/merchants/{merchant}/catalog"] == "`publish`"
    assert scopes["POST", "/v1/promote"] == "`promote`"
    assert scopes["POST", "/v1/feedback"] == "`feedback`"
    assert scopes["GET", "/health"] == "none"


def test_every_metric_is_there_and_every_label_is_explained() -> None:
    rows = metrics.rows()
    source = (PACKAGE / "serve" / "metrics.py").read_text(encoding="utf-8")
    named = set(re.findall(r'"(shopfit_[a-z_]+)"', source))
    known = {name.strip("`") for name, *_ in rows}
    assert {name if name in known else f"{name}_total" for name in named} <= known
    assert {label.strip("`") for _, _, labels, _ in rows for label in labels.split(", ")} == set(LABELS)


def test_every_exported_name_is_there() -> None:
    page = text_of("python.md")
    for name in shopfit.__all__:
        if name != "__version__":
            assert f"\n## {name}\n" in page
            assert docstring(getattr(shopfit, name)).text, name


def test_bundles_and_events_are_explained_in_full() -> None:
    page = text_of("bundle.md")
    assert all(f"`{field.alias or name}`" in page for name, field in Manifest.model_fields.items())
    assert all(f"`{name}`" in page for name in FILES)
    assert re.search(r"\| +\|", page) is None, "a field has no description"
    assert list(COLUMNS) == schema().names
    assert set(FEEDBACK_KINDS) == set(FEEDBACK_WHAT)


@pytest.mark.parametrize("name", generate.PAGES)
def test_pages_read_well(name: str) -> None:
    page = text_of(name)
    assert page.startswith("# ")
    assert "!" not in re.sub(r"`[^`]*`|<!--.*?-->", "", page)
    assert "object at 0x" not in page
    assert "/root" not in page
    assert "/home" not in page
    assert not re.findall(r"^```(?:sh|python)$", page, re.MULTILINE), "blocks of the reference are not run"


def test_schemas_become_words() -> None:
    assert allowed({"type": "integer", "minimum": 1, "maximum": 10}) == "whole number, 1 to 10"
    assert allowed({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}) == "number above 0, below 1"
    assert allowed({"anyOf": [{"type": "string"}, {"type": "null"}]}) == "text or `null`"
    assert allowed({"type": "array", "items": {"$ref": "#/x/Item"}}, {"Item": "#item"}) == "list of [Item](#item)"
    assert allowed({"enum": ["a", "b"]}) == '`"a"`, `"b"`'


def test_clauses_become_sentences_and_cells_stay_in_their_row() -> None:
    assert sentence("rows that wait") == "Rows that wait."
    assert sentence("choose, rank: how many") == "choose, rank: how many."
    assert table(("a",), [("x | y\nz",)]).splitlines()[-1] == r"| x \| y z |"
