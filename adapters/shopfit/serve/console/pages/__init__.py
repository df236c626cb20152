"""One file a page."""

from shopfit.serve.console.pages import (
    audit,
    compare,
    entrance,
    erasing,
    fleet,
    keys,
    label,
    nowhere,
    onboard,
    onboard_run,
    quotas,
    registry,
    runs,
    serving,
    try_it,
    version,
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
    keys.router,
    quotas.router,
    audit.router,  # before the pages of merchants: `-`, which is no name, stands where those do
    erasing.router,
    registry.router,
    version.router,
    nowhere.router,  # what no other is for
)
"""Routers of all of them."""
