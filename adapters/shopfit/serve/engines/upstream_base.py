"""The base that vLLM serves, as far as it is here: its files, and no model."""

from dataclasses import dataclass
from typing import Any

from shopfit.base.checkpoint import Checkpoint
from shopfit.base.fingerprint import identify
from shopfit.base.load import load_tokenizer

_UNKNOWN = 1 << 20  # tokens, where the settings do not say: vLLM has a limit of its own


@dataclass(frozen=True, slots=True)
class UpstreamBase:
    """The base that vLLM serves.

    Args:
        name: of it.
        fingerprint: of it.
        legacy: its fingerprint in old bundles.
        tokenizer: of transformers.
        max_length: tokens of prompt and answer.
    """

    name: str
    fingerprint: str
    legacy: str
    tokenizer: Any
    max_length: int

    @classmethod
    def of(cls, name: str, checkpoint: Checkpoint) -> "UpstreamBase":
        """That of some files.

        Raises:
            BaseError: if the tokenizer cannot be loaded.
        """
        identity, config = identify(checkpoint), checkpoint.config
        longest = config.get("text_config", config).get("max_position_embeddings")
        longest = longest if isinstance(longest, int) else _UNKNOWN
        return cls(name, identity.fingerprint, identity.legacy, load_tokenizer(checkpoint), longest)
