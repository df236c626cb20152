"""Bases in llama.cpp's GGUF files: dequantized once to safetensors, as transformers does it, and loaded from there.

Reading a GGUF file takes twenty seconds where the result loads in one, and its packed blocks take no gradients. So the
numbers are written out as float32, in which every block's are exact, under `SHOPFIT_HOME`, by the SHA-256 of the file:
another file of the same name is another base. What is trained on it belongs to those numbers, settings and tokens (the
fingerprint of the result), wherever the file lies.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import hashlib
import logging
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shopfit.base.checkpoint import CONFIG, Checkpoint
from shopfit.base.families import check_weights
from shopfit.base.folder import file_in, reason
from shopfit.base.tensor_files import INDEX, WEIGHTS
from shopfit.errors import BaseError

logger = logging.getLogger(__name__)

ENDING = ".gguf"
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_BESIDES = 100_000_000  # bytes of tokenizer and settings, at most
_SHARD = "5GB"


def gguf_in(folder: Path) -> Path | None:
    """The GGUF file that a folder is a base by; None if it has safetensors weights, or no GGUF file.

    Raises:
        BaseError: if there are several.
    """
    if any((folder / name).exists() for name in (WEIGHTS, INDEX)):
        return None
    found = sorted(path.name for path in folder.glob(f"*{ENDING}"))
    if len(found) > 1:
        raise BaseError(
            f"{folder} holds several GGUF files: {', '.join(found[:10])}",
            next_step=f"name the one to use, such as {folder / found[0]}",
        )
    return folder / found[0] if found else None


def dequantized(path: Path, home: Path, say: Callable[[str], None] = logger.warning) -> Path:
    """The folder with what a GGUF file holds, as transformers saves a base; made with the first call.

    Args:
        path: of the file.
        home: shopfit's home folder; the result takes four bytes a weight there.
        say: told of each stage, as that takes seconds to minutes.

    Raises:
        BaseError: if transformers does not read the file, or the disk is full. Nothing incomplete is left.
    """
    try:
        file = file_in(path.parent, path.name)
        if file is None:
            raise BaseError(f"there is no file {path}", next_step="give an existing .gguf file")
        if _PART.search(path.name):
            raise BaseError(
                f"{path} is one part of several, which transformers does not read",
                next_step="merge the parts with llama.cpp's `llama-gguf-split --merge`, and give the result",
            )
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        folder = home / "dequantized" / digest
        if not folder.is_dir():
            _write(path, file, folder, say)
    except OSError as error:
        raise BaseError(
            f"{path} could not be dequantized: {error.strerror or reason(error)}", next_step="mend that, and try again"
        ) from error
    return folder


def _write(path: Path, file: Path, folder: Path, say: Callable[[str], None]) -> None:
    header = _Header.read(path, file)
    folder.parent.mkdir(parents=True, exist_ok=True)
    needed, free = 4 * header.numbers + _BESIDES, shutil.disk_usage(folder.parent).free
    if free < needed:
        raise BaseError(
            f"dequantizing {path} needs {needed / 1e6:.0f} MB of free disk, {folder.parent} has {free / 1e6:.0f} MB",
            next_step="free some space, or set SHOPFIT_HOME to a folder on a larger disk",
        )
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name[:12]}.") as temporary:
        work = Path(temporary)
        (work / "file").mkdir()
        (work / "file" / f"base{ENDING}").symlink_to(file)  # alone: nothing that lies beside it is read
        say(f"{path.name}: dequantizing {header}, once (1 of 3)")
        model = _model(path, header, work / "file" / f"base{ENDING}")
        say(f"{path.name}: writing {4 * header.numbers:,} bytes of safetensors to {folder.parent} (2 of 3)")
        save(model, work / "file" / f"base{ENDING}", work / "ready")
        say(f"{path.name}: checking what was written (3 of 3)")
        Checkpoint.open(work / "ready")
        try:
            (work / "ready").rename(folder)
        except OSError:
            if not folder.is_dir():  # another process may have been first
                raise


class _Header:
    """What a GGUF file says of itself.

    Args:
        architecture: as llama.cpp calls it.
        types: of its tensors, such as Q4_K.
        numbers: in all tensors.
    """

    def __init__(self, architecture: str, types: list[str], numbers: int) -> None:
        self.architecture = architecture
        self.types = types
        self.numbers = numbers

    def __str__(self) -> str:
        return f"{self.numbers:,} numbers of the types {', '.join(self.types)} ({self.architecture})"

    @classmethod
    def read(cls, path: Path, file: Path) -> "_Header":
        """Read it.

        Raises:
            BaseError: if it is no whole GGUF file.
        """
        from gguf import GGUFReader

        try:
            reader = GGUFReader(file)
            field = reader.get_field("general.architecture")
            architecture = None if field is None else field.contents()
            if not isinstance(architecture, str):
                raise ValueError("it names no general.architecture")
            types = sorted({tensor.tensor_type.name for tensor in reader.tensors})
            return cls(architecture, types, sum(int(tensor.n_elements) for tensor in reader.tensors))
        except Exception as error:  # the reader raises whatever numpy does for what it cannot make sense of
            raise BaseError(
                f"{path} is not a whole GGUF file of a known type: {reason(error)}",
                next_step="bring the file again: it was cut short, or altered",
            ) from error


def _model(path: Path, header: _Header, alone: Path) -> Any:
    try:
        return read_model(alone)
    except BaseError:
        raise
    except Exception as error:
        raise BaseError(
            f"transformers does not read {path}, of the architecture {header.architecture} with tensors of the types "
            f"{', '.join(header.types)}: {type(error).__name__}: {reason(error).replace(str(alone), str(path))}",
            next_step="use the base's safetensors, or a GGUF file of another quantization type",
        ) from error


def read_model(file: Path) -> Any:
    """The model in a GGUF file, as float32.

    Raises:
        BaseError: if the file lacks weights of the model that it describes.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, GgufConfig

    where: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    config = type(AutoConfig.from_pretrained(file.parent, **where))
    loader = next(
        (each for each in (AutoModelForCausalLM, AutoModelForSeq2SeqLM) if config in each._model_mapping), AutoModel
    )
    model, loaded = loader.from_pretrained(
        file.parent,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
        output_loading_info=True,
        **where,
    )
    check_weights(file.name, None, loaded)
    return model


def save(model: Any, file: Path, folder: Path) -> None:
    """Save a model that came from a GGUF file, and that file's tokenizer, as a base's folder.

    Args:
        model: from `read_model`.
        file: that it was read from.
        folder: to make.
    """
    from transformers import AutoTokenizer

    # transformers refuses to save a model that it believes to be quantized
    model.hf_quantizer = None
    model.is_quantized = False
    for owner in (model, model.config):
        for name in ("quantization_method", "quantization_config"):
            owner.__dict__.pop(name, None)
    model.config._name_or_path = ""
    model.save_pretrained(folder, max_shard_size=_SHARD)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True).save_pretrained(folder)
    assert (folder / CONFIG).is_file()
