"""The page of the Python API: what `shopfit` exports."""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any

import shopfit
from docs.generate.markdown import Docstring, code, docstring, document, fenced, sentence, table

_OPENING = """
Here is everything that `import shopfit` gives, with arguments, results and errors. Names that are not on this page may
change at any time. Importing the package is cheap: torch is loaded with the first name that needs it.
"""
_LONGEST = 100  # characters of a signature in one line


def page() -> str:
    """The page."""
    names = [name for name in shopfit.__all__ if name != "__version__"]
    rows = [(f"[{name}](#{name.lower()})", sentence(_summary(docstring(getattr(shopfit, name))))) for name in names]
    parts = ["## All names", table(("name", "what it is"), [*rows, ("`__version__`", "The version of the package.")])]
    for name in names:
        parts += _name(name, getattr(shopfit, name))
    return document("Python", "the docstrings of what `shopfit` exports", _OPENING, *parts)


def _summary(said: Docstring) -> str:
    return " ".join(said.text.partition("\n\n")[0].split())


def _name(name: str, owner: Any) -> Iterator[str]:
    yield f"## {name}"
    yield from _described(name, owner)
    if not inspect.isclass(owner):
        return
    properties = []
    for member, value in _members(owner):
        if isinstance(value, property):
            properties.append((code(member), _type(value.fget), sentence(_summary(docstring(value)))))
    yield table(("property", "type", "what it is"), properties)
    for member, value in _members(owner):
        if not isinstance(value, property):
            yield f"### {name}.{member}"
            yield from _described(f"{name}.{member}", getattr(owner, member))


def _members(owner: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties of a class that are ours, in the order of the source."""
    seen = set()
    for kind in owner.__mro__:
        if not kind.__module__.startswith("shopfit."):
            continue
        for name, value in vars(kind).items():
            function = isinstance(value, property | classmethod | staticmethod) or inspect.isfunction(value)
            if function and not name.startswith("_") and name not in seen and docstring(getattr(kind, name)).text:
                seen.add(name)
                yield name, value


def _described(name: str, owner: Any) -> Iterator[str]:
    said = docstring(owner)
    signature = _signature(owner)
    if signature is not None:
        yield fenced(_lines(name, signature), "py")
    yield said.text
    for title, section in (("Arguments", "Args"), ("Attributes", "Attributes")):
        if entries := said.sections.get(section):
            yield table((title.lower(), "what it is"), [(code(entry), sentence(what)) for entry, what in entries])
    if "Returns" in said.sections:
        yield "**Returns.** " + sentence(" ".join(f"{a}: {b}" if a else b for a, b in said.sections["Returns"]))
    if "Raises" in said.sections:
        yield "**Raises.**\n\n" + "\n".join(f"- {code(a) + ': ' if a else ''}{b}" for a, b in said.sections["Raises"])


def _signature(owner: Any) -> inspect.Signature | None:
    """How it is called; None for what has too general a signature to say anything."""
    try:
        found = inspect.signature(owner)
    except (TypeError, ValueError):
        return None
    if inspect.isclass(owner) and not dataclasses.is_dataclass(owner) and "values" in found.parameters:
        return None
    shown = [
        one.replace(default=_Default()) if _is_factory(one.default) else one
        for name, one in found.parameters.items()
        if name != "self"
    ]
    return found.replace(
        parameters=shown, return_annotation=found.return_annotation if not inspect.isclass(owner) else found.empty
    )


class _Default:
    """Stands for a default that is made anew each time."""

    def __repr__(self) -> str:
        return "..."


def _is_factory(value: object) -> bool:
    return "object at 0x" in repr(value) or repr(value).startswith("<factory>")


def _lines(name: str, signature: inspect.Signature) -> str:
    whole = _plain(f"{name}{signature}")
    if len(whole) <= _LONGEST:
        return whole
    parameters, seen_star = [], False
    for one in signature.parameters.values():
        if one.kind is one.KEYWORD_ONLY and not seen_star:
            parameters.append("*")
            seen_star = True
        parameters.append(_plain(str(one)))
    returned = signature.return_annotation
    arrow = "" if returned is signature.empty else f" -> {_plain(inspect.formatannotation(returned))}"
    return "\n".join([f"{name}(", *(f"    {one}," for one in parameters), f"){arrow}"])


def _plain(text: str) -> str:
    """Annotations without the modules that their names are in."""
    return re.sub(r"(?:[A-Za-z_]+\.)+(?=[A-Z])", "", text).replace("'", '"') if "." in text else text.replace("'", '"')


def _type(function: Any) -> str:
    annotation = inspect.signature(function).return_annotation
    return code(
        _plain(annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)).replace('"', "")
    )
