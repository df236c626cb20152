"""Ids of answers, which say by themselves that they were given out, and to whom: no id has to be looked up.

An id is random and ends with its HMAC-SHA256 (RFC 2104), cut to 128 bits, over the merchant and the random part. All
gateways of a registry have the same key of it, so that each knows the ids of the others, and of those that are gone.
"""

import hashlib
import hmac
import secrets

_RANDOM = 24  # hex digits
_SIGNED = 32


class AnswerIds:
    """Makes and checks ids of answers.

    Args:
        secret: of the registry; see `Registry.answer_secret`.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def new(self, merchant: str) -> str:
        """An id that nobody can guess, for an answer to a merchant: `ans_` and 56 hex digits."""
        random = secrets.token_hex(_RANDOM // 2)
        return f"ans_{random}{self._signature(merchant, random)}"

    def is_of(self, answer: str, merchant: str) -> bool:
        """Whether an id was given to an answer to this merchant."""
        content = answer.removeprefix("ans_")
        random, signed = content[:_RANDOM], content[_RANDOM:]
        return hmac.compare_digest(signed.encode(), self._signature(merchant, random).encode())

    def _signature(self, merchant: str, random: str) -> str:
        text = f"{merchant}\0{random}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._secret, text, hashlib.sha256).hex()[:_SIGNED]
