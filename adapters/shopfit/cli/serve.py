"""`shopfit serve`: every merchant's adapter over HTTP."""

import logging
from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from typing import Any

import click

from shopfit.cli.arguments import TEXT
from shopfit.errors import ShopfitError
from shopfit.serve.options import RANGES, ServeOptions

_PACKAGES = ("fastapi", "fastapi_offline", "limits", "multipart", "prometheus_client", "uvicorn")
_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class _Option(click.Option):
    """An option of a group.

    Args:
        group: that the help lists it under.
    """

    def __init__(self, *args: Any, group: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.group = group


class _Grouped(click.Command):
    """A command whose help lists its options by what they are about."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each group under its name, and last what every command has."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                groups.setdefault(getattr(parameter, "group", "Other"), []).append(record)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)


def _option(group: str, name: str, what: str, *, default: str = "", allowed: str = "") -> _Decorator:
    """An option, whose help says what it is, in which unit, from where to where, and what it is by default.

    Args:
        group: that the help lists it under.
        name: such as `--port`.
        what: it is, in one sentence; with its unit.
        default: in words, where the value does not say it.
        allowed: in words, where `RANGES` does not say it.
    """
    field = name.removeprefix("--").replace("-", "_")
    value = _DEFAULTS[field]
    if value is None:
        told = f"{what}  [{RANGES[field][2].partition(';')[0]}; default: {default}]"
        return click.option(name, cls=_Option, group=group, type=int, help=told)
    if value is False:
        return click.option(name, cls=_Option, group=group, is_flag=True, help=what)
    allowed = allowed or (RANGES[field][2] if field in RANGES else "")
    default = default or (f"{value:g}" if isinstance(value, float) else str(value))
    told = f"{what}  [{allowed}{'; ' if allowed else ''}default: {default}]"
    kind = TEXT if isinstance(value, str) else type(value)
    return click.option(name, cls=_Option, group=group, type=kind, default=value, help=told)


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(ServeOptions)}
_DEFAULTS |= {"no_auth": False, "memory": _DEFAULTS["memory"] / 1024**3}
_ENGINES, _LIMITED = "Each engine (there is one a base)", "Merchants without a limit of their own"
_NONE = "none"


@click.command(cls=_Grouped, short_help="Serve every merchant's adapter over HTTP.")
@_option("Listening", "--host", "Address or name to listen at; 0.0.0.0 for every address of this machine.")
@_option("Listening", "--port", "Port to listen at.")
@_option("Listening", "--no-auth", "Ask for no key; at an address of this machine only.")
@_option("Time", "--timeout", "Seconds that an answer may take, a stream until its end.")
@_option("Time", "--drain", "Seconds that answers under way have at SIGTERM.")
@_option("Time", "--load-timeout", "Seconds that an engine may take to load its base, its download included.")
@_option(_ENGINES, "--queue", "Requests under way, waiting ones included.")
@_option(_ENGINES, "--slots", "Adapters on the device at a time.")
@_option(_ENGINES, "--rows", "Answers written at a time.")
@_option(_ENGINES, "--memory", "Gigabytes (2^30 bytes) of adapters in memory.", allowed="above 0")
@_option(_ENGINES, "--threads", "Processor threads.", default="0, a thread a core")
@_option(
    _ENGINES,
    "--encoder",
    "Base that searches for recommendations, for all adapters; '' to search by words alone.",
    allowed="auto, which is the one that each adapter was made with, a packaged encoder, a Hub id, or a folder",
)
@_option(
    _ENGINES,
    "--upstream",
    "URL of vLLM servers, which then answer for decoders.",
    allowed="http:// or https://, without a path",
    default="none",
)
@_option(_LIMITED, "--requests-per-minute", "Requests in a minute.", default=_NONE)
@_option(_LIMITED, "--concurrent", "Requests at the same time, at this gateway.", default=_NONE)
@_option(_LIMITED, "--tokens-per-day", "Tokens in a day of UTC, at all gateways.", default=_NONE)
@_option(_LIMITED, "--platform-requests-per-minute", "Requests in a minute with keys of the platform.", default=_NONE)
@_option(
    _LIMITED,
    "--limits",
    "Where requests a minute are counted: here, or in a Redis that gateways share.",
    allowed="memory://, redis://host:6379, rediss://host:6379",
)
@_option("Logs", "--shown", "Folder or URL of the log of what was shown.", default="none")
@_option("Logs", "--shown-texts", "Keep texts of requests and answers in that log, too.")
@_option("Logs", "--log-texts", "Write texts of requests to the log on standard error, too.")
def command(memory: float, no_auth: bool, **options: Any) -> None:
    """Answer over HTTP with what the registry has in production, until SIGTERM or Ctrl-C.

    API docs are at /docs. Requests need a key: `shopfit key create`. Whatever an option names is looked for before
    anything is answered. Exit status: 0 ended by a signal, 2 a mistake to mend.
    """
    if any(find_spec(package) is None for package in _PACKAGES):
        raise ShopfitError("the packages that serve HTTP are not installed", next_step="pip install 'shopfit[serve]'")
    from shopfit.serve.request_log import log_to_stderr
    from shopfit.serve.server import run
    from shopfit.settings import Settings

    chosen = ServeOptions(**options, auth=not no_auth, memory=round(memory * 1024**3))
    log_to_stderr()
    if no_auth:
        logging.getLogger("shopfit").warning(
            "--no-auth: whoever can log in to this machine, or is let through by a proxy on it, may ask everything"
        )
    run(Settings.from_environment(), chosen)
