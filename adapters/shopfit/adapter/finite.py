"""Checks that the numbers in a bundle's files are finite, and stay so when an engine multiplies them.

An adapter shares forwards with other merchants' rows, which NaN or infinity could reach. These checks need no torch and
run before a bundle is sealed and before it is published; whether weights fit a base is checked on loading.
"""

import json
import re
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError, deserialize

from shopfit.errors import Problem, RequestError

ALLOWED = "finite numbers"
LARGEST = {"float32": 3.4028235e38, "bfloat16": 3.3895314e38, "float16": 65504.0}
"""The largest finite number of each dtype that a base may have."""
_LORA = re.compile(r"(.+)\.lora_([AB])(?:\.weight)?")


def not_finite() -> RequestError:
    """The error of a request whose adapter's logits or scores are not finite."""
    return RequestError(
        "the adapter's numbers are not finite for this request: its weights are too large for the base",
        next_step="roll back to an earlier version, or train the adapter again with a lower tune.lr",
    )


def tensor_problems(content: bytes, where: str, dtype: str) -> list[Problem]:
    """Tensors of a safetensors file that are not finite, or missing.

    Args:
        content: of the file.
        where: it is, for messages.
        dtype: that the base computes in, a key of `LARGEST`.

    Returns:
        a problem for each tensor with NaN, infinity or a number beyond `dtype`'s range, each LoRA layer whose product
        B A may exceed it, and each that lacks A or B; a single one if the file cannot be read.
    """
    try:
        tensors = deserialize(content)  # type: ignore[no-untyped-call]
    except (SafetensorError, ValueError) as error:
        return [Problem(where, f"cannot be read: {str(error)[:200]}", "safetensors")]
    largest, found = LARGEST[dtype], []
    norms: dict[str, dict[str, float]] = {}
    parts: dict[str, set[str]] = {}
    for name, tensor in tensors:
        if match := _LORA.fullmatch(name):
            parts.setdefault(match[1], set()).add(match[2])
        numbers = _numbers(tensor)
        if numbers is None:
            continue
        if bad := int(np.count_nonzero(~(np.abs(numbers) <= largest))):
            found.append(
                Problem(f"{where}: {name}", f"{bad} of {numbers.size} numbers are NaN or beyond {dtype}", ALLOWED)
            )
        elif match:
            norms.setdefault(match[1], {})[match[2]] = float(np.linalg.norm(numbers.astype(np.float64)))
    found += [
        Problem(f"{where}: {layer}", f"has lora_{min(there)} alone", "lora_A and lora_B")
        for layer, there in parts.items()
        if len(there) == 1
    ]
    return found + [
        Problem(f"{where}: {layer}", f"the update B A overflows {dtype}", ALLOWED)
        for layer, norm in norms.items()
        if norm.get("A", 0.0) * norm.get("B", 0.0) > largest
    ]


def _numbers(tensor: dict[str, Any]) -> "np.ndarray[Any, Any] | None":
    """A tensor as a flat array of 32 bits or more; None for dtypes that no adapter may have."""
    kind, data = tensor["dtype"], tensor["data"]
    if kind == "BF16":  # its bits are the upper half of a float32's
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    if kind == "F16":
        return np.frombuffer(data, np.float16).astype(np.float32)
    return np.frombuffer(data, np.float64 if kind == "F64" else np.float32) if kind in {"F32", "F64"} else None


def json_problems(content: bytes, where: str) -> list[Problem]:
    """Numbers of a JSON file that are not finite. No problem if it is not JSON."""
    strange: list[str] = []

    def number(text: str) -> float:
        if not np.isfinite(value := float(text)):
            strange.append(text)
        return value

    try:
        json.loads(content, parse_constant=strange.append, parse_float=number, parse_int=_whole)
    except (ValueError, RecursionError):
        return []
    return [Problem(where, text, ALLOWED) for text in dict.fromkeys(strange)]


def finite_json(content: bytes | str) -> Any:
    """Read JSON that holds finite numbers only.

    Raises:
        ValueError: if it is no JSON, holds NaN or infinity, or is nested too deeply.
    """

    def refuse(text: str) -> NoReturn:
        raise ValueError(f"{text} is not a finite number")

    def number(text: str) -> float:
        return value if np.isfinite(value := float(text)) else refuse(text)

    try:
        return json.loads(content, parse_constant=refuse, parse_float=number, parse_int=_whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _whole(text: str) -> int:
    """Like `int`, but a Python function: while it parses many numbers, the GIL can be released at each."""
    return int(text)
