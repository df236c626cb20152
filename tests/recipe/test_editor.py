import json
from typing import Any

from shopfit.recipe.editor import json_schema


def test_every_key_has_a_title_and_a_description() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    owners: list[tuple[str, dict[str, Any]]] = [("", schema), *schema["$defs"].items()]
    lacking = [
        f"{name}.{key}.{part}"
        for name, owner in owners
        for key, entry in owner["properties"].items()
        for part in ("title", "description")
        if not entry.get(part)
    ]
    assert lacking == []
    assert {"schema", "task", "data", "serve"} <= schema["properties"].keys()
    assert "schema_" not in json.dumps(schema)


def test_unknown_keys_are_errors_in_an_editor_too() -> None:
    schema = json_schema()
    assert all(owner["additionalProperties"] is False for owner in (schema, *schema["$defs"].values()))
    assert set(schema["required"]) == {"name", "task", "data", "prompt", "evaluate"}
    assert schema["properties"]["task"]["enum"] == ["choose", "rank", "generate", "rate"]
