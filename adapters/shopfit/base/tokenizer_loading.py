"""A tokenizer from its files, and the proof that it reads text as its file does.

Where files are missing, transformers makes a tokenizer up that is usual for the family, or a plain one: with a
sentencepiece model and no tokenizer_config.json, a text loses the space in front, and nothing says so. So what
transformers gives is compared with the library that the file is for.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shopfit.base.folder import read_json
from shopfit.base.tokenizer_files import SENTENCEPIECE
from shopfit.errors import BaseError

_TRIED = "The shop sells 2 tents."
_PLAIN: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}


def open_tokenizer(shown: Path) -> Any:
    """The tokenizer in a folder.

    Args:
        shown: holds the files of a checkpoint and nothing else.

    Raises:
        BaseError: if transformers would read text otherwise than the file does.
        Exception: whatever transformers raises for files that it cannot read.
    """
    from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerFast

    whole, settings = shown / "tokenizer.json", shown / "tokenizer_config.json"
    if whole.exists():
        if settings.exists():
            return AutoTokenizer.from_pretrained(shown, **_PLAIN)
        usual = next(_that_read(shown, _as_saved(whole), AutoTokenizer), None)
        return usual or PreTrainedTokenizerFast.from_pretrained(shown, **_PLAIN)
    said = read_json(settings, settings) if settings.exists() else {}
    model = next((shown / name for name in SENTENCEPIECE if (shown / name).exists()), None)
    if model is None or said.get("add_prefix_space") is False:
        return AutoTokenizer.from_pretrained(shown, **_PLAIN)
    found = next(_that_read(shown, _as_sentencepiece(model), AutoTokenizer, LlamaTokenizer), None)
    if found is None:
        raise BaseError(
            f"transformers does not read {model.name} as sentencepiece itself does, and there is no tokenizer.json",
            next_step="bring the base's tokenizer.json and tokenizer_config.json",
        )
    return found


def _that_read(shown: Path, reads: Callable[[Any], bool], *loaders: Any) -> Iterator[Any]:
    for loader in loaders:
        with contextlib.suppress(Exception):  # of a class that is for other files
            tokenizer = loader.from_pretrained(shown, **_PLAIN)
            if reads(tokenizer):
                yield tokenizer


def _as_saved(file: Path) -> Callable[[Any], bool]:
    from tokenizers import Tokenizer

    saved = Tokenizer.from_file(str(file))
    saved.no_truncation()
    saved.no_padding()
    return lambda tokenizer: all(
        tokenizer.encode(_TRIED, add_special_tokens=added) == saved.encode(_TRIED, None, False, added).ids
        for added in (True, False)
    )


def _as_sentencepiece(file: Path) -> Callable[[Any], bool]:
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_proto=file.read_bytes()).encode(_TRIED, out_type=str)
    return lambda tokenizer: tokenizer.tokenize(_TRIED) == pieces
