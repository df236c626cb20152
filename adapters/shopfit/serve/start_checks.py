"""What the options name is looked for when the gateway starts: a name that is mistyped is said then, and not later."""

import logging
from pathlib import Path

from shopfit.base.locate import check_encoder_name
from shopfit.errors import BaseError, ShopfitError
from shopfit.recipe.schema import AUTO

logger = logging.getLogger(__name__)

_PATIENCE = 2.0  # seconds for a server to answer


def check_encoder(name: str) -> None:
    """Check what `--encoder` names, as far as this machine knows it.

    Args:
        name: of an encoder; "auto" for that of each recipe; empty for none.

    Raises:
        ShopfitError: if it cannot be one.
    """
    if name in {"", AUTO}:
        return
    try:
        check_encoder_name(name)
        if Path(name).is_dir():
            _check_folder(name)
    except BaseError as error:
        raise ShopfitError(
            f"--encoder is {name!r:.200}: {error.message}",
            next_step="name an encoder, or give --encoder '' to search by words alone",
        ) from error


def _check_folder(name: str) -> None:
    from shopfit.base.checkpoint import Checkpoint
    from shopfit.base.families import kind_of  # with transformers, which a gateway needs for nothing else

    if (kind := kind_of(name, Checkpoint.open(Path(name)))) != "encoder":
        raise BaseError(f"the base in {name} is of the kind {kind}, which embeds no texts (allowed: encoder)")


async def look_for_upstream(url: str) -> None:
    """Log if nothing answers where `--upstream` says. It may come up later, and is asked for each request.

    Args:
        url: of vLLM servers; empty for none.
    """
    if not url:
        return
    import httpx2

    try:
        async with httpx2.AsyncClient(timeout=_PATIENCE, trust_env=False) as client:
            await client.get(f"{url.rstrip('/')}/health")
    except httpx2.HTTPError as error:
        logger.warning(
            "nothing answers at --upstream %s (%s): requests of decoders get 503 until something does",
            url,
            type(error).__name__,
        )
