"""Which families of bases `make test` walks over; all others are proofs."""

from collections.abc import Iterable
from typing import Any

import pytest

USUAL = frozenset(
    {
        *("gemma3_text", "gpt2", "llama", "mistral", "opt", "qwen2", "qwen3", "smollm3"),
        *("bert", "deberta-v2", "modernbert", "mpnet", "xlm-roberta"),
        *("bart", "t5"),
    }
)


def walk(kinds: Iterable[str]) -> list[Any]:
    """Parameters of a test: families, those that few people use marked as proofs.

    Args:
        kinds: as transformers calls them.
    """
    return [pytest.param(kind, marks=[] if kind in USUAL else [pytest.mark.proof]) for kind in kinds]
