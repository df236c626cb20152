"""Adapter weights on disk: the PEFT folder as trained, and the same adapter as plain LoRA.

Plain means: one rank, the scale folded into B, `lora_alpha == r`, no patterns, no dropout. vLLM, SGLang, LoRAX and PEFT
then all compute the same numbers from it, whatever they make of alpha, rank patterns or AdaLoRA's singular values.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from shopfit.errors import BundleError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<part>[ABE])(?:\.weight)?")
_PEFT_PREFIX = "base_model.model."
ADALORA_EPSILON = 1e-5  # what PEFT adds to the rank it divides by


def write_native(peft: Any, folder: Path, base_name: str) -> None:
    """Write PEFT's own folder, without what it would add of this machine.

    Args:
        peft: PEFT's model, its adapter called "default".
        folder: made if need be.
        base_name: written in place of the base's path.
    """
    peft.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base_name
    _write_config(folder, config)


def write_plain(native: Path, folder: Path) -> int:
    """Convert a LoRA or AdaLoRA folder, exactly, to plain LoRA.

    Args:
        native: as `write_native` left it.
        folder: where the plain one goes.

    Returns:
        its rank.

    Raises:
        BundleError: if `native` holds neither LoRA nor AdaLoRA.
    """
    config = json.loads((native / CONFIG).read_text(encoding="utf-8"))
    modules = _read_modules((native / WEIGHTS).read_bytes(), str(native / WEIGHTS))
    factors = {"LORA": _lora_factors, "ADALORA": _adalora_factors}.get(config["peft_type"])
    if factors is None:
        raise BundleError(f"{native} holds {config['peft_type']}, which has no plain LoRA form")
    pairs = {module: factors(parts, config) for module, parts in modules.items()}
    kept = {module: pair for module, pair in pairs.items() if len(pair[0])} or dict(list(pairs.items())[:1])
    rank = max(1, *(len(a) for a, _ in kept.values()))
    weights = {}
    for module, (a, b) in sorted(kept.items()):
        weights[f"{module}.lora_A.weight"] = torch.nn.functional.pad(a, (0, 0, 0, rank - len(a))).contiguous()
        weights[f"{module}.lora_B.weight"] = torch.nn.functional.pad(b, (0, rank - b.shape[1])).contiguous()
    folder.mkdir(parents=True)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    _write_config(
        folder,
        {
            "peft_type": "LORA",
            "task_type": config["task_type"],
            "base_model_name_or_path": config["base_model_name_or_path"],
            "inference_mode": True,
            "r": rank,
            "lora_alpha": rank,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": sorted({module.rpartition(".")[2] for module in kept}),
        },
    )
    return rank


def read_plain(content: bytes, where: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Read the weights that `write_plain` wrote.

    Args:
        content: of the weights' file.
        where: it is, for messages.

    Returns:
        A (r, in) and B (out, r) of each layer, by its name in the base's model.

    Raises:
        BundleError: if it holds anything else.
    """
    modules = _read_modules(content, where, _PEFT_PREFIX)
    return {layer: (parts["A"], parts["B"]) for layer, parts in modules.items()}


def read_prefix(content: bytes, where: str, layers: int, heads: int) -> Tensor:
    """Read a trained prefix as `write_native` wrote it.

    Args:
        content: of the weights' file.
        where: it is, for messages.
        layers: of the base.
        heads: key and value heads a layer.

    Returns:
        (layers, 2, heads, n, dim) keys and values of n virtual tokens, float32.

    Raises:
        BundleError: if it holds anything else, or a prefix for a base of another shape.
    """
    tensors = read_tensors(content, where)
    flat = tensors.get("prompt_embeddings")
    if flat is None or flat.dim() != 2 or len(tensors) != 1:
        raise BundleError(f"{where} holds {', '.join(sorted(tensors)) or 'nothing'}, which is no trained prefix")
    if flat.shape[1] % (2 * layers * heads):
        raise BundleError(f"{where} holds a prefix that does not fit {layers} layers of {heads} key and value heads")
    # PEFT lays a token's numbers out as (layers * 2, heads, dim), keys and values in turn
    parts = flat.float().view(len(flat), layers, 2, heads, -1)
    return parts.permute(1, 2, 3, 0, 4).contiguous()


def read_tensors(content: bytes, where: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        BundleError: if it is none.
    """
    try:
        return load(content)
    except SafetensorError as error:
        raise BundleError(
            f"the weights in {where} cannot be read: {error}", next_step="bring the bundle again, or train it again"
        ) from error


def _read_modules(content: bytes, where: str, prefix: str = "") -> dict[str, dict[str, Tensor]]:
    """A, B and E of each module in float32, by its name less the prefix that all names must have."""
    modules: dict[str, dict[str, Tensor]] = {}
    for key, tensor in read_tensors(content, where).items():
        if not key.startswith(prefix) or not (match := _KEY.fullmatch(key.removeprefix(prefix))):
            raise BundleError(f"{where} holds {key!r}, which is no LoRA weight")
        modules.setdefault(match["module"], {})[match["part"]] = tensor.float()
    return modules


def _lora_factors(parts: dict[str, Tensor], config: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """A (r, in) and B (out, r) with the scale in B."""
    rank = config["r"]
    scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    return parts["A"], parts["B"] * scale


def _adalora_factors(parts: dict[str, Tensor], config: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """A (r, in) and B (out, r) of B diag(E) A: pruned singular values go, the others move into A."""
    keep = (parts["E"] != 0).squeeze(1)
    scale = config["lora_alpha"] / (config["init_r"] + ADALORA_EPSILON)
    return (parts["E"] * parts["A"])[keep], parts["B"][:, keep] * scale


def _write_config(folder: Path, config: dict[str, Any]) -> None:
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
