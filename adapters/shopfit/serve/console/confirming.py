"""Pages that ask before something is done: what will change, in words, and a button."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from starlette.responses import Response

from shopfit.serve.console.routes import Visit


class Change(NamedTuple):
    """One value, before and after.

    Args:
        name: of it.
        before: what it is now.
        after: what it will be.
    """

    name: str
    before: str
    after: str


def confirm(
    visit: Visit,
    title: str,
    *,
    action: str,
    button: str,
    back: str,
    lines: Sequence[str] = (),
    changes: Sequence[Change] = (),
    warning: str = "",
    hidden: Mapping[str, str] | None = None,
    danger: bool = False,
) -> Response:
    """The page; a part for the dialog, if htmx asks.

    Args:
        visit: of whoever is asked.
        title: what is to be done.
        action: where the form is sent.
        button: what the button says.
        back: where Cancel leads.
        lines: what will change, in sentences.
        changes: the same as values.
        warning: what to think of before.
        hidden: values of the form.
        danger: whether it cannot be undone.
    """
    asked = {"action": action, "button": button, "back": back, "lines": lines, "changes": changes}
    more = {"warning": warning, "hidden": hidden or {}, "danger": danger}
    return visit.page("confirm.html", part="hx-request" in visit.request.headers, title=title, **asked, **more)
