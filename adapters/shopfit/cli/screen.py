"""The console: nothing that a merchant wrote is a style, a control or a line of its own in it."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from shopfit.cli.streams import neutral, one_line

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType


def padded(text: str, width: int, *, right: bool = False) -> str:
    """A text with spaces up to so many cells of a terminal, in which some characters take two and marks take none.

    Args:
        text: any.
        width: cells; a wider text stays as it is.
        right: whether the text is at the right.
    """
    spaces = " " * max(0, width - cell_len(text))
    return spaces + text if right else text + spaces


class Screen(Console):
    """A console without markup: a string is shown as it is, in one line; styles and several lines are a `Text`.

    Args:
        to_stderr: print to standard error.
    """

    def __init__(self, *, to_stderr: bool = False) -> None:
        super().__init__(stderr=to_stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)
        self._printed = time.monotonic()

    def print(self, *parts: Any, **options: Any) -> None:
        """Print, as rich's console does."""
        super().print(*parts, **options)
        self._printed = time.monotonic()

    def silent_for(self) -> float:
        """Seconds since something was printed."""
        return time.monotonic() - self._printed

    def row(self, name: str, value: object) -> None:
        """A name in the first column, and its value beside it."""
        self.print(Text.assemble((padded(one_line(name), 10, right=True), "cyan"), f"  {one_line(str(value))}"))

    def entry(self, name: str, facts: str, width: int) -> None:
        """A line of a list: a name in a first column of `width`, and what is known of it."""
        self.print(Text.assemble((padded(one_line(name), width), "cyan"), one_line(facts)))

    def render_str(self, text: str, **options: Any) -> "Text":
        """A string, as one line without markup."""
        return super().render_str(one_line(text), **options)

    def render(self, renderable: "RenderableType", options: "ConsoleOptions | None" = None) -> Iterable[Segment]:
        """Whatever is rendered, with its controls spelt out."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(neutral(segment.text), segment.style)
