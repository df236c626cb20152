"""Validates a manifest beyond the types of its fields: names, ranges, lengths and finite numbers."""

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, get_args

from shopfit.errors import Problem
from shopfit.recipe.methods import LARGEST_RANK, METHOD_RULES
from shopfit.recipe.names import SLUG_RULE, is_slug
from shopfit.recipe.schema import Dtype

if TYPE_CHECKING:
    from shopfit.adapter.bundle import Manifest

MAX_FILES = 1000
MAX_LABELS, MAX_TEXT = 10_000, 1000
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FINITE = "finite numbers"


def manifest_problems(manifest: "Manifest") -> list[Problem]:
    """All problems of a manifest; empty if it is valid."""
    return [
        *_name_problems(manifest),
        *_size_problems(manifest),
        *_number_problems(manifest),
        *label_problems(manifest.labels),
        *_file_problems(manifest.files),
    ]


def _name_problems(manifest: "Manifest") -> Iterator[Problem]:
    for key, name in (("merchant", manifest.merchant), ("recipe", manifest.recipe)):
        if not is_slug(name):
            yield Problem(key, _shown(name), SLUG_RULE)
    if manifest.method not in METHOD_RULES:
        yield Problem("method", _shown(manifest.method), ", ".join(METHOD_RULES))
    if manifest.base.dtype not in get_args(Dtype):
        yield Problem("base.dtype", _shown(manifest.base.dtype), ", ".join(get_args(Dtype)))
    if (digest := manifest.base.chat_template) and not _DIGEST.fullmatch(digest):
        yield Problem("base.chat_template", _shown(digest), "64 of 0-9 and a-f, or nothing")
    texts = {
        "base.name": manifest.base.name,
        "base.fingerprint": manifest.base.fingerprint,
        "base.quantization": manifest.base.quantization,
        "base.rounding": manifest.base.rounding,
        "encoder": manifest.encoder,
        "data.digest": manifest.data.digest,
        "start": manifest.start,
        **{f"donors.{place}": name for place, name in enumerate(manifest.donors)},
        **{f"languages.{place}": tag for place, tag in enumerate(manifest.languages)},
        **{f"libraries.{printable(name)}": version for name, version in manifest.libraries.items()},
    }
    for key, text in texts.items():
        if reason := text_problem(text, 10 * MAX_TEXT):
            yield Problem(key, f"{_shown(text)} {reason}")


def _size_problems(manifest: "Manifest") -> Iterator[Problem]:
    most = next((rules.largest for name, rules in METHOD_RULES.items() if name == manifest.method), LARGEST_RANK)
    if not 1 <= manifest.rank <= most:
        yield Problem("rank", _shown(manifest.rank), f"1 to {most}")
    for key in ("trainable_parameters", "steps", "processes"):
        if (value := getattr(manifest, key)) < 0:
            yield Problem(key, _shown(value), "0 or more")


def _number_problems(manifest: "Manifest") -> Iterator[Problem]:
    numbers: dict[str, float] = {"interpolation": manifest.interpolation}
    numbers |= {f"metrics.{printable(name)}": value for name, value in manifest.metrics.items()}
    numbers |= {f"calibration.{printable(name)}": value for name, value in manifest.calibration.items()}
    numbers |= {f"offsets.{place}": value for place, value in enumerate(manifest.offsets)}
    numbers |= {f"vector.{place}": value for place, value in enumerate(manifest.vector)}
    for one in manifest.self_training:
        numbers |= {f"self_training.{one.number}.before": one.before, f"self_training.{one.number}.after": one.after}
    for key, value in numbers.items():
        if not math.isfinite(value):
            yield Problem(key, str(value), _FINITE)
    if manifest.offsets and len(manifest.offsets) != len(manifest.labels):
        yield Problem("offsets", f"there are {len(manifest.offsets)}", f"none, or {len(manifest.labels)}, one a label")
    temperature = manifest.calibration.get("temperature", 1.0)
    if math.isfinite(temperature) and temperature <= 0:
        yield Problem("calibration.temperature", str(temperature), "above 0")


def label_problems(labels: Sequence[str]) -> Iterator[Problem]:
    """Why a manifest cannot hold these labels; none if it can."""
    if len(labels) > MAX_LABELS:
        yield Problem("labels", f"there are {len(labels)}", f"{MAX_LABELS} at most")
        return
    seen: set[str] = set()
    for place, label in enumerate(labels):
        where = f"labels.{place}"
        if not label.strip():
            yield Problem(where, f"{label!r} is blank")
        elif reason := text_problem(label, MAX_TEXT):
            yield Problem(where, f"{_shown(label)} {reason}")
        elif label in seen:
            yield Problem(where, f"{_shown(label)} is there twice")
        seen.add(label)


def _file_problems(files: Mapping[str, str]) -> Iterator[Problem]:
    if len(files) > MAX_FILES:
        yield Problem("files", f"there are {len(files)}", f"{MAX_FILES} at most")
        return
    for path, digest in files.items():
        if not inside(path):
            yield Problem("files", _shown(path), "paths inside the bundle's folder")
        elif not _DIGEST.fullmatch(digest):
            yield Problem(f"files.{path}", _shown(digest), "64 of 0-9 and a-f")


def inside(path: str) -> bool:
    """Whether `path`, `/`-separated, cannot lead outside of the folder that it is relative to."""
    parts = path.split("/")
    plain = not text_problem(path, MAX_TEXT) and "\\" not in path and not PurePosixPath(path).is_absolute()
    return plain and all(part not in {"", ".", ".."} for part in parts)


def text_problem(text: str, longest: int) -> str:
    """Why `text` cannot be shown in one line, or is longer than `longest`; empty if neither."""
    if len(text) > longest:
        return f"has {len(text)} characters (allowed: {longest} at most)"
    # controls, line and paragraph separators, and lone surrogates, which UTF-8 cannot encode
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in text):
        return "has control characters"
    return ""


def place_of(error: Mapping[str, Any]) -> str:
    """The location of a pydantic error: keys joined by dots, escaped for display."""
    return ".".join(printable(part) for part in map(str, error["loc"]))[:200]


def printable(text: str, longest: int = 100) -> str:
    """An untrusted text, cut and escaped to be shown in one line."""
    return text[:longest] if text[:longest].isprintable() else ascii(text[:longest])


def _shown(value: object) -> str:
    text = ascii(value) if isinstance(value, str) and text_problem(value, MAX_TEXT) else repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
