"""The PEFT methods as data, to check recipes and manifests by. What a method does is in `shopfit.methods`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Method = Literal["lora", "adalora", "prefix"]
LARGEST_RANK = 512  # of a bundle, as far as recipes go
MAX_VIRTUAL_TOKENS = 1024  # of a prefix: every row that it answers holds them in its cache


@dataclass(frozen=True, slots=True)
class MethodRules:
    """What a recipe may set for a method, and the defaults.

    Args:
        title: as texts name it.
        paper: its arXiv number.
        learning_rate: peak, where a recipe names none.
        size_key: the key of `adapter` that says how large it is.
        unit: of that size, in words.
        largest: size that a bundle may have.
        prunes: whether it is trained from `init_rank` down to `rank`.
        switches: keys of `adapter`, true or false, that it alone heeds.
        no_checkpointing: why its activations cannot be recomputed; empty if they can.
    """

    title: str
    paper: str
    learning_rate: float
    size_key: Literal["rank", "virtual_tokens"] = "rank"
    unit: str = "rank"
    largest: int = LARGEST_RANK
    prunes: bool = False
    switches: tuple[str, ...] = ()
    no_checkpointing: str = ""


METHOD_RULES: Mapping[Method, MethodRules] = {
    "lora": MethodRules("LoRA", "2106.09685", 5e-4, switches=("rslora", "dora")),
    "adalora": MethodRules("AdaLoRA", "2303.10512", 2e-3, prunes=True),
    "prefix": MethodRules(
        "prefix tuning",
        "2101.00190",
        5e-3,
        size_key="virtual_tokens",
        unit="virtual tokens",
        largest=MAX_VIRTUAL_TOKENS,
        no_checkpointing="keeps its prefix in the cache that checkpointing drops",
    ),
}
SWITCHES = tuple(dict.fromkeys(switch for rules in METHOD_RULES.values() for switch in rules.switches))
"""Keys that only some methods heed."""
