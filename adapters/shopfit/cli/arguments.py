"""Kinds of arguments: text in UTF-8, and places, which are never empty."""

import os
from typing import Any

import click


class Text(click.ParamType):  # type: ignore[type-arg]
    """Text, whatever the locale took its bytes for."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text; bytes that the locale could not read are read as UTF-8."""
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            try:
                return os.fsencode(text).decode()
            except UnicodeError:
                self.fail(f"{text!a} is not text in UTF-8.", param, ctx)
        return text


class Place(click.ParamType):  # type: ignore[type-arg]
    """A file, a folder, or the name of one that is shipped."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The path as it was given."""
        if not (place := str(value)).strip():
            self.fail(f"{place!r} names nothing.", param, ctx)
        return place


TEXT, PLACE = Text(), Place()
