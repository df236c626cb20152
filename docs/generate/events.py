"""The page of events: feedback, the log of what was shown, and the log of requests."""

import json
from collections.abc import Iterator
from typing import get_args

from docs.generate.json_values import allowed
from docs.generate.markdown import code, document, fenced, sentence, table
from shopfit.registry.serving import FEEDBACK_WHAT, FeedbackKind
from shopfit.serve.endpoints.feedback import FeedbackBody
from shopfit.serve.request_log import FIELDS
from shopfit.serve.shown_store import COLUMNS

_OPENING = """
Here is the form of every event: what clients send of answers, what the log of what was shown holds, and what the log
of requests says. An answer's id is in all three, so that they can be joined.
"""
_FEEDBACK = """
## Feedback

What came of answers. Clients send it to `POST /v1/feedback` with a key of the scope `feedback`, up to 1,000 events at
a time. All events of a request are kept, or none. An event with an id of its own, `event`, is kept once however often
it is sent.
"""
_SHOWN = """
## The log of what was shown

Parquet files, in folders named `merchant=acme/day=2027-01-31/`, days being of UTC. A gateway writes them where
`--shown` says; without that option it writes none. A row is one place of one answer.
"""
_REQUESTS = """
## The log of requests

A line of JSON each, on standard error. `time`, `level`, `logger` and `message` are in every line; of a request,
`message` is `request`, and these are there too:
"""


def page() -> str:
    """The page."""
    schema = FeedbackBody.model_json_schema()
    event = schema["$defs"]["Event"]
    parts = [
        _FEEDBACK,
        fenced(json.dumps({"events": [_EXAMPLE]}, indent=2), "json"),
        table(("field", "what it is", "allowed"), _fields(event)),
        "### Kinds",
        table(("`kind`", "what it says", "goes with"), _kinds()),
        _SHOWN,
        table(
            ("column", "what it is", "type"), [(code(n), sentence(what), kind) for n, (kind, what) in COLUMNS.items()]
        ),
        _REQUESTS,
        table(("field", "what it is"), [(code(name), sentence(what)) for name, what in FIELDS.items()]),
    ]
    return document("Events", "`adapters/shopfit/serve/` and `adapters/shopfit/registry/serving.py`", _OPENING, *parts)


_EXAMPLE = {
    "answer": "ans_97c7ea10d5222cb658164c4aa8a2ecc53a1f0c7be2d94f60a1b2c3d4",
    "kind": "click",
    "item": "tent-2",
    "event": "e-1",
}


def _fields(schema: dict[str, dict[str, dict[str, str]]]) -> Iterator[tuple[str, str, str]]:
    for field, entry in schema["properties"].items():
        needed = "; **needed**" if field in schema["required"] else ""
        said = (
            "What the shopper or reviewer did, see below."
            if field == "kind"
            else sentence(entry.get("description", ""))
        )
        yield code(field), said, allowed(entry) + needed


def _kinds() -> Iterator[tuple[str, str, str]]:
    for kind in get_args(FeedbackKind):
        what, beside = FEEDBACK_WHAT[kind]
        yield code(kind), sentence(what), code(beside)
