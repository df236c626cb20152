"""`shopfit console`: the console on this machine, without keys."""

import os
import sys
import webbrowser
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from shopfit.cli.terminal import actor
from shopfit.errors import ShopfitError

if TYPE_CHECKING:
    from shopfit.settings import Settings

_SAMPLES = (
    ("trailhead", "product-recommendation"),
    ("crema", "support-intent"),
    ("foliant", "review-sentiment"),
)


@click.command(short_help="Open the console in a browser, for this machine alone.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 for any free one."
)
@click.option("--samples", is_flag=True, help="Give an empty registry some sample merchants to look at.")
@click.option("--open/--no-open", "opens", default=True, help="Open a browser, or only print the address.")
def command(port: int, samples: bool, opens: bool) -> None:
    """Serve at 127.0.0.1 without keys, and open /console in a browser, until Ctrl-C.

    Whoever can log in to this machine may do everything there. With keys, and from elsewhere, `shopfit serve` has the
    same console at /console.
    """
    if any(find_spec(package) is None for package in ("fastapi", "uvicorn", "multipart")):
        raise ShopfitError("the packages that serve HTTP are not installed", next_step="pip install 'shopfit[serve]'")
    from shopfit.serve.options import ServeOptions
    from shopfit.serve.request_log import log_to_stderr
    from shopfit.serve.server import run
    from shopfit.settings import Settings

    settings = Settings.from_environment()
    if samples:
        _queue_samples(settings)
    log_to_stderr()

    def listening(address: str) -> None:
        click.echo(f"the console is at {address}/console", err=True)
        if opens and (sys.platform != "linux" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ):
            webbrowser.open(f"{address}/console")

    run(settings, ServeOptions(port=port, auth=False), listening)


def _queue_samples(settings: "Settings") -> None:
    """Queue the instant versions of sample merchants, if there is nothing in the registry and nothing was asked for."""
    from shopfit.registry import Registry
    from shopfit.runs import all_runs, create_run, enqueue

    with Registry.open(settings) as registry:
        if registry.versions() or all_runs(settings.home):
            return
    for merchant, recipe in _SAMPLES:
        run = create_run(settings.home, "adapter", merchant, recipe, ["--instant"], actor=actor())
        enqueue(settings.home, run, by=actor())
