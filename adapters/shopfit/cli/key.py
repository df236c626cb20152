"""`shopfit key`: the keys that clients of the HTTP API send."""

from typing import TYPE_CHECKING, Any

import click

from shopfit.cli.arguments import TEXT
from shopfit.cli.terminal import actor, as_json, console, keep, only_prints, open_registry, print_json
from shopfit.documents import document
from shopfit.errors import RegistryError

if TYPE_CHECKING:
    from datetime import datetime

    from shopfit.registry import Key, Registry

_ONCE = "This is shown once: only its SHA-256 is kept. Whoever has it can use it."


@click.group()
def command() -> None:
    """Make, list and revoke API keys."""


@command.command()
@click.argument("merchant", type=TEXT, required=False)
@click.option("--platform", is_flag=True, help="Make a key of the platform, which reaches every merchant.")
@click.option(
    "--scope",
    "scopes",
    type=TEXT,
    multiple=True,
    required=True,
    help="What it may do: infer, feedback, publish, promote, or admin, which includes the others. Repeatable.",
)
@click.option(
    "--expires", type=TEXT, metavar="WHEN", help="When it ends: 12h, 90d, 6w, or a day or time in UTC: 2027-01-31."
)
@click.option("--name", type=TEXT, default="", help="A name for humans.")
@click.option("--new", is_flag=True, help="Allow a merchant of which the registry has nothing yet.")
@as_json
def create(
    merchant: str | None,
    platform: bool,
    scopes: tuple[str, ...],
    expires: str | None,
    name: str,
    new: bool,
    as_json: bool,
) -> None:
    """Make a key of MERCHANT, or of the platform, and show it once."""
    from shopfit.registry.grant import read_expiry

    if platform == (merchant is not None):
        raise RegistryError(
            f"a key is one merchant's or the platform's, and this names {'both' if platform else 'neither'}",
            next_step="name the merchant, or give --platform",
        )
    ends = None if expires is None else read_expiry(expires)
    with open_registry() as registry:
        issued = registry.create_key(merchant, scopes, expires=ends, name=name, new=new, actor=actor())
    key = issued.key
    keep(f"key {key.id} is made; if you did not see it, run `shopfit key revoke {key.id}` and make another")
    if as_json:
        print_json({"key": _document(key), "token": issued.token, "note": _ONCE})
        return
    screen = console()
    screen.row("id", key.id)
    screen.row("of", _owner(key))
    screen.row("may", ", ".join(key.scopes))
    screen.row("expires", _moment(key.expires, "never"))
    screen.row("key", issued.token)
    screen.print(_ONCE)


@command.command()
@click.argument("merchant", type=TEXT, required=False)
@as_json
@only_prints
def ls(merchant: str | None, as_json: bool) -> None:
    """List keys, of MERCHANT or all: what they may do and until when. What clients send is not kept."""
    with open_registry() as registry:
        keys = registry.keys(merchant)
        nothing = "" if keys or as_json else _no_keys(registry, merchant)
    if as_json:
        print_json([_document(key) for key in keys])
        return
    for key in keys:
        _tell(key)
    if nothing:
        console().print(nothing)


def _no_keys(registry: "Registry", merchant: str | None) -> str:
    """Why a list is empty."""
    from shopfit.recipe.suggestions import did_you_mean

    if merchant is None:
        return "no keys yet; make one with `shopfit key create MERCHANT --scope infer`"
    keys, versions = registry.keys(), registry.versions()
    known = sorted({key.merchant for key in keys if key.merchant} | {version.merchant for version in versions})
    return f"merchant {merchant!r} has no keys{'' if merchant in known else did_you_mean(merchant, known)}"


@command.command()
@click.argument("key", type=TEXT, metavar="ID")
@as_json
def revoke(key: str, as_json: bool) -> None:
    """Revoke a key for good. Servers refuse it within a second. A key that leaked may be given itself as ID."""
    with open_registry() as registry:
        revoked = registry.revoke_key(key, actor=actor())
    line = f"key {revoked.id} of {_owner(revoked)} is revoked since {_moment(revoked.revoked, '')}"
    keep(line)
    if as_json:
        print_json(_document(revoked))
    else:
        console().print(line)


def _tell(key: "Key") -> None:
    ends = "" if key.state == "revoked" else f"expires {_moment(key.expires, 'never')}"
    since = f"since {_moment(key.revoked, '')}" if key.state == "revoked" else ends
    facts = f"{_owner(key):<20}  {key.state:<7}  {since:<29}  {', '.join(key.scopes)}"
    made = f"made {key.created:%Y-%m-%d} by {key.actor}"
    console().entry(key.id, f"{facts}  {made}{f'  {key.name}' if key.name else ''}", width=14)


def _document(key: "Key") -> dict[str, Any]:
    return document(key) | {"state": key.state}  # type: ignore[no-any-return]


def _owner(key: "Key") -> str:
    return "(platform)" if key.merchant is None else key.merchant


def _moment(moment: "datetime | None", otherwise: str) -> str:
    return otherwise if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"
