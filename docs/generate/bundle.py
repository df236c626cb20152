"""The page of bundles, from the manifest's fields and what is said of its files."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from docs.generate.json_values import allowed
from docs.generate.markdown import code, document, sentence, table
from shopfit.adapter.bundle import FILES, MANIFEST, Manifest
from shopfit.adapter.manifest_rules import MAX_FILES

_OPENING = f"""
Here is every file of a bundle, and every field of its `{MANIFEST}`. A bundle is the folder that holds one adapter. It
never changes: its digest is the SHA-256 over the sorted digests of its files. Weights are safetensors with finite
numbers, and nothing in a bundle is unpickled or run. A bundle has {MAX_FILES:,} files and folders at most.
"""


def page() -> str:
    """The page."""
    schema = Manifest.model_json_schema(by_alias=True, mode="validation")
    parts = [
        "## Files",
        table(("file", "what it holds"), [(code(name), sentence(what)) for name, what in FILES.items()]),
    ]
    parts += [f"## {MANIFEST}", _fields(schema)]
    for name, definition in schema["$defs"].items():
        parts += [f"### {name}", sentence(definition.get("description", "").partition("\n")[0]), _fields(definition)]
    return document("Bundle", "`adapters/shopfit/adapter/bundle.py`", _OPENING, *parts)


def _fields(schema: Mapping[str, Any]) -> str:
    return table(("field", "what it is", "holds", "default"), _rows(schema))


def _rows(schema: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    links = {name: f"#{name.lower()}" for name in schema.get("$defs", {})}
    said = dict(re.findall(r"^\s*([a-z_]+): (.+)$", schema.get("description", ""), re.MULTILINE))
    for field, entry in schema["properties"].items():
        needed = field in schema.get("required", ())
        default = "**needed**" if needed else code(json.dumps(entry["default"])) if "default" in entry else "now"
        yield code(field), sentence(entry.get("description") or said.get(field, "")), allowed(entry, links), default
