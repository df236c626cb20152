"""YAML as people expect it: plain data, `yes` and `no` are text, `1e-4` is a number, and a key may stand once.

Knows nothing of recipes. Scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema);
keys are always text. Tags, anchors and aliases are refused: a recipe or a merchant's description needs none. Nor does
it need numbers that are not finite, or have more digits than a machine's.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from shopfit.errors import Problem
from shopfit.recipe.suggestions import shown

KeyPath = tuple[str | int, ...]
LARGEST = 256 * 1024  # bytes; a recipe is a page of text
DEEPEST = 64  # keys and lists in one another

_MOST_VALUES = 20_000
_MOST_DIGITS = 40
_LONGEST_KEY = 60  # characters that a message shows

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL, _HEX = re.compile(r"0o[0-7]+"), re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True, slots=True)
class PlainYaml:
    """What a YAML text says.

    Args:
        document: dicts, lists, texts, numbers, booleans and None; None if the text cannot be read at all.
        lines: line of every key and list entry, from 1.
        problems: every mistake found, with its key path and line.
        readable: whether `document` is what the text says, but for doubled keys.
        unread: paths of values that cannot be read, and are None in `document`.
    """

    document: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[tuple[KeyPath, int, str]] = field(default_factory=list)
    readable: bool = True
    unread: set[KeyPath] = field(default_factory=set)

    def line(self, path: KeyPath) -> int:
        """The line of `path`, or of the nearest key above it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_file(path: Path) -> tuple[PlainYaml, list[Problem]]:
    """Read a YAML file of at most 256 KiB.

    Returns:
        What it says, and its mistakes with file and line.
    """
    try:
        if not path.is_file():  # a pipe or a device would never end
            return _unreadable(str(path), "is not a file")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        return _unreadable(str(path), f"cannot be read: {error.strerror}")
    if len(content) > LARGEST:
        return _unreadable(str(path), "is too large (allowed: at most 256 KiB)")
    return read_content(content, path)


def read_content(content: bytes, path: Path) -> tuple[PlainYaml, list[Problem]]:
    """Read the content of a YAML file.

    Args:
        content: at most 256 KiB.
        path: of the file, for messages.

    Returns:
        What it says, and its mistakes with file and line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return _unreadable(f"{path}:{line}", f"byte 0x{content[error.start]:02x} is not UTF-8 (allowed: UTF-8 text)")
    read = read_text(text)
    return read, [Problem(f"{path}:{line} {dotted(where)}".rstrip(), what) for where, line, what in read.problems]


def _unreadable(where: str, what: str) -> tuple[PlainYaml, list[Problem]]:
    return PlainYaml(None, readable=False), [Problem(where, what)]


def read_text(text: str) -> PlainYaml:
    """Read one YAML document; nothing is raised, mistakes are in the answer's `problems`."""
    result = PlainYaml(None)
    try:
        node = yaml.compose(text, Loader=_PlainLoader)
        document = _Builder(result).build(node, ()) if node is not None else None
    except _NotPlain as error:
        return PlainYaml(None, problems=[((), error.line, error.what)], readable=False)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return PlainYaml(None, problems=[((), line, "holds a character that YAML does not allow")], readable=False)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        return PlainYaml(None, problems=[((), line, f"is not YAML: {error.problem or error.context}")], readable=False)
    except RecursionError:
        return PlainYaml(None, problems=[((), 1, "is nested too deep")], readable=False)
    return PlainYaml(document, result.lines, result.problems, unread=result.unread)


def dotted(path: KeyPath) -> str:
    """`('tune', 'lr')` as `tune.lr`; a key that would break the line or fill it is shown as messages show values."""
    return ".".join(_short(str(key)) for key in path)


def _short(key: str) -> str:
    return key if len(key) <= _LONGEST_KEY and key.isprintable() else shown(key)


class _NotPlain(Exception):  # noqa: N818 - caught in this file
    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line
        self.what = what


class _PlainLoader(yaml.SafeLoader):
    """Composes nodes only; what a scalar means is decided by `_scalar`."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        self._values += 1
        if self._values > _MOST_VALUES:
            raise _NotPlain(line, f"holds too much (allowed: at most {_MOST_VALUES} keys and values)")
        if self._depth > DEEPEST:
            raise _NotPlain(line, f"is nested too deep (allowed: {DEEPEST} levels)")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _NotPlain(
                line, "anchors (&) and aliases (*) are not used: write the value out, or in quotes if it is text"
            )
        if getattr(event, "tag", None):
            raise _NotPlain(
                line, f"the tag {shown(event.tag)} is not used: leave it out, or write it in quotes if it is text"
            )
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Builder:
    def __init__(self, result: PlainYaml) -> None:
        self._lines = result.lines
        self._problems = result.problems
        self._unread = result.unread

    def build(self, node: Node, path: KeyPath) -> Any:
        line = node.start_mark.line + 1
        self._lines.setdefault(path, line)
        if isinstance(node, MappingNode):
            return dict(self._pairs(node, path))
        if isinstance(node, SequenceNode):
            return [self.build(entry, (*path, index)) for index, entry in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        text = self._whole(node, path)
        if node.style is not None:
            return text
        try:
            return _scalar(text)
        except _BadNumber as error:
            self._problems.append((path, line, error.what))
            self._unread.add(path)
            return None

    def _whole(self, node: ScalarNode, path: KeyPath) -> str:
        r"""The text, with `\ud83d\ude00` as the one character that JSON means by it."""
        text: str = node.value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if "\ufffd" in text and "\ufffd" not in node.value:
            line = node.start_mark.line + 1
            self._problems.append((path, line, "holds half a character (a lone surrogate such as \\ud83d)"))
        return text

    def _pairs(self, node: MappingNode, path: KeyPath) -> Iterator[tuple[str, Any]]:
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._problems.append((path, line, "a key must be text, not a list or a mapping"))
                continue
            key = self._whole(key_node, path)
            if key in first:
                self._problems.append(((*path, key), line, f"stands a second time, after line {first[key]}"))
                continue
            first[key] = line
            self._lines[(*path, key)] = line
            yield key, self.build(value_node, (*path, key))


class _BadNumber(ValueError):  # noqa: N818 - caught in this file
    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def _scalar(text: str) -> Any:
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    for pattern, base in ((_INT, 10), (_OCTAL, 8), (_HEX, 16)):
        if pattern.fullmatch(text):
            if len(text) > _MOST_DIGITS:
                raise _BadNumber(f"is a number too long to read (allowed: at most {_MOST_DIGITS} digits)")
            return int(text, base)
    if _FLOAT.fullmatch(text) or _INFINITE.fullmatch(text):
        number = float(text if _FLOAT.fullmatch(text) else text.replace(".", ""))
        if not math.isfinite(number):
            raise _BadNumber(f"{shown(text)[1:-1]} is not a finite number")
        return number
    return text
