"""Which dtype a base is loaded in, and how weights that were saved in another one get there in little memory.

transformers converts while it reads: all of a file's pages and all new weights are then in memory at once. Here weights
are loaded as they were saved, as views of the mapped files, and converted one after another, each one's pages let go.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from shopfit.base.tensor_files import Piece

_HALF_FROM = 8  # major compute capability: GPUs before it only emulate bfloat16
_SAVED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_NEVER_CONVERTED = ("inv_freq",)  # ends of names of buffers that every model computes in float32, whatever its dtype


def dtype_on(device: str, quantization: str = "none") -> str:
    """The dtype that `auto` selects.

    Args:
        device: such as "cpu" or "cuda:0".
        quantization: "none", "int8" or "nf4".

    Returns:
        "bfloat16" on a GPU that computes in it, if nothing is quantized: half the memory, and faster; else "float32".
    """
    place = torch.device(device)
    half = place.type == "cuda" and torch.cuda.get_device_capability(place)[0] >= _HALF_FROM
    return "bfloat16" if half and quantization == "none" else "float32"


def dtype_to_read(empty: Any, pieces: Sequence[Piece], dtype: torch.dtype) -> torch.dtype:
    """The dtype for transformers to load in; `convert` does the rest.

    Args:
        empty: the model without its weights, in `dtype`.
        pieces: the tensors in its files.
        dtype: that it shall have.

    Returns:
        the one of its files, if the model computes nothing but its weights in it, and else `dtype`.
    """
    saved = {piece.dtype for piece in pieces} & _SAVED.keys()
    beside = (name for name, buffer in empty.named_buffers() if buffer.is_floating_point())
    mixed = getattr(empty, "_keep_in_fp32_modules", None) or getattr(empty, "_keep_in_fp32_modules_strict", None)
    if len(saved) != 1 or mixed or not all(name.endswith(_NEVER_CONVERTED) for name in beside):
        return dtype
    return _SAVED[saved.pop()]


def convert(model: Any, empty: Any, release: Callable[[Tensor], bool]) -> None:
    """Convert a model's weights in place.

    Args:
        model: as it was loaded.
        empty: the same in the dtype that is wanted: some families have weights that are always in float32.
        release: called with each weight as it was.
    """
    for name, wanted in empty.named_parameters():
        weight = model.get_parameter(name)
        if weight.is_floating_point() and weight.dtype != wanted.dtype:
            before, weight.data = weight.data, weight.data.to(wanted.dtype)
            release(before)
    model.config.dtype = model.dtype
