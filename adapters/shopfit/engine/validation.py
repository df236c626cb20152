"""Validates requests and engine sizes by type, range and size, before anything of them is used.

A value that is nearly right is refused, not guessed at: `stop="abc"` could mean three letters.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from shopfit.adapter.bundle import Bundle
from shopfit.base.field_text import checked_text, is_blank
from shopfit.errors import RequestError
from shopfit.recipe.item_rules import Rules
from shopfit.recipe.suggestions import did_you_mean, shown
from shopfit.registry import Reference
from shopfit.tasks.embeddings import EmbedRequest
from shopfit.tasks.explanations import ExplainRequest
from shopfit.tasks.generate import GenerateRequest
from shopfit.tasks.rank_answers import RankRequest, RecommendRequest
from shopfit.tasks.requests import Request
from shopfit.tasks.tenant import Tenant

MOST_ITEMS = 10_000
"""Most candidates of a ranking, and most items of a history."""
_MOST_FIELDS, _MOST_STOPS, _LONGEST_ID = 256, 64, 10_000
_SIZES = ("slots", "max_rank", "memory", "disk", "rows", "queue", "batch_tokens")  # of an engine
_COUNT = "a whole number, 1 or more"
_MOST_TOKENS, _HOTTEST = 4096, 5.0  # the same limits as in a recipe's `serve` section
_MOST_LOGPROBS = 20  # as OpenAI has it


def merchant_of(adapter: Any) -> str:
    """The merchant of the adapter that a request names.

    Raises:
        UnknownReference: if it is a malformed reference.
        RequestError: if it does not name an adapter.
    """
    if isinstance(adapter, str):
        return Reference.parse(adapter).merchant
    if isinstance(adapter, Bundle):
        return adapter.manifest.merchant
    if isinstance(adapter, Tenant):
        return adapter.merchant
    raise _wrong("adapter", adapter, "a reference such as acme/review-sentiment, a Bundle, or a Tenant")


def asked(requests: Any) -> Iterable[Any]:
    """The requests of one call, as they were given.

    Raises:
        RequestError: if it is a single request, or no iterable.
    """
    if isinstance(requests, str | bytes | Mapping) or not isinstance(requests, Iterable):
        raise _wrong("requests", requests, "a list of requests")
    return requests


def merchant_asking(request: Any) -> str:
    """The merchant whose adapter a request asks. Raises as `merchant_of` does.

    Raises:
        RequestError: if it is no request.
    """
    if not isinstance(request, Request):
        raise _wrong("request", request, "a ChooseRequest, RankRequest, or another one")
    return merchant_of(request.adapter)


def check_sizes(**sizes: Any) -> None:
    """Check the sizes of an engine.

    Raises:
        RequestError: naming the first that is out of range.
    """
    for name, size in sizes.items():
        if name not in _SIZES:
            raise RequestError(
                f"an engine has no option {shown(name)}{did_you_mean(name, _SIZES)}",
                next_step=f"leave it out; it may be given {', '.join(_SIZES)}",
            )
        if not _is_whole(size) or size < 1:
            raise RequestError(
                f"{name} is {shown(size)} (allowed: {_COUNT})", next_step="make the engine with a size of that kind"
            )


def seconds_of(timeout: Any) -> float:
    """The timeout of a request in seconds; infinite for None.

    Raises:
        RequestError: if it is no number.
    """
    if timeout is None:
        return math.inf
    if not _is_number(timeout) or math.isnan(timeout):
        raise _wrong("timeout", timeout, "seconds, or None")
    return float(min(timeout, 1e9))


def check(request: Request) -> None:
    """Check a request as far as that is possible without its adapter.

    Raises:
        RequestError: naming the first value that is not allowed.
    """
    match request:
        case RankRequest():
            if request.candidates is not None:
                _check_items("candidates", request.candidates, once=True)
            if request.documents is not None:
                _check_documents(request)
            _check_count("top", request.top)
        case RecommendRequest() | ExplainRequest():
            if isinstance(request, RecommendRequest):
                _check_count("k", request.k)
            if not isinstance(request.rules, Rules | None):
                raise _wrong("rules", request.rules, "Rules, or None")
        case GenerateRequest():
            _check_generation(request)
    _check_fields(request.fields)
    if isinstance(request, EmbedRequest):
        _check_embedding(request)


def _check_fields(fields: Any) -> None:
    if not isinstance(fields, Mapping):
        raise _wrong("fields", fields, "a mapping of names to values")
    if len(fields) > _MOST_FIELDS:
        raise _wrong("fields", f"{len(fields)} names", f"{_MOST_FIELDS} at most", quote=False)
    for name in fields:
        if not isinstance(name, str):
            raise _wrong("a name in fields", name, "text")
    history = fields.get("history")
    if history is not None and not isinstance(history, str):
        _check_items("history", history, once=False)


def _check_items(name: str, items: Any, *, once: bool) -> None:
    if isinstance(items, str) or not isinstance(items, Sequence):
        raise _wrong(name, items, "a list of item ids")
    if len(items) > MOST_ITEMS:
        raise _wrong(name, f"a list of {len(items)}", f"{MOST_ITEMS} at most; `recommend` searches first", quote=False)
    for item in items:
        if not isinstance(item, str) or not item or len(item) > _LONGEST_ID:
            raise _wrong(f"an item of {name}", item, f"an id: text of 1 to {_LONGEST_ID} characters")
    if once and len(set(items)) < len(items):
        known: set[str] = set()
        twice = next(item for item in items if item in known or known.add(item))  # type: ignore[func-returns-value]
        raise _wrong(name, f"{shown(twice)} named twice", "each item once", quote=False)


def _check_documents(request: RankRequest) -> None:
    documents = request.documents
    if request.candidates is not None:
        raise _wrong("documents", "given beside candidates", "one of both", quote=False)
    if isinstance(documents, str) or not isinstance(documents, Sequence):
        raise _wrong("documents", documents, "a list of texts")
    if len(documents) > MOST_ITEMS:
        raise _wrong("documents", f"a list of {len(documents)}", f"{MOST_ITEMS} at most", quote=False)
    for place, text in enumerate(documents):
        _check_text(f"documents[{place}]", text)


def _check_embedding(request: EmbedRequest) -> None:
    if bool(request.fields) == (request.text is not None):
        given = "given beside fields" if request.fields else "missing, and so are fields"
        raise _wrong("text", given, "one of both", quote=False)
    if request.text is not None:
        _check_text("text", request.text)


def _check_text(name: str, text: Any) -> None:
    if not isinstance(text, str) or is_blank(text):
        raise _wrong(name, text, "text that shows something")
    checked_text(name, text, len(text))


def _check_count(name: str, count: Any) -> None:
    if count is not None and (not _is_whole(count) or count < 1):
        raise _wrong(name, count, _COUNT)


def _check_generation(request: GenerateRequest) -> None:
    ranges: tuple[tuple[str, Any, Callable[[Any], bool], str], ...] = (
        ("max_new_tokens", request.max_new_tokens, lambda n: _is_whole(n) and 1 <= n <= _MOST_TOKENS, _WHOLE),
        ("temperature", request.temperature, lambda n: _is_number(n) and 0 <= n <= _HOTTEST, f"0 to {_HOTTEST:g}"),
        ("top_p", request.top_p, lambda n: _is_number(n) and 0 < n <= 1, "above 0, to 1"),
        ("frequency_penalty", request.frequency_penalty, _is_penalty, "-2 to 2"),
        ("presence_penalty", request.presence_penalty, _is_penalty, "-2 to 2"),
        ("seed", request.seed, lambda n: _is_whole(n) and abs(n) < 2**63, "a whole number of 64 bits"),
        ("json_schema", request.json_schema, lambda n: isinstance(n, Mapping), "a JSON schema: an object"),
        ("logprobs", request.logprobs, lambda n: _is_whole(n) and 0 <= n <= _MOST_LOGPROBS, f"0 to {_MOST_LOGPROBS}"),
    )
    for name, value, fits, allowed in ranges:
        if value is not None and not fits(value):
            raise _wrong(name, value, allowed)
    stop = request.stop
    if stop is None:
        return
    if isinstance(stop, str) or not isinstance(stop, Sequence) or len(stop) > _MOST_STOPS:
        raise _wrong("stop", stop, f"a list of {_MOST_STOPS} texts at most")
    for text in stop:
        if not isinstance(text, str) or not text or len(text) > _LONGEST_ID:
            raise _wrong("a text of stop", text, f"1 to {_LONGEST_ID} characters")


_WHOLE = f"a whole number, 1 to {_MOST_TOKENS}"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_penalty(value: Any) -> bool:
    return _is_number(value) and -2 <= value <= 2  # as OpenAI has it


def _wrong(name: str, value: Any, allowed: str, *, quote: bool = True) -> RequestError:
    seen = shown(value) if quote else value
    return RequestError(
        f"{name} is {seen} (allowed: {allowed})", next_step="send the request with a value of that kind"
    )
