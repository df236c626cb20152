"""One file a page."""

from shopfit.serve.console.pages import entrance, fleet

PAGES = (
    entrance.router,
    fleet.router,
)
"""Routers of all of them."""
