"""`shopfit limit`: what merchants may ask of all servers together."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from shopfit.cli.arguments import TEXT
from shopfit.cli.terminal import actor, as_json, console, keep, only_prints, open_registry, print_json
from shopfit.errors import RegistryError

if TYPE_CHECKING:
    from shopfit.registry import Limits

_WORDS = {
    "requests_per_minute": "requests a minute",
    "concurrent": "at the same time",
    "tokens_per_day": "tokens a day",
}


@click.group()
def command() -> None:
    """Set and list limits of merchants."""


@command.command(name="set")
@click.argument("merchant", type=TEXT)
@click.option("--requests-per-minute", type=TEXT, metavar="N|none", help="Requests in a minute.")
@click.option("--concurrent", type=TEXT, metavar="N|none", help="Requests that are being answered at the same time.")
@click.option("--tokens-per-day", type=TEXT, metavar="N|none", help="Tokens read and written in a day of UTC.")
@as_json
def set_(
    merchant: str,
    requests_per_minute: str | None,
    concurrent: str | None,
    tokens_per_day: str | None,
    as_json: bool,
) -> None:
    """Set limits of MERCHANT; `none` lifts one, and what is not named stays. Servers heed them within a second."""
    from dataclasses import replace

    from shopfit.registry import Limits

    given = {
        "requests_per_minute": requests_per_minute,
        "concurrent": concurrent,
        "tokens_per_day": tokens_per_day,
    }
    named = {what: _number(what, text) for what, text in given.items() if text is not None}
    if not named:
        raise RegistryError(
            "this sets no limit", next_step="give --requests-per-minute, --concurrent or --tokens-per-day"
        )
    with open_registry() as registry:
        limits = replace(registry.limits().get(merchant, Limits()), **named)
        registry.set_limits(merchant, limits, actor=actor())
    line = f"{merchant}: {_facts(limits)}"
    keep(line)
    if as_json:
        print_json({"merchant": merchant, "limits": limits})
    else:
        console().print(line)


def _number(what: str, text: str) -> int | None:
    """A limit as users write it.

    Raises:
        RegistryError: if it is neither a whole number nor `none`.
    """
    if text.strip().lower() == "none":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise RegistryError(
            f"--{what.replace('_', '-')} is {text[:80]!a} (allowed: a whole number, 0 or more, or none)",
            next_step="correct the limit",
        )
    return int(text)


@command.command()
@click.argument("merchant", type=TEXT, required=False)
@as_json
@only_prints
def ls(merchant: str | None, as_json: bool) -> None:
    """List limits, of MERCHANT or all, and the tokens that were used today, in UTC."""
    from shopfit.registry import Limits

    with open_registry() as registry:
        limits, used = registry.limits(), registry.usage(datetime.now(UTC).date())
    names = [name for name in sorted({*limits, *used}) if merchant in {name, None}]
    found = [(name, limits.get(name, Limits()), used.get(name, 0)) for name in names]
    if as_json:
        print_json([{"merchant": name, "limits": one, "tokens_today": tokens} for name, one, tokens in found])
        return
    for name, one, tokens in found:
        console().entry(name, f"{_facts(one)}  {tokens:,} tokens today", width=24)
    if not found:
        whose = "no merchant has" if merchant is None else f"merchant {merchant!r} has no"
        what = "limits, nor used tokens today; set them with `shopfit limit set MERCHANT --requests-per-minute 600`"
        console().print(f"{whose} {what}")


def _facts(limits: "Limits") -> str:
    told = [f"{getattr(limits, what):,} {words}" for what, words in _WORDS.items() if getattr(limits, what) is not None]
    return ", ".join(told) or "no limits"
