"""Checks whether plain LoRA can equal the adapter that PEFT's adapter_config.json describes.

PEFT's LoRA has many options, and more with every release. So options that do not change inference are listed, so are
those that are converted, and any other that is set is refused by name.
"""

from collections.abc import Collection
from typing import Any

from shopfit.adapter.finite import finite_json
from shopfit.adapter.manifest_rules import printable
from shopfit.errors import BundleError, Problem
from shopfit.methods import METHODS
from shopfit.methods.lora import DEFAULT_RANK, PLAIN
from shopfit.methods.low_rank import DEFAULT_ALPHA, NO_PLAIN_FORM, LowRankMethod, shown

_PLAIN = "plain LoRA: one rank, lora_alpha equal to it, and nothing besides"
_CONVERT = "write the PEFT folder as plain LoRA with shopfit.adapter.weight_files.write_plain, and seal that as lora/"
_NO_DORA = "for vLLM and others train it again without adapter.dora; shopfit's engine and PEFT serve native/ as it is"
_OFF: tuple[Any, ...] = (None, False, "none", "", {}, [])
_HARMLESS = {
    *("peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "lora_dropout", "megatron_core", "qalora_group_size", "runtime_config", "eva_config"),
    *("fan_in_fan_out",),  # how the base stores its own weights
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),  # the weights' names say it
}
_KEEP_THE_BASE = (None, True, False, "gaussian", "eva", "orthogonal")  # init_lora_weights; others change base weights


def read_config(content: bytes, where: str) -> dict[str, Any]:
    """Read an adapter_config.json.

    Raises:
        BundleError: if it is no JSON object with finite numbers, or its peft_type is no string.
    """
    try:
        config = finite_json(content)
    except ValueError as error:
        raise BundleError(f"{where} cannot be read: {error}", next_step="bring the bundle again") from None
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        raise BundleError(f"{where} is not PEFT's configuration of an adapter", next_step="bring the bundle again")
    return config


def low_rank_method(config: dict[str, Any]) -> LowRankMethod | None:
    """The method of a configuration, if plain LoRA can equal it."""
    kinds = {method.peft_type: method for method in METHODS.values() if isinstance(method, LowRankMethod)}
    return kinds.get(config["peft_type"])


def check_convertible(config: dict[str, Any], modules: Collection[str], where: str, method: LowRankMethod) -> None:
    """Refuse a configuration that plain LoRA cannot follow exactly.

    Args:
        config: from `read_config`.
        modules: names of the modules that there are weights for.
        where: it is, for messages.
        method: of the configuration.

    Raises:
        BundleError: naming every key that prevents it.
    """
    problems = [
        Problem(printable(key), shown(value), "off: it has no plain LoRA form")
        for key, value in config.items()
        if key not in method.converted | _HARMLESS | {"init_lora_weights"} and value not in _OFF
    ]
    if (init := config.get("init_lora_weights", True)) not in _KEEP_THE_BASE:
        problems.append(Problem("init_lora_weights", shown(init), "one that leaves the base's weights as they are"))
    targets = config.get("target_modules")
    if isinstance(targets, list):
        strange = [name for name in modules if not any(f".{name}".endswith(f".{target}") for target in targets)]
        problems += [
            Problem("target_modules", f"does not name {printable(name, 200)}, which has weights")
            for name in strange[:20]
        ]
    if problems:
        raise BundleError(
            f"{where} asks for what this adapter cannot be served with",
            problems=problems,
            next_step=_NO_DORA if config.get("use_dora") is True else NO_PLAIN_FORM,
        )


def check_plain(config: dict[str, Any], rank: int, modules: Collection[str], where: str) -> None:
    """Refuse a configuration with which PEFT would compute other numbers than B A of the weights.

    Args:
        config: of a bundle's `lora/`.
        rank: of the weights.
        modules: names of the modules that there are weights for.
        where: it is, for messages.

    Raises:
        BundleError: naming what is not plain.
    """
    if config["peft_type"] != PLAIN.peft_type:
        kind = f"peft_type {shown(config['peft_type'])} (allowed: {PLAIN.peft_type})"
        raise BundleError(f"{where} has {kind}", next_step=_CONVERT)
    check_convertible(config, modules, where, PLAIN)
    said = {"r": config.get("r", DEFAULT_RANK), "lora_alpha": config.get("lora_alpha", DEFAULT_ALPHA)}
    problems = [
        Problem(key, shown(value), f"{rank}, the rank of the weights")
        for key, value in said.items()
        if type(value) not in {int, float} or value != rank
    ]
    problems += [
        Problem(key, shown(config[key]), "off")
        for key in ("use_rslora", "rank_pattern", "alpha_pattern")
        if config.get(key) not in _OFF
    ]
    if problems:
        raise BundleError(f"{where} is not that of {_PLAIN}", problems=problems, next_step=_CONVERT)
