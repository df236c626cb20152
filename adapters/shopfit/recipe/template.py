"""Text with `{field}` placeholders: the form that is allowed, and taking it apart and filling it in."""

import string
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated

from pydantic import AfterValidator


def _is_template(text: str) -> str:
    try:
        found = [part[1:] for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"is not a template: {error}; a brace that is text is written twice") from None
    for name, shape, conversion in found:
        if (
            not (name or "").isidentifier() or shape or conversion
        ):  # `{x.y}` or `{x:>9999999}` would run code or fill the memory
            raise ValueError(f"holds {{{name}}} in a form that is not used: write {{field}}, a field's plain name")
    return text


def placeholders(template: str) -> list[str]:
    """Names of the `{field}` placeholders of a template, in order, each once."""
    return list(dict.fromkeys(name for _, name, _, _ in string.Formatter().parse(template) if name))


Template = Annotated[str, AfterValidator(_is_template)]


class PromptTemplate:
    """A text with `{field}` placeholders, taken apart once."""

    def __init__(self, template: str) -> None:
        self._lines = [pieces_of(line) for line in template.strip("\n").splitlines()]

    def prompt(self, shown: Mapping[str, str], mark: Callable[[str], str]) -> str:
        """The text filled in; a line whose fields are all empty is left out.

        Args:
            shown: of each field.
            mark: what is done to the template's own words.
        """
        lines = []
        for pieces in self._lines:
            names = [name for _, name in pieces if name]
            if not names or any(shown[name] for name in names):
                lines.append(filled(pieces, shown, mark))
        return "\n".join(lines).rstrip()


def pieces_of(template: str) -> list[tuple[str, str | None]]:
    """The words before each placeholder, and its name; the last one has none if words follow."""
    return [(words, name) for words, name, _, _ in string.Formatter().parse(template)]


def filled(pieces: Iterable[tuple[str, str | None]], shown: Mapping[str, str], mark: Callable[[str], str]) -> str:
    """The text of such pieces, its own words marked."""
    return "".join(mark(words) + (shown[name] if name else "") for words, name in pieces)
