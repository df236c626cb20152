"""The files of a tokenizer: which ones a folder must hold, so that none is guessed at.

transformers makes up what is missing: merges from a vocabulary, lower case for BERT, a byte-pair encoding for whatever
it cannot parse. The tokens would be others than those the model was trained on, and nothing would say so.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from shopfit.errors import BaseError

SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")
VOCABULARIES = ("tokenizer.json", *SENTENCEPIECE, "vocab.json", "merges.txt", "vocab.txt", "bpe.codes")
"""Files of which a tokenizer has at least one."""

_MOST_VOCABULARY = 1 << 30
_TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")
_TOGETHER = {"vocab.json": "merges.txt", "merges.txt": "vocab.json", "bpe.codes": "vocab.txt"}
_WRITE = (
    "bring {} from where the base was trained; `AutoTokenizer.from_pretrained(...).save_pretrained(...)` writes "
    "tokenizer.json and tokenizer_config.json where that tokenizer can be loaded"
)


def check_tokenizer(folder: Path, files: Mapping[str, Path]) -> None:
    """Refuse a folder that lacks a file of its tokenizer.

    Args:
        folder: of the base.
        files: of it that may be read, by name.

    Raises:
        BaseError: naming the missing file.
    """
    for name in VOCABULARIES:
        if name in files and not 0 < (size := files[name].stat().st_size) <= _MOST_VOCABULARY:
            raise BaseError(
                f"{folder / name} has {size} bytes (allowed: 1 to {_MOST_VOCABULARY})", next_step="bring the file again"
            )
    if "tokenizer.json" in files:
        return
    if (foreign := _tiktoken(folder, files)) is not None:
        raise _missing(
            folder, "tokenizer.json", f"its tokenizer, {foreign}, is tiktoken's, which names no rule to split by"
        )
    if (folder / "source.spm").exists():
        raise BaseError(
            f"{folder} holds no tokenizer.json: source.spm and target.spm are a pair of sentencepiece models, which "
            "only Marian's tokenizer in Python reads",
            next_step="write a tokenizer.json of both with the tokenizers library, or use another base",
        )
    if not files.keys() & set(VOCABULARIES):
        raise BaseError(f"{folder} holds no tokenizer", next_step=f"add one of {', '.join(VOCABULARIES)}")
    if files.keys() & set(SENTENCEPIECE):
        return
    for name, other in _TOGETHER.items():
        if name in files and other not in files:
            raise _missing(folder, other, f"{name} alone is no tokenizer")
    if "vocab.txt" in files and "tokenizer_config.json" not in files and _cased(files["vocab.txt"]):
        raise _missing(
            folder, "tokenizer_config.json", "vocab.txt has capital letters, and do_lower_case is said nowhere"
        )


def _missing(folder: Path, name: str, why: str) -> BaseError:
    return BaseError(f"{folder} holds no {name}: {why}", next_step=_WRITE.format(name))


def _tiktoken(folder: Path, files: Mapping[str, Path]) -> str | None:
    """The file of a tokenizer of tiktoken's kind: lines of a token in base64 and its rank; or Mistral's tekken.json."""
    for pattern in ("*.tiktoken", "tiktoken.model", "tekken.json"):
        if (found := next(folder.glob(pattern), None)) is not None:
            return found.name
    if (path := files.get("tokenizer.model")) is not None:
        with path.open("rb") as file:
            return path.name if _TIKTOKEN.match(file.read(1000)) else None
    return None


def _cased(path: Path) -> bool:
    words = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(word != word.lower() for word in words if not word.startswith(("[", "<")))
