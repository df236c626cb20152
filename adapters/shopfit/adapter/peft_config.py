"""What PEFT's adapter_config.json asks for, and whether plain LoRA can do it with the same numbers.

PEFT's LoRA has many switches, and more with every release. So what is known to leave the answer alone is listed, what
is converted is listed, and anything else that is switched on is refused by its name.
"""

import math
from collections.abc import Collection
from typing import Any

from shopfit.adapter.manifest_rules import printable
from shopfit.adapter.module_patterns import matches
from shopfit.adapter.numbers import finite_json
from shopfit.errors import BundleError, Problem

_PLAIN = "plain LoRA: one rank, lora_alpha equal to it, and nothing besides"
_CONVERT = "write the PEFT folder as plain LoRA with shopfit.adapter.files.write_plain, and seal that as lora/"
_NO_FORM = "train it again as LoRA or AdaLoRA, without what is named above"
_OFF: tuple[Any, ...] = (None, False, "none", "", {}, [])
ADALORA_EPSILON = 1e-5  # what PEFT adds to the rank it divides by
_MOST_PATTERNS = 1000
_DEFAULT_RANK, _DEFAULT_ALPHA = 8, 8  # where the file does not say
_SCALING = {"r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"}
_HARMLESS = {
    *("peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "lora_dropout", "megatron_core", "qalora_group_size", "runtime_config", "eva_config"),
    *("fan_in_fan_out",),  # how the base keeps its own weights
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),  # the weights tell themselves
}
_ADALORA = {
    *("r", "lora_alpha", "init_r", "target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight"),
    *("total_step", "rank_pattern"),  # which singular values are left, as the weights say too
}
_KEEP_THE_BASE = (None, True, False, "gaussian", "eva", "orthogonal")  # init_lora_weights; others change its weights


def read_config(content: bytes, where: str) -> dict[str, Any]:
    """Read an adapter_config.json.

    Raises:
        BundleError: if it is no JSON object with finite numbers, or its peft_type is no text.
    """
    try:
        config = finite_json(content)
    except ValueError as error:
        raise BundleError(f"{where} cannot be read: {error}", next_step="bring the bundle again") from None
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        raise BundleError(f"{where} is not PEFT's configuration of an adapter", next_step="bring the bundle again")
    return config


def check_convertible(config: dict[str, Any], modules: Collection[str], where: str) -> None:
    """Refuse a LoRA or AdaLoRA configuration that plain LoRA cannot follow exactly.

    Args:
        config: from `read_config`.
        modules: names of the modules that there are weights for.
        where: it is, for messages.

    Raises:
        BundleError: naming every key that stands in the way.
    """
    converted = _SCALING if config["peft_type"] == "LORA" else _ADALORA
    problems = [
        Problem(printable(key), _shown(value), "off: it has no plain LoRA form")
        for key, value in config.items()
        if key not in converted | _HARMLESS | {"init_lora_weights"} and value not in _OFF
    ]
    if (init := config.get("init_lora_weights", True)) not in _KEEP_THE_BASE:
        problems.append(Problem("init_lora_weights", _shown(init), "one that leaves the base's weights as they are"))
    targets = config.get("target_modules")
    if isinstance(targets, list):
        strange = [name for name in modules if not any(f".{name}".endswith(f".{target}") for target in targets)]
        problems += [
            Problem("target_modules", f"does not name {printable(name, 200)}, which has weights")
            for name in strange[:20]
        ]
    if problems:
        raise BundleError(
            f"{where} asks for what this adapter cannot be served with", problems=problems, next_step=_NO_FORM
        )


def rank_and_scale(config: dict[str, Any], module: str, where: str) -> tuple[int, float]:
    """What PEFT makes of a LoRA configuration for one module.

    Args:
        config: from `read_config`.
        module: its name in the base's model.
        where: it is, for messages.

    Returns:
        its rank, and the factor of its update.

    Raises:
        BundleError: if a number or a pattern is none, or a pattern uses what `module_patterns` does not read.
    """
    rank = _matched(config, "rank_pattern", module, config.get("r", _DEFAULT_RANK), where)
    alpha = _matched(config, "alpha_pattern", module, config.get("lora_alpha", _DEFAULT_ALPHA), where)
    if type(rank) is not int or rank < 1 or type(alpha) not in {int, float}:
        problem = f"r={_shown(rank)} and lora_alpha={_shown(alpha)} for {module}"
        raise BundleError(f"{where} has {problem} (allowed: a whole number from 1, and a number)", next_step=_NO_FORM)
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def adalora_scale(config: dict[str, Any], where: str) -> float:
    """The factor of an AdaLoRA update, as PEFT computes it.

    Raises:
        BundleError: if `lora_alpha` or `init_r` is no number that it can be.
    """
    alpha, rank = config.get("lora_alpha", _DEFAULT_ALPHA), config.get("init_r", 12)
    if type(rank) is not int or rank < 1 or type(alpha) not in {int, float} or alpha <= 0:
        raise BundleError(
            f"{where} has init_r={_shown(rank)} and lora_alpha={_shown(alpha)} (allowed: numbers above 0)",
            next_step=_NO_FORM,
        )
    return float(alpha) / (rank + ADALORA_EPSILON)


def check_plain(config: dict[str, Any], rank: int, modules: Collection[str], where: str) -> None:
    """Refuse a configuration by which PEFT would compute other numbers than the weights alone say.

    Args:
        config: of a bundle's `lora/`.
        rank: of the weights.
        modules: names of the modules that there are weights for.
        where: it is, for messages.

    Raises:
        BundleError: naming what is not plain.
    """
    if config["peft_type"] != "LORA":
        raise BundleError(f"{where} has peft_type {_shown(config['peft_type'])} (allowed: LORA)", next_step=_CONVERT)
    check_convertible(config, modules, where)
    said = {"r": config.get("r", _DEFAULT_RANK), "lora_alpha": config.get("lora_alpha", _DEFAULT_ALPHA)}
    problems = [
        Problem(key, _shown(value), f"{rank}, the rank of the weights")
        for key, value in said.items()
        if type(value) not in {int, float} or value != rank
    ]
    problems += [
        Problem(key, _shown(config[key]), "off")
        for key in ("use_rslora", "rank_pattern", "alpha_pattern")
        if config.get(key) not in _OFF
    ]
    if problems:
        raise BundleError(f"{where} is not that of {_PLAIN}", problems=problems, next_step=_CONVERT)


def _matched(config: dict[str, Any], key: str, module: str, default: object, where: str) -> Any:
    """As PEFT does: the first pattern that ends the module's name, else the default."""
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict):
        raise BundleError(f"{where} has {key}={_shown(patterns)} (allowed: numbers by pattern)", next_step=_NO_FORM)
    if len(patterns) > _MOST_PATTERNS:
        raise BundleError(f"{where} has {len(patterns)} of {key} (allowed: {_MOST_PATTERNS})", next_step=_NO_FORM)
    for pattern, value in patterns.items():
        try:
            if matches(pattern, module):
                return value
        except ValueError as error:
            raise BundleError(f"{where} has the {key} {_shown(pattern)}: {error}", next_step=_NO_FORM) from None
    return default


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
