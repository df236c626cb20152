"""Find a base by its name: a packaged one, a Hub id, a folder, or a GGUF file."""

import logging
from collections.abc import Callable
from pathlib import Path

from shopfit.base.folder import TERMS, reason
from shopfit.base.gguf import ENDING, dequantized, gguf_in
from shopfit.base.packaged import PACKAGED, bases_folder, fetch_packaged
from shopfit.errors import BaseError, ShopfitError
from shopfit.settings import expanded

logger = logging.getLogger(__name__)

_LOCAL = (".", "/", "~")
_HUB_FILES = (
    *("*.safetensors", "*.json", "*.model", "merges.txt", "vocab.txt", "bpe.codes", "chat_template.jinja"),
    *("README.md", *TERMS),
)


def locate_base(name: str, home: Path, say: Callable[[str], None] = logger.warning) -> Path:
    """Folder of the base called `name`, downloaded or dequantized if necessary.

    Args:
        name: a packaged base, a local folder, a `.gguf` file, or a Hub id such as `HuggingFaceTB/SmolLM2-360M`.
        home: shopfit's home folder.
        say: told of the stages of what takes long.

    Raises:
        BaseError: if there is no such base.
    """
    if name in PACKAGED:
        return fetch_packaged(name, home)
    if _is_text(name) and name.endswith(ENDING) and _may_be_file(name):
        return dequantized(expanded(name), home, say)
    if _is_local(name):
        folder = _folder(name)
        file = gguf_in(folder)
        return folder if file is None else dequantized(file, home, say)
    if _is_of_hub(name):
        return _from_hub(name)
    raise _nameless(name)


def whole_name(name: str) -> str:
    """A base's name that means the same in any working folder: what is here, by its absolute path."""
    if name not in PACKAGED and _is_local(name):
        return str(expanded(name).absolute())
    return name


def check_encoder_name(name: str) -> None:
    """Check that a name may be an encoder's, without looking for it on any other machine.

    Args:
        name: as for `locate_base`.

    Raises:
        BaseError: if it names neither a packaged encoder nor a folder, and cannot be a Hub id.
    """
    if name in PACKAGED:
        if PACKAGED[name].kind != "encoder":
            encoders = ", ".join(base.name for base in PACKAGED.values() if base.kind == "encoder")
            raise BaseError(
                f"the base {name} is a decoder, which embeds no texts (allowed: {encoders}, or another encoder)",
                next_step="name an encoder",
            )
    elif _is_local(name) and not (name.endswith(ENDING) and _is(Path.is_file, name)):
        _folder(name)
    elif not _is_local(name) and not _is_of_hub(name):
        raise _nameless(name)


def _is_local(name: str) -> bool:
    return _is_text(name) and (name.startswith(_LOCAL) or _is(Path.exists, name))


def _may_be_file(name: str) -> bool:
    return (name.startswith(_LOCAL) or _is(Path.is_file, name)) and not _is(Path.is_dir, name)


def _is_of_hub(name: str) -> bool:
    return _is_text(name) and name.count("/") == 1


def _is_text(name: str) -> bool:
    return bool(name.strip()) and name.isprintable()


def _nameless(name: str) -> BaseError:
    return BaseError(
        f"there is no base called {name!r:.200} "
        f"(allowed: {', '.join(PACKAGED)}, a Hub id `owner/name`, a local folder, or a {ENDING} file)",
        next_step="run `shopfit base ls` to see what is here",
    )


def _folder(name: str) -> Path:
    try:
        folder = expanded(name)
        why = "no such folder" if not _is(Path.exists, name) else "" if _is(Path.is_dir, name) else "it is a file"
    except ShopfitError as error:  # `~` of an unknown user
        folder, why = Path(name), error.message
    if why:
        raise BaseError(
            f"the base {name!r:.200} is not there: {why}",
            next_step=f"give an existing folder, a Hub id, or one of {', '.join(PACKAGED)}",
        )
    return folder


def _is(what: Callable[[Path], bool], name: str) -> bool:
    try:
        return what(expanded(name))
    except (OSError, ValueError, ShopfitError):  # an invalid path
        return False


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise BaseError(
            f"the base {name} is no folder here, and could not be had from the Hub: {reason(error)}",
            next_step=f"check the name and the network, or use one of {', '.join(PACKAGED)} or a local folder",
        ) from error


def fetched_bases(home: Path) -> dict[str, Path | None]:
    """Every packaged base, with its folder if it is downloaded."""
    folders = {name: bases_folder(home) / name for name in PACKAGED}
    return {name: folder if folder.is_dir() else None for name, folder in folders.items()}
