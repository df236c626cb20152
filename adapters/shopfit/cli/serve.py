"""`shopfit serve`: every merchant's adapter over HTTP."""

import logging
from importlib.util import find_spec
from typing import Any

import click

from shopfit.cli.arguments import TEXT
from shopfit.errors import ShopfitError

_PACKAGES = ("fastapi", "limits", "prometheus_client", "uvicorn")


@click.command(short_help="Serve every merchant's adapter over HTTP.")
@click.option("--host", type=TEXT, default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=int, default=8000, show_default=True, help="To listen at; 0 for any free one.")
@click.option("--no-auth", is_flag=True, help="Ask for no key; at an address of this machine only.")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds that an answer may take.")
@click.option("--drain", type=float, default=10.0, show_default=True, help="Seconds for what is under way at SIGTERM.")
@click.option("--queue", type=int, default=1024, show_default=True, help="Requests under way of one engine.")
@click.option("--slots", type=int, default=32, show_default=True, help="Adapters on the device, of one engine.")
@click.option("--rows", type=int, default=32, show_default=True, help="Answers written at a time, by one engine.")
@click.option(
    "--memory", type=float, default=2.0, show_default=True, help="Gigabytes of adapters in memory, of one engine."
)
@click.option("--threads", type=int, default=0, help="Of one engine; as many as there are cores by default.")
@click.option("--encoder", type=TEXT, default="minilm-l6", show_default=True, help="That searches for recommendations.")
@click.option("--requests-per-minute", type=int, help="Of a merchant without this limit of its own; none by default.")
@click.option("--concurrent", type=int, help="Requests at a time, here, of a merchant without this limit of its own.")
@click.option("--tokens-per-day", type=int, help="Of a merchant without this limit of its own, at all gateways.")
@click.option("--platform-requests-per-minute", type=int, help="With keys of the platform; none by default.")
@click.option(
    "--limits",
    type=TEXT,
    default="memory://",
    show_default=True,
    help="Where requests a minute are counted: here, or for all gateways in redis://host:6379.",
)
@click.option("--upstream", type=TEXT, default="", help="URL of vLLM servers, which then serve decoders.")
@click.option("--shown", type=TEXT, default="", help="Folder or URL of the log of what was shown; none by default.")
@click.option("--shown-texts", is_flag=True, help="Keep texts of requests and answers in that log, too.")
@click.option("--log-texts", is_flag=True, help="Write texts of requests to the log on standard error, too.")
def command(memory: float, no_auth: bool, **options: Any) -> None:
    """Answer over HTTP with what the registry has in production, until SIGTERM or Ctrl-C.

    API docs are at /docs. Requests need a key: `shopfit key create`.
    """
    if any(find_spec(package) is None for package in _PACKAGES):
        raise ShopfitError("the packages that serve HTTP are not installed", next_step="pip install 'shopfit[serve]'")
    from shopfit.serve.options import ServeOptions
    from shopfit.serve.request_log import log_to_stderr
    from shopfit.serve.server import run
    from shopfit.settings import Settings

    chosen = ServeOptions(**options, auth=not no_auth, memory=round(memory * 1024**3))
    log_to_stderr()
    if no_auth:
        logging.getLogger("shopfit").warning("--no-auth: whoever can log in to this machine may ask everything")
    run(Settings.from_environment(), chosen)
