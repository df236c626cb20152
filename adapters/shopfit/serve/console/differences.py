"""What is different in two versions of an adapter, by their manifests."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from shopfit.adapter.bundle import Manifest
from shopfit.serve.engines.pool import public_name

_LONGEST = 2_000  # characters of a value


class Metric(NamedTuple):
    """A metric in both, where there is one.

    Args:
        name: of it.
        a: in the first.
        b: in the second.
    """

    name: str
    a: float | None
    b: float | None

    @property
    def gain(self) -> float | None:
        """By how much the second is higher."""
        return None if self.a is None or self.b is None else self.b - self.a


class Rows(NamedTuple):
    """Rows of one split, by their ids.

    Args:
        split: train, valid or test.
        same: ids in both.
        added: ids in the second alone.
        removed: ids in the first alone.
    """

    split: str
    same: int
    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class Differences:
    """All of them.

    Args:
        facts: base, method and so on: name, value in the first, value in the second; equal ones too.
        recipe: keys of the recipes that differ, with both values; empty where one has no such key.
        metrics: of both.
        rows: that they learned from and were measured on.
        same_data: whether the rows' content is the same.
        libraries: whose releases differ, with both.
    """

    facts: list[tuple[str, str, str]]
    recipe: list[tuple[str, str, str]]
    metrics: list[Metric]
    rows: list[Rows]
    same_data: bool
    libraries: list[tuple[str, str, str]]


def differences(a: Manifest, b: Manifest) -> Differences:
    """Compare two manifests."""
    recipes = [dict(_flat(one.recipe_snapshot)) for one in (a, b)]
    names = sorted({*a.metrics, *b.metrics})
    return Differences(
        [(name, one, other) for (name, one), other in zip(_facts(a).items(), _facts(b).values(), strict=True)],
        _different(recipes[0], recipes[1]),
        [Metric(name, a.metrics.get(name), b.metrics.get(name)) for name in names],
        [_rows(split, getattr(a.data, split), getattr(b.data, split)) for split in ("train", "valid", "test")],
        a.data.digest == b.data.digest,
        _different(a.libraries, b.libraries),
    )


def _facts(manifest: Manifest) -> dict[str, str]:
    base = manifest.base
    return {
        "base": public_name(base.name),
        "fingerprint": base.fingerprint,
        "quantization": base.quantization,
        "method": manifest.method,
        "rank": str(manifest.rank),
        "parameters": f"{manifest.trainable_parameters:,}",
        "steps": f"{manifest.steps:,}",
        "seed": str(manifest.seed),
    }


def _flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Every value of a recipe by its key, as `tune.lr`."""
    for key, part in value.items():
        if isinstance(part, Mapping) and part:
            yield from _flat(part, f"{before}{key}.")
        else:
            if key == "base" and isinstance(part, str):
                part = public_name(part)
            text = part if isinstance(part, str) else json.dumps(part, ensure_ascii=False, default=str)
            yield f"{before}{key}", text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _different(a: Mapping[str, str], b: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return [(key, a.get(key, ""), b.get(key, "")) for key in sorted({*a, *b}) if a.get(key) != b.get(key)]


def _rows(split: str, a: list[str], b: list[str]) -> Rows:
    before, after = set(a), set(b)
    return Rows(split, len(before & after), len(after - before), len(before - after))
