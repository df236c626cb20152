"""A JSON Schema of recipes, for editors that complete and check YAML."""

from typing import Any

from shopfit.recipe.schema import Recipe


def json_schema() -> dict[str, Any]:
    """The schema, in draft 2020-12, with a title and a description for every key."""
    schema = Recipe.model_json_schema(by_alias=True, mode="validation")
    definitions = schema.get("$defs", {})
    for owner in (schema, *definitions.values()):
        for key, entry in owner.get("properties", {}).items():
            entry.setdefault("title", key.replace("_", " ").capitalize())
            section = definitions.get(entry.get("$ref", "").rpartition("/")[2], {})
            entry.setdefault("description", section.get("description", ""))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "shopfit recipe"}
