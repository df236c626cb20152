"""The page of recipe keys, from the JSON Schema of recipes."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from docs.generate.json_values import Schema, allowed
from docs.generate.markdown import code, document, sentence, table
from shopfit.recipe.editor import json_schema
from shopfit.recipe.methods import METHOD_RULES
from shopfit.recipe.shipped import shipped_recipes
from shopfit.recipe.tasks import TASKS

_OPENING = """
Here is every key of a recipe: what it allows, its default, and what it does. A recipe is one YAML file. An unknown
key is an error that names the nearest known one.

- `--set data.shots=8` overrides a key on the command line. A dot leads into a section.
- `shopfit recipe show NAME` prints a recipe with every default filled in.
- `shopfit recipe schema` prints all of this as JSON Schema, for editors.
"""
_NEEDED = "**needed**"


def page() -> str:
    """The page."""
    schema = json_schema()
    definitions = schema["$defs"]
    sections = {key: _target(entry, definitions) for key, entry in schema["properties"].items() if "$ref" in entry}
    top = {key: entry for key, entry in schema["properties"].items() if key not in sections}
    parts = ["## Top level", _keys("", top, schema["required"])]
    for name, section in sections.items():
        parts += _section(name, section, definitions)
    parts += [*_tasks(), *_methods(), *_shipped()]
    return document("Recipe keys", "`adapters/shopfit/recipe/`", _OPENING, *parts)


def keys() -> list[str]:
    """Every key of a recipe, with the sections that lead to it: `data.file`, or `data.augment[].share` of a step."""
    schema = json_schema()
    return list(_walk("", schema, schema["$defs"]))


def _walk(prefix: str, schema: Schema, definitions: Mapping[str, Any]) -> Iterator[str]:
    for key, entry in schema.get("properties", {}).items():
        yield prefix + key
        if "$ref" in entry:
            yield from _walk(f"{prefix}{key}.", _target(entry, definitions), definitions)
        for step in _steps(entry, definitions).values():
            yield from _walk(f"{prefix}{key}[].", step, definitions)


def _target(entry: Schema, definitions: Mapping[str, Any]) -> Schema:
    target: Schema = definitions[entry["$ref"].rpartition("/")[2]]
    return target


def _steps(entry: Schema, definitions: Mapping[str, Any]) -> dict[str, Schema]:
    """The kinds of objects that a list holds, by name."""
    mapping = entry.get("items", {}).get("discriminator", {}).get("mapping", {})
    return {name: _target({"$ref": address}, definitions) for name, address in mapping.items()}


def _section(path: str, section: Schema, definitions: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'#' * (2 + path.count('.'))} {path}"
    yield sentence(section.get("description", ""))
    entries = section["properties"]
    yield _keys(f"{path}.", {k: v for k, v in entries.items() if "$ref" not in v}, section.get("required", ()))
    for key, entry in entries.items():
        if "$ref" in entry:
            yield from _section(f"{path}.{key}", _target(entry, definitions), definitions)
        if steps := _steps(entry, definitions):
            yield f"### Steps of {path}.{key}"
            yield "`step` says which one it is; the other keys belong to it. Several steps follow one another."
            for name, step in steps.items():
                yield f"#### {name}"
                yield sentence(step["properties"]["step"]["description"])
                others = {k: v for k, v in step["properties"].items() if k != "step"}
                yield _keys("", others, step.get("required", ()))


def _keys(prefix: str, entries: Mapping[str, Any], needed: Collection[str]) -> str:
    rows = [
        (
            code(prefix + key),
            sentence(entry.get("description", "")),
            _values(entry),
            _NEEDED if key in needed else _default(entry),
        )
        for key, entry in entries.items()
    ]
    return table(("key", "what it does", "allowed", "default"), rows)


def _values(entry: Schema) -> str:
    if entry.get("items", {}).get("discriminator"):
        return "list of steps, see below"
    return allowed(entry)


def _default(entry: Schema) -> str:
    if entry.get("default") is None:
        return "none"
    return code(json.dumps(entry["default"], ensure_ascii=False))


def _tasks() -> Iterator[str]:
    yield "## Tasks"
    yield "What `task` may be, with the metrics and baselines that each may name. The first metric is the usual one."
    rows = [
        (
            code(name),
            sentence(f"it {spec.does}"),
            ", ".join(
                code(metric.name) + (" (lower is better)" if metric.lower_is_better else "") for metric in spec.metrics
            ),
            ", ".join(map(code, spec.baselines)),
            ", ".join(map(code, spec.own_keys)),
        )
        for name, spec in TASKS.items()
    ]
    yield table(("task", "what it does", "`evaluate.metric`", "`evaluate.baselines`", "keys of this task alone"), rows)


def _methods() -> Iterator[str]:
    yield "## Methods"
    yield "What `adapter.method` may be. What a method does not work with is refused with the nearest thing that works."
    rows = [
        (
            code(name),
            f"{rules.title} (arXiv:{rules.paper})",
            code(f"{rules.learning_rate:g}"),
            code(f"adapter.{rules.size_key}"),
            "; ".join(f"{limit.what} {_scope(limit.quantizations, limit.kinds)}: {limit.why}" for limit in rules.limits)
            or "works with everything",
        )
        for name, rules in METHOD_RULES.items()
    ]
    yield table(("method", "what it is", "default of `tune.lr`", "key of its size", "what does not work"), rows)


def _scope(quantizations: Collection[str], kinds: Collection[str]) -> str:
    if len(kinds) < 3:
        return f"on a base that is an {' or '.join(kinds)}"
    return f"with `quantization: {' or '.join(quantizations)}`"


def _shipped() -> Iterator[str]:
    yield "## Shipped recipes"
    yield "`shopfit recipe cp NAME FILE` copies one, comments included. The files are in the folder `recipes`."
    rows = [
        (f"[{entry.name}](../../recipes/{entry.path.name})", code(entry.task), sentence(entry.description))
        for entry in shipped_recipes()
    ]
    yield table(("recipe", "task", "what it does"), rows)
