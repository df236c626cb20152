"""Markdown as every reference page has it: the head of a page, tables, and docstrings taken apart."""

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NOTICE = "by `make reference`"
"""What every page that is made says of itself."""

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):\s*$")


def document(title: str, source: str, opening: str, *parts: str) -> str:
    """A whole page.

    Args:
        title: its heading.
        source: file or folder of the code that it is made from.
        opening: what the reader finds here, first.
        parts: the rest, each with its own heading.
    """
    notice = f"<!-- Made from {source} {NOTICE}. Change the words there. -->"
    return (
        "\n\n".join([f"# {title}", notice, opening.strip(), *(part.strip() for part in parts if part.strip())]) + "\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; empty without rows.

    Args:
        head: of its columns.
        rows: cells in Markdown. What would end a cell is escaped.
    """
    lines = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *lines]) if lines else ""


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\|", " ".join(text.split()))


def code(text: object) -> str:
    """Inline code."""
    return f"`{text}`"


def fenced(text: str, language: str = "text") -> str:
    """A block of code that is shown, not run."""
    return f"```{language}\n{text.rstrip()}\n```"


def sentence(text: str) -> str:
    """A clause as a sentence: a capital first, a full stop last."""
    text = " ".join(text.split())
    if not text:
        return ""
    first = text if text[0] == "`" or re.match(r"[a-z]+(, [a-z]+)*: ", text) else text[0].upper() + text[1:]
    return first if first[-1] in ".?)" and not first.endswith("etc.)") else f"{first}."


@dataclass(frozen=True, slots=True)
class Docstring:
    """A docstring, taken apart.

    Args:
        text: what it says before its sections.
        sections: of each, its entries: a name and what is said of it.
    """

    text: str
    sections: dict[str, list[tuple[str, str]]]


def docstring(owner: object) -> Docstring:
    """The docstring of a class or function; an empty one without."""
    written: list[str] = []
    sections: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] | None = None
    for line in (inspect.getdoc(owner) or "").splitlines():
        if match := _SECTION.match(line):
            current = sections.setdefault(match[1], [])
        elif current is None:
            written.append(line)
        elif line.startswith("        ") and current:
            name, said = current[-1]
            current[-1] = name, f"{said} {line.strip()}"
        elif line.strip():
            name, colon, said = line.strip().partition(": ")
            current.append((name, said) if colon else ("", line.strip()))
    return Docstring("\n".join(written).strip(), sections)
