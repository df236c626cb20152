"""Standard streams that never fail: what they cannot encode is written in ASCII, and what has no reader is dropped."""

import codecs
import errno
import io
import os
import re
import select
import sys
from typing import Any

_LEGIBLE = "shopfit.legible"
_ASCII = {"✓": "+", "✗": "x", "★": "*", "…": "...", "±": "+/-", "→": "->", "↑": "^", "↓": "v"}

# C0 but tab and newline, DEL, C1; what turns the direction of writing; other ends of lines; halves of characters; tags
CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def neutral(text: str) -> str:
    r"""The text with its controls spelt out, such as `\x1b`: none moves a cursor or turns what is around it."""
    return CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str) -> str:
    r"""The same, and ends of lines are `\n`: nothing in it looks like a line of ours."""
    return neutral(text).replace("\n", "\\n")


def write(text: str, *, err: bool = False) -> None:
    """Write a line to standard output, or to standard error."""
    stream = sys.stderr if err else sys.stdout
    if stream is not None:
        stream.write(f"{text}\n")
        stream.flush()


def holds(text: str) -> bool:
    """Whether standard output's encoding has every character of the text."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


class Descriptor(io.RawIOBase):
    """A file descriptor that takes everything.

    Args:
        number: of the descriptor.
        error: why nothing can be written to it; None as long as everything can.
    """

    def __init__(self, number: int, error: OSError | None = None) -> None:
        super().__init__()
        self.number, self.error = number, error

    def fileno(self) -> int:
        """Its number."""
        return self.number

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self.number)

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Write, or drop it once something could not be written."""
        while self.error is None:
            try:
                return os.write(self.number, data)
            except BlockingIOError:  # another process that shares it made it non-blocking
                select.select([], [self.number], [])
            except OSError as error:
                self.error = error
        return len(data)


def open_streams() -> None:
    """Let nothing that is printed fail: neither by its characters nor because a disk is full or a pipe is closed."""
    codecs.register_error(_LEGIBLE, _legible)
    closed = [number for number in range(3) if not _is_open(number)]
    for _ in closed:  # each takes the lowest number that is free; else the next file, a database perhaps, would
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = _stream(sys.stdout, 1, closed)
    sys.stderr = _stream(sys.stderr, 2, closed)


def failure() -> OSError | None:
    """Why standard output could not be written, or None."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, Descriptor):
        return None
    sys.stdout.flush()
    return raw.error


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _stream(stream: Any, number: int, closed: list[int]) -> Any:
    if stream is None or number in closed:
        raw = Descriptor(number, OSError(errno.EBADF, os.strerror(errno.EBADF)))
        return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", _LEGIBLE)
    try:
        own = stream.fileno() == number
    except (OSError, AttributeError):
        own = False
    if own:
        raw = Descriptor(number)
        return io.TextIOWrapper(
            io.BufferedWriter(raw), stream.encoding, _LEGIBLE, line_buffering=number == 2 or raw.isatty()
        )
    if hasattr(stream, "reconfigure"):  # a caller replaced it
        stream.reconfigure(errors=_LEGIBLE)
    return stream


def _legible(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: our own symbols have ASCII replacements, all else is escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_ASCII.get(character) or ascii(character)[1:-1] for character in lost), error.end
