"""The page of errors, from their classes."""

from collections.abc import Iterator

import shopfit.serve.server  # noqa: F401 - with it every class of errors is there
from docs.generate.markdown import code, docstring, document, sentence, table
from shopfit.cli.app import EXIT_STATUSES
from shopfit.errors import ShopfitError
from shopfit.serve.failures import names_of

_OPENING = """
Here is every error: what causes it, and what mends it. An error names the file, key or row that is wrong, the value
it saw, what is allowed, and the next step. The command line prints it on standard error and returns 2. Over HTTP it
is the body of the answer, with a status, a type and a code as in OpenAI's API.
"""
_BODY = """
## Its form

On the command line an error is one line, a line for each mistake, and a line that begins with `Next:`. With `--json`
it is printed as JSON on standard output, too. Over HTTP it is:

```json
{
  "error": {
    "message": "what is wrong, each mistake, and the next step, as text",
    "type": "invalid_request_error",
    "param": "the field that is wrong, or null",
    "code": "model_not_found",
    "problems": [{"where": "file, key or row", "what": "what is wrong with it", "allowed": "what would be accepted"}],
    "next": "what to do now"
  }
}
```

429 and 503 come with the header `retry-after`, in seconds. Others come with `x-should-retry: false`, which OpenAI's
clients heed: the same request would be refused again.
"""


def kinds() -> list[type[ShopfitError]]:
    """Every class of errors, a base before those that it is one of, else by name."""
    return list(_below(ShopfitError))


def _below(kind: type[ShopfitError]) -> Iterator[type[ShopfitError]]:
    yield kind
    for inner in sorted(kind.__subclasses__(), key=lambda one: one.__name__):
        if inner.__module__.startswith("shopfit."):
            yield from _below(inner)


def page() -> str:
    """The page."""
    found = kinds()
    rows = [(f"[{kind.__name__}](#{kind.__name__.lower()})", *_http(kind)) for kind in found]
    parts = [_BODY, "## All errors", table(("error", "HTTP", "type", "code"), rows)]
    for kind in found:
        parts += _kind(kind)
    parts += ["## Exit statuses", table(("status", "when"), [(code(s), sentence(w)) for s, w in EXIT_STATUSES.items()])]
    return document("Errors", "the classes of errors in `adapters/shopfit/`", _OPENING, *parts)


def _http(kind: type[ShopfitError]) -> tuple[str, str, str]:
    kind_of, name = names_of(kind)
    return code(kind.http_status), code(kind_of), code(name)


def _kind(kind: type[ShopfitError]) -> Iterator[str]:
    status, _, name = _http(kind)
    yield f"### {kind.__name__}"
    yield f"HTTP {status}, code {name}."
    yield f"**Cause.** {' '.join(docstring(kind).text.split())}"
    yield f"**Cure.** {sentence(kind.cure)}"
    yield table(("it also says", "what"), [(code(n), sentence(w)) for n, w in _more(kind)])


def _more(kind: type[ShopfitError]) -> Iterator[tuple[str, str]]:
    for name, what in docstring(kind).sections.get("Args", []):
        if name in kind._more:
            yield name, what
