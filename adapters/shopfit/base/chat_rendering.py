"""Renders a base's chat template in a process of its own, within limits. `base/chat_template.py` runs this file.

A chat template is a program that came with a base. transformers' sandbox keeps it from what is around it, but not from
running for ever or filling the memory: so it runs where time and memory are bounded, in a process that is all that it
can end. Clocks and dice are fixed, so that a template says the same on every day. Nothing of shopfit is imported.
"""

import json
import math
import random
import resource
import sys
import time
from contextlib import suppress
from datetime import datetime
from typing import Any, NoReturn

DAY = datetime(2024, 7, 26)  # today, to templates that ask: the day that Llama's say without a clock
SECONDS = 2  # of processor time
MEMORY = 1 << 28  # bytes more than the process has when it begins to render
LONGEST = 1 << 18  # characters of a template, and of what it may write


def main() -> None:
    """Read what is asked from standard input, and write what became of it to standard output, as JSON.

    What is asked is an object: `source` of the template, its `variables`, and `conversations`, each a pair of messages
    and whether the place where the assistant speaks next shall follow. What became of each is a pair of its text and
    an error, one of which is empty.
    """
    answer, sys.stdout = sys.stdout, sys.stderr  # whatever libraries print is no answer
    from jinja2.sandbox import SandboxedEnvironment
    from transformers.utils import chat_template_utils

    SandboxedEnvironment.unsafe_undefined = _refuse  # type: ignore[assignment, method-assign]
    asked = json.load(sys.stdin)
    _limit()
    try:
        environment = chat_template_utils._compile_jinja_template(asked["source"]).environment
        environment.globals["strftime_now"] = DAY.strftime
    except Exception as error:  # of its syntax
        done = [("", _why(error))] * len(asked["conversations"])
    else:
        done = [_render(chat_template_utils, asked, *one) for one in asked["conversations"]]
    json.dump(done, answer)


def _render(library: Any, asked: dict[str, Any], messages: list[Any], add_generation_prompt: bool) -> tuple[str, str]:
    random.seed(0)  # jinja2's filter `random` draws from it
    try:
        (text,), _ = library.render_jinja_template(
            conversations=[messages],
            chat_template=asked["source"],
            add_generation_prompt=add_generation_prompt,
            **asked["variables"],
        )
    except Exception as error:
        return "", _why(error)
    if len(text) > LONGEST:
        return "", f"it writes {len(text)} characters (allowed: {LONGEST})"
    return text, ""


def _why(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"it takes more than {MEMORY >> 20} MB of memory"
    return str(error).strip() or type(error).__name__


def _refuse(_: object, __: object, attribute: object) -> NoReturn:
    """In place of jinja2's undefined value, which a template may print without anybody noticing."""
    from jinja2.exceptions import SecurityError

    raise SecurityError(f"it reaches for {str(attribute)[:100]!r}, which the sandbox keeps from it")


def _limit() -> None:
    """Bound the processor time and the memory that this process may still take."""
    import psutil

    seconds = math.ceil(time.process_time()) + SECONDS
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    room = psutil.Process().memory_info().vms + MEMORY
    with suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (room, room))


if __name__ == "__main__":
    main()
