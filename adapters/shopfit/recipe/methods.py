"""The PEFT methods as data, to check recipes and manifests by, and what each of them does not work with.

What a method does is in `shopfit.methods`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Method = Literal["lora", "adalora", "prefix"]
Quantization = Literal["none", "int8", "nf4"]
BaseKind = Literal["decoder", "encoder", "encoder-decoder"]
LARGEST_RANK = 512  # of a bundle, as far as recipes go
MAX_VIRTUAL_TOKENS = 1024  # of a prefix: every row that it answers holds them in its cache


@dataclass(frozen=True, slots=True)
class Limit:
    """A part of the matrix of methods, quantizations and kinds of bases that does not work.

    Args:
        what: is refused, such as "DoRA".
        why: it does not work, as a clause.
        key: of the recipe, that asks for it.
        nearest: override of a recipe, as for `--set`, that leads to the nearest part that works.
        switch: key of `adapter` that it is about; the whole method if empty.
        quantizations: on which it does not work.
        kinds: of bases on which it does not work.
    """

    what: str
    why: str
    key: str
    nearest: str
    switch: str = ""
    quantizations: tuple[Quantization, ...] = get_args(Quantization)
    kinds: tuple[BaseKind, ...] = get_args(BaseKind)


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
        factors: whether it is trained as a product B A, whose B may have a learning rate of its own.
        prunes: whether it is trained from `init_rank` down to `rank`.
        switches: keys of `adapter`, true or false, that it alone heeds.
        limits: what it does not work with; anything else is tested to work (tests/tune/test_matrix.py).
    """

    title: str
    paper: str
    learning_rate: float
    size_key: Literal["rank", "virtual_tokens"] = "rank"
    unit: str = "rank"
    largest: int = LARGEST_RANK
    factors: bool = True
    prunes: bool = False
    switches: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()


METHOD_RULES: Mapping[Method, MethodRules] = {
    "lora": MethodRules(
        "LoRA",
        "2106.09685",
        5e-4,
        switches=("rslora", "dora"),
        limits=(
            Limit(
                "DoRA",
                "it needs each layer's weights at every step, and those of int8 are not had back exactly",
                key="adapter.dora",
                nearest="quantization=nf4",
                switch="dora",
                quantizations=("int8",),
            ),
        ),
    ),
    "adalora": MethodRules("AdaLoRA", "2303.10512", 2e-3, prunes=True),
    "prefix": MethodRules(
        "prefix tuning",
        "2101.00190",
        5e-3,
        size_key="virtual_tokens",
        unit="virtual tokens",
        largest=MAX_VIRTUAL_TOKENS,
        factors=False,
        limits=(
            Limit(
                "prefix tuning",
                "the encoder that reads a text keeps no keys and values, among which a prefix could stand",
                key="adapter.method",
                nearest="adapter.method=lora",
                kinds=("encoder", "encoder-decoder"),
            ),
        ),
    ),
}
SWITCHES = tuple(dict.fromkeys(switch for rules in METHOD_RULES.values() for switch in rules.switches))
"""Keys that only some methods heed."""


def limit_of(
    method: Method, switches: Collection[str], quantization: str, kind: BaseKind | None = None
) -> Limit | None:
    """What stands against a cell of the matrix; None if it works.

    Args:
        method: of the adapter.
        switches: the keys of `SWITCHES` that are on.
        quantization: of the base.
        kind: of the base; None if it is not known yet: then only what works on no kind is refused.
    """
    kinds = set(get_args(BaseKind)) if kind is None else {kind}
    for limit in METHOD_RULES[method].limits:
        asked = not limit.switch or limit.switch in switches
        if asked and quantization in limit.quantizations and kinds <= set(limit.kinds):
            return limit
    return None
