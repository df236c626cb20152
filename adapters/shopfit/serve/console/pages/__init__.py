"""One file a page."""

from shopfit.serve.console.pages import (
    compare,
    entrance,
    fleet,
    keys,
    label,
    onboard,
    quotas,
    registry,
    runs,
    serving,
    try_it,
)

PAGES = (
    entrance.router,
    fleet.router,
    onboard.router,
    runs.router,
    compare.router,
    label.router,
    try_it.router,
    serving.router,
    keys.router,
    quotas.router,
    registry.router,
)
"""Routers of all of them."""
