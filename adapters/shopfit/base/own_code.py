"""Bases that name code of their own (`auto_map`): it is never run."""

import logging

from shopfit.base.checkpoint import CODE, CONFIG, Checkpoint
from shopfit.base.folder import read_json
from shopfit.errors import BaseError

logger = logging.getLogger(__name__)

_TOKENIZER = "tokenizer_config.json"


def without_own_code(name: str, checkpoint: Checkpoint) -> None:
    """Say that a base's own code is not run, or refuse the base if transformers has nothing to load it with.

    Args:
        name: of the base, for messages.
        checkpoint: its files.

    Raises:
        BaseError: if transformers itself has no such family, or no such tokenizer.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    where = checkpoint.naming_code
    if not where:
        return
    family = checkpoint.config.get("model_type")
    lacks = ""
    if CONFIG in where and not (isinstance(family, str) and family in CONFIG_MAPPING_NAMES):
        lacks = f"no family {family!r:.80}"
    elif _TOKENIZER in where and "tokenizer.json" not in checkpoint.files:
        path = checkpoint.files[_TOKENIZER]
        tokenizer = read_json(path, path).get("tokenizer_class")
        if not isinstance(tokenizer, str) or tokenizer_class_from_name(tokenizer) is None:
            lacks = f"no tokenizer {tokenizer!r:.80}, and the base holds no tokenizer.json"
    if lacks:
        raise BaseError(
            f"the base {name} has code of its own ({CODE} in {', '.join(where)}), which is never run, and transformers "
            f"itself has {lacks}",
            next_step="use a base of a family that transformers has, or a later transformers",
        )
    logger.warning(
        "the base %s names code of its own (%s in %s), which is not run: it is loaded as transformers' own %s",
        name,
        CODE,
        ", ".join(where),
        family,
    )
