"""`shopfit limit`: what merchants may ask."""

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
_NOTHING = {
    "requests_per_minute": "lets no request through",
    "concurrent": "lets no request through",
    "tokens_per_day": "lets no answer through",
}
_KINDS = "N|unlimited|default"


@click.group()
def command() -> None:
    """Set and list limits of merchants."""


@command.command(name="set")
@click.argument("merchant", type=TEXT)
@click.option("--requests-per-minute", type=TEXT, metavar=_KINDS, help="Requests of any kind in a minute.")
@click.option("--concurrent", type=TEXT, metavar=_KINDS, help="Requests that one gateway answers at the same time.")
@click.option("--tokens-per-day", type=TEXT, metavar=_KINDS, help="Tokens read and written in a day of UTC.")
@as_json
def set_(
    merchant: str,
    requests_per_minute: str | None,
    concurrent: str | None,
    tokens_per_day: str | None,
    as_json: bool,
) -> None:
    """Set limits of MERCHANT; what is not named stays. Servers heed them within a second.

    A number is the most there may be: 0 lets nothing through, and `unlimited` everything. With `default`, a merchant
    has what the options of each gateway say (`shopfit serve --requests-per-minute`, and so on).

    Tokens are counted over all gateways. Requests a minute are, too, where gateways share a Redis (`shopfit serve
    --limits redis://…`); without, each gateway lets so many through. Requests at the same time are always those of one
    gateway: with three of them, a merchant may have three times as many under way.
    """
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
        print_json({"merchant": merchant, "limits": _document(limits)})
    else:
        console().print(line)


def _number(what: str, text: str) -> int | None:
    """A limit as users write it.

    Raises:
        RegistryError: if it is neither a whole number nor a word for one.
    """
    from shopfit.registry import UNLIMITED

    words = {"unlimited": UNLIMITED, "default": None}
    if (word := text.strip().lower()) in words:
        return words[word]
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise RegistryError(
            f"--{what.replace('_', '-')} is {text[:80]!a} (allowed: a whole number, 0 or more, and 0 lets nothing "
            "through; unlimited; or default, for what the options of gateways say)",
            next_step="correct the limit",
        )
    return int(text)


@command.command()
@click.argument("merchant", type=TEXT, required=False)
@as_json
@only_prints
def ls(merchant: str | None, as_json: bool) -> None:
    """List limits, of MERCHANT or all, and the tokens that were used today, in UTC.

    A merchant that is not listed, and a limit that is not named, are as the options of the gateways say.
    """
    from shopfit.registry import Limits

    with open_registry() as registry:
        limits, used = registry.limits(), registry.usage(datetime.now(UTC).date())
    names = [name for name in sorted({*limits, *used}) if merchant in {name, None}]
    found = [(name, limits.get(name, Limits()), used.get(name, 0)) for name in names]
    if as_json:
        documents = [{"merchant": name, "limits": _document(one), "tokens_today": count} for name, one, count in found]
        print_json(documents)
        return
    for name, one, tokens in found:
        console().entry(name, f"{_facts(one)}  {tokens:,} tokens today", width=24)
    if not found:
        whose = "no merchant has" if merchant is None else f"merchant {merchant!r} has no"
        what = "limits, nor used tokens today; set them with `shopfit limit set MERCHANT --requests-per-minute 600`"
        console().print(f"{whose} {what}")


def _facts(limits: "Limits") -> str:
    """A merchant's limits in words, and what they do."""
    from shopfit.registry import UNLIMITED

    told = []
    for what, words in _WORDS.items():
        value = getattr(limits, what)
        if value is not None:
            most = "unlimited" if value == UNLIMITED else f"{value:,}"
            told.append(f"{most} {words}" + ("" if value else f" ({_NOTHING[what]})"))
    return ", ".join(told) or "no limits of its own"


def _document(limits: "Limits") -> dict[str, int | str]:
    """The same for programs."""
    from shopfit.registry import UNLIMITED

    words = {None: "default", UNLIMITED: "unlimited"}
    return {what: words.get(value := getattr(limits, what), value) for what in _WORDS}
