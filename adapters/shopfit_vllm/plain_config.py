"""What `adapter_config.json` in `lora/` may say, so that vLLM computes B A of its weights and nothing else."""

from typing import Any

from shopfit.adapter.finite import finite_json
from shopfit.adapter.manifest_rules import printable
from shopfit.errors import Problem

_OFF: tuple[Any, ...] = (None, False, "none", "", {}, [])
_HARMLESS = {"task_type", "base_model_name_or_path", "inference_mode", "lora_dropout", "target_modules"}


def config_problems(content: bytes, rank: int) -> list[Problem]:
    """Why a configuration is not that of plain LoRA; empty if it is.

    Args:
        content: of the file.
        rank: of the weights.
    """
    try:
        config = finite_json(content)
    except ValueError as error:
        return [Problem("adapter_config.json", f"cannot be read: {printable(str(error))}")]
    if not isinstance(config, dict):
        return [Problem("adapter_config.json", "is no object")]
    wanted = {"peft_type": "LORA", "r": rank, "lora_alpha": rank}
    problems = [
        Problem(key, printable(repr(config.get(key))), str(value))
        for key, value in wanted.items()
        if type(config.get(key)) is not type(value) or config[key] != value
    ]
    targets = config.get("target_modules")
    if not isinstance(targets, list) or not targets or not all(isinstance(each, str) for each in targets):
        problems.append(Problem("target_modules", printable(repr(targets)), "a list of names"))
    return problems + [
        Problem(printable(key), printable(repr(value)), "off")
        for key, value in config.items()
        if key not in wanted.keys() | _HARMLESS and value not in _OFF
    ]
