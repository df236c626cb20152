"""What the options name is looked for when the gateway starts: a name that is mistyped is said then, and not later."""

import logging

from shopfit.base.locate import check_encoder_name
from shopfit.errors import BaseError, ShopfitError

logger = logging.getLogger(__name__)

_PATIENCE = 2.0  # seconds for a server to answer


def check_encoder(name: str) -> None:
    """Check what `--encoder` names, as far as this machine knows it.

    Args:
        name: of an encoder; empty for none.

    Raises:
        ShopfitError: if it cannot be one.
    """
    if not name:
        return
    try:
        check_encoder_name(name)
    except BaseError as error:
        raise ShopfitError(
            f"--encoder is {name!r:.200}: {error.message}",
            next_step="name an encoder, or give --encoder '' to search by words alone",
        ) from error


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
