"""One file a page."""

from shopfit.serve.console.pages import (
    compare,
    entrance,
    fleet,
    label,
    onboard,
    onboard_run,
    registry,
    runs,
    serving,
    try_it,
)

PAGES = (
    entrance.router,
    fleet.router,
    onboard.router,
    onboard_run.router,
    runs.router,
    compare.router,
    label.router,
    try_it.router,
    serving.router,
    registry.router,
)
"""Routers of all of them."""
