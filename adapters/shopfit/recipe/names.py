"""The one pattern that names of merchants and recipes follow."""

import re

SLUG = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
SLUG_RULE = "1-63 of a-z, 0-9 and '-', not starting or ending with '-'"
HOUSE = "house"
"""Whose versions starters are; no merchant may have this name."""


def is_slug(name: str) -> bool:
    """Whether `name` may name a merchant or a recipe."""
    return re.fullmatch(SLUG, name, re.ASCII) is not None
