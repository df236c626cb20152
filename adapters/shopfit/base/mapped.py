"""Weights that lie in a mapped file: pages that were read once need not stay in memory.

safetensors maps a file of weights, and a tensor of the type that it was saved in is a view of that mapping. What has
been packed for the CPU is read again by a backward pass alone; the system brings such pages back by itself.
"""

import ctypes
import mmap
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_MAPS = Path("/proc/self/maps")
_DONTNEED = 4  # MADV_DONTNEED, which Python names on no other object than its own maps


class MappedFiles:
    """The files of a base's weights, as far as this process has them mapped.

    Args:
        files: their real paths.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._spans = _spans({str(path) for path in files}) if sys.platform == "linux" else []

    def release(self, tensor: "Tensor") -> bool:
        """Let go of a tensor's pages, if it is a view of one of the files. Its numbers stay what they are in the file:
        so only before anything may have changed them.

        Args:
            tensor: any; one that is elsewhere is left alone.

        Returns:
            whether it is such a view.
        """
        if tensor.device.type != "cpu" or not tensor.numel() or not tensor.is_contiguous():
            return False
        first, last = tensor.data_ptr(), tensor.data_ptr() + tensor.numel() * tensor.element_size()
        if not any(start <= first and last <= end for start, end in self._spans):
            return False
        _let_go(first, last)
        return True

    def release_but(self, tensors: "Iterable[Tensor]") -> None:
        """Let go of all pages but those of some tensors, likewise: of what was read to be quantized, and once.

        Args:
            tensors: any; those that are views of the files keep their pages.
        """
        kept = sorted(
            (tensor.data_ptr(), tensor.data_ptr() + tensor.numel() * tensor.element_size())
            for tensor in tensors
            if tensor.device.type == "cpu" and tensor.is_contiguous()
        )
        for start, end in self._spans:
            for first, last in kept:
                if start <= first < end:
                    _let_go(start, first)
                    start = max(start, last)
            _let_go(start, end)


def _let_go(first: int, last: int) -> None:
    """Of the pages that lie wholly between two addresses."""
    page = mmap.PAGESIZE
    start, end = -(-first // page) * page, last // page * page
    if start < end:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONTNEED)


def _spans(files: set[str]) -> list[tuple[int, int]]:
    found = []
    for line in _MAPS.read_text().splitlines():
        span, _, rest = line.partition(" ")
        path = rest.split(maxsplit=4)[4] if len(rest.split(maxsplit=4)) > 4 else ""
        if path in files:
            start, _, end = span.partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found
