"""`--set key.path=value`: single values of a recipe changed from the command line."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shopfit.errors import Problem
from shopfit.recipe.plain_yaml import DEEPEST, LARGEST, KeyPath, dotted, read_text
from shopfit.recipe.suggestions import shown

_FORM = "key.path=value, such as tune.lr=1e-4"


@dataclass(frozen=True, slots=True)
class Overrides:
    """Overrides that could be read, in order, and what is wrong with the others."""

    values: tuple[tuple[KeyPath, Any], ...]
    problems: tuple[Problem, ...]

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "Overrides":
        """Read overrides: a key path, the first `=`, and a value in YAML."""
        values: list[tuple[KeyPath, Any]] = []
        problems: list[Problem] = []
        for text in texts:
            key, equals, value = text.partition("=")
            path = tuple(part.strip() for part in key.split("."))
            if not equals or not all(path) or len(path) > DEEPEST or not _is_text(key):
                problems.append(Problem("--set", f"{shown(text)} is not an override", _FORM))
                continue
            if len(value) > LARGEST:
                problems.append(Problem(f"--set {dotted(path)}", "is too large", "at most 256 KiB"))
                continue
            read = read_text(value)
            if read.problems:
                what = f"{shown(value)} {read.problems[0][2]}"
                problems.append(Problem(f"--set {dotted(path)}", what, "YAML; text with ':' or '{' in quotes"))
                continue
            values.append((path, read.document))
        return cls(tuple(values), tuple(problems))

    def apply(self, document: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """A copy of `document` with the overrides, and those that lead through something that is no section."""
        changed = copy.deepcopy(document)
        problems = []
        for path, value in self.values:
            section: Any = changed
            for depth, key in enumerate(path[:-1]):
                if section.get(key) is None:
                    section[key] = {}
                section = section[key]
                if not isinstance(section, dict):
                    above = dotted(path[: depth + 1])
                    problems.append(Problem(f"--set {dotted(path)}", f"{above} is {shown(section)}, which has no keys"))
                    break
            else:
                section[path[-1]] = value
        return changed, problems

    def sets(self, path: KeyPath) -> bool:
        """Whether the value at `path` comes from an override."""
        return any(path[: len(key)] == key for key, _ in self.values)

    def lead_through(self, path: KeyPath) -> bool:
        """Whether an override sets something below `path`."""
        return any(key[: len(path)] == path for key, _ in self.values)


def _is_text(key: str) -> bool:
    """Whether it is free of the half characters that a terminal's bytes become where they are no text."""
    return not any("\ud800" <= letter <= "\udfff" for letter in key)
