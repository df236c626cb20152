"""What the resolver reads of the environment besides `shopfit.settings`."""

import os

from shopfit.errors import ShopfitError

_VARIABLE = "SHOPFIT_MAX_LORA_RANK"
_DEFAULT = 16  # vLLM's own of --max-lora-rank


def max_lora_rank() -> int:
    """The largest rank to serve (`SHOPFIT_MAX_LORA_RANK`): that of vLLM's `--max-lora-rank`, which it does not tell.

    Raises:
        ShopfitError: if it is no whole number from 1 on.
    """
    text = os.environ.get(_VARIABLE) or str(_DEFAULT)
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) > 0):
        raise ShopfitError(
            f"{_VARIABLE} is {text!r:.100} (allowed: a whole number from 1 on)",
            next_step="set it to what vLLM's --max-lora-rank is",
        )
    return int(text)
