"""Adapter weights on disk: the PEFT folder as trained, and the same adapter as plain LoRA, if it has that form.

Plain means: one rank, the scale folded into B, `lora_alpha == r`, no patterns, no dropout. vLLM, SGLang, LoRAX and PEFT
then all compute the same numbers from it, however they treat alpha, rank patterns or AdaLoRA's singular values.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, assert_never

import torch
from safetensors import SafetensorError, deserialize
from safetensors.torch import load, save_file
from torch import Tensor

from shopfit.adapter.peft_config import check_convertible, check_plain, low_rank_method, read_config
from shopfit.adapter.safe_reading import read_file
from shopfit.errors import BundleError
from shopfit.methods import METHODS, Form
from shopfit.methods.lora import PLAIN
from shopfit.methods.method import Factors, NormScales
from shopfit.recipe.adapter_section import Adapter
from shopfit.recipe.methods import MAX_VIRTUAL_TOKENS

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NORM_SCALES = "norm_scales.safetensors"  # beside PEFT's files of DoRA
_PEFT_PREFIX = "base_model.model."
_MAGNITUDE = ".lora_magnitude_vector"
_AGAIN = "bring the bundle again, or train it again"
_KINDS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}


def write_native(peft: Any, folder: Path, base_name: str) -> None:
    """Write PEFT's own folder, without paths of this machine.

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


def write_norm_scales(folder: Path, norm_scales: NormScales) -> None:
    """Write DoRA's factors of the base's outputs beside PEFT's files, so that no engine has to compute them.

    They are of the base in the numeric form that the adapter was trained on.

    Args:
        folder: as `write_native` left it.
        norm_scales: of a trained adapter; of one that is not DoRA there are none, and nothing is written.
    """
    if norm_scales:
        weights = {layer: scales.to("cpu", torch.float32).contiguous() for layer, scales in norm_scales.items()}
        save_file(weights, folder / NORM_SCALES, metadata={"format": "pt"})


def write_served(native: Path, plain: Path, settings: Adapter) -> int:
    """Write the form that engines serve, if it is not the PEFT folder itself, as for DoRA and prefix tuning.

    Args:
        native: as `write_native` left it.
        plain: folder for plain LoRA, if the method has that form.
        settings: a recipe's `adapter` section.

    Returns:
        the rank of the served adapter, or its number of virtual tokens.
    """
    method = METHODS[settings.method]
    match method.form:
        case Form.FACTORS:
            return method.size(settings) if method.no_plain_form(settings) else write_plain(native, plain)
        case Form.PREFIX:
            return method.size(settings)
        case other:
            assert_never(other)


def write_plain(native: Path, folder: Path) -> int:
    """Convert the folder of a low-rank method, exactly, to plain LoRA.

    Args:
        native: as `write_native` left it.
        folder: for plain LoRA.

    Returns:
        its rank.

    Raises:
        BundleError: if plain LoRA cannot equal it: as with DoRA, biases, or an initialisation that changed the
            base's weights.
    """
    config = read_config(_content(native / CONFIG), str(native / CONFIG))
    method, where = low_rank_method(config), str(native / WEIGHTS)
    if method is None:
        kind = f"{config['peft_type'][:80]!r}"
        raise BundleError(f"{native} holds {kind}, which has no plain LoRA form", next_step="train it as LoRA")
    tensors = read_tensors(_content(native / WEIGHTS), where)
    names = [_module_of(name)[0].removeprefix(_PEFT_PREFIX) for name in tensors]
    check_convertible(config, names, str(native / CONFIG), method)
    modules = _modules(tensors, where, parts=method.parts)
    pairs = {
        module: method.plain(parts, config, module.removeprefix(_PEFT_PREFIX), where)
        for module, parts in modules.items()
    }
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
            "peft_type": PLAIN.peft_type,
            "task_type": config.get("task_type"),
            "base_model_name_or_path": config.get("base_model_name_or_path"),
            "inference_mode": True,
            "r": rank,
            "lora_alpha": rank,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": sorted({module.rpartition(".")[2] for module in kept}),
        },
    )
    return rank


def form_note(settings: Adapter) -> str:
    """A note for an adapter that takes a slot here, but that no plain LoRA equals; empty for all but DoRA.

    Args:
        settings: a recipe's `adapter` section.
    """
    why = METHODS[settings.method].no_plain_form(settings)
    return f"; {why}" if why else ""


def read_plain(content: bytes, where: str, config: bytes | None = None) -> dict[str, tuple[Tensor, Tensor]]:
    """Read the weights that `write_plain` wrote.

    Args:
        content: of the weights' file.
        where: it is, for messages.
        config: content of the adapter_config.json beside it, which must agree; None if there is none.

    Returns:
        A (r, in) and B (out, r) of each layer, by its name in the base's model; r is one for all.

    Raises:
        BundleError: if it holds anything else.
    """
    modules = _modules(read_tensors(content, where), where, parts=PLAIN.parts, prefix=_PEFT_PREFIX)
    ranks = {parts["A"].shape[0] for parts in modules.values()}
    if len(ranks) != 1 or 0 in ranks:
        shown = ", ".join(map(str, sorted(ranks)[:10]))
        raise BundleError(f"{where} has layers of rank {shown} (allowed: one rank, from 1)", next_step=_AGAIN)
    if config is not None:
        place = where.replace(WEIGHTS, CONFIG)
        check_plain(read_config(config, place), ranks.pop(), modules.keys(), place)
    return {layer: (parts["A"], parts["B"]) for layer, parts in modules.items()}


def read_dora(content: bytes, where: str, config: bytes | None, norm_scales: bytes) -> tuple[Factors, NormScales]:
    """Read a DoRA adapter as `write_native` and `write_norm_scales` wrote it.

    Args:
        content: of the weights' file.
        where: it is, for messages.
        config: content of the adapter_config.json beside it; None if there is none.
        norm_scales: content of `NORM_SCALES` beside it.

    Returns:
        A (r, in) and B (out, r) of each layer, scale and norm scale folded into B, and the norm scales, (out,).

    Raises:
        BundleError: if it holds anything else, or settings besides DoRA that plain LoRA cannot follow.
    """
    place, beside = where.replace(WEIGHTS, CONFIG), where.replace(WEIGHTS, NORM_SCALES)
    if config is None:
        raise BundleError(f"{place} is missing", next_step=_AGAIN)
    # the magnitudes went into the norm scales
    tensors = {key: weight for key, weight in read_tensors(content, where).items() if not key.endswith(_MAGNITUDE)}
    modules = _modules(tensors, where, parts=PLAIN.parts, prefix=_PEFT_PREFIX)
    said = read_config(config, place)
    if said["peft_type"] != PLAIN.peft_type or said.pop("use_dora", None) is not True:
        raise BundleError(f"{place} is not that of DoRA, which {beside} is for", next_step=_AGAIN)
    check_convertible(said, modules.keys(), place, PLAIN)
    scales = {layer: scale.float() for layer, scale in read_tensors(norm_scales, beside).items()}
    if scales.keys() != modules.keys():
        strange = scales.keys() ^ modules.keys()
        raise BundleError(f"{beside} and {where} do not agree on {_listed(strange)}", next_step=_AGAIN)
    factors = {}
    for layer, parts in modules.items():
        down, up = PLAIN.plain(parts, said, layer, where)
        if scales[layer].shape != (len(up),):
            shape = tuple(scales[layer].shape)
            raise BundleError(
                f"{beside} has shape {shape} for {_shown(layer)} (allowed: ({len(up)},))", next_step=_AGAIN
            )
        factors[layer] = down, up * scales[layer][:, None]
    return factors, scales


def read_prefix(content: bytes, where: str, layers: int, heads: int, dim: int) -> Tensor:
    """Read a trained prefix as `write_native` wrote it.

    Args:
        content: of the weights' file.
        where: it is, for messages.
        layers: of the base.
        heads: key and value heads a layer.
        dim: numbers of a key or value in a head.

    Returns:
        (layers, 2, heads, n, dim) keys and values of n virtual tokens, float32.

    Raises:
        BundleError: if it holds anything else, or a prefix for a base of another shape.
    """
    tensors = read_tensors(content, where)
    flat = tensors.get("prompt_embeddings")
    if flat is None or flat.dim() != 2 or len(tensors) != 1:
        raise BundleError(f"{where} holds {_listed(tensors)}, which is no trained prefix", next_step=_AGAIN)
    if flat.shape[1] != 2 * layers * heads * dim:
        raise BundleError(
            f"{where} holds a prefix of {flat.shape[1]} numbers a token, which does not fit "
            f"{layers} layers of {heads} key and value heads of {dim}",
            next_step="train it again on this base",
        )
    if not 1 <= len(flat) <= MAX_VIRTUAL_TOKENS:
        raise BundleError(f"{where} holds {len(flat)} virtual tokens (allowed: 1 to {MAX_VIRTUAL_TOKENS})")
    # PEFT stores a token as (layers * 2, heads, dim), keys and values alternating
    parts = flat.float().view(len(flat), layers, 2, heads, dim)
    return parts.permute(1, 2, 3, 0, 4).contiguous()


def read_tensors(content: bytes, where: str) -> dict[str, Tensor]:
    """Read a safetensors file of floating-point numbers.

    Args:
        content: of the file.
        where: it is, for messages.

    Raises:
        BundleError: if it is not a safetensors file, or holds other types.
    """
    try:
        read = deserialize(content)  # type: ignore[no-untyped-call]
        if all(tensor["dtype"] in _KINDS and tensor["data"] for _, tensor in read):  # takes a fifth of `load`'s time
            return {name: _tensor(**tensor) for name, tensor in read}
        tensors = load(content)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        reason = f"{_shown(str(error))} is no type of numbers here" if isinstance(error, KeyError) else str(error)[:200]
        raise BundleError(f"the weights in {where} cannot be read: {reason}", next_step=_AGAIN) from error
    for name, tensor in tensors.items():
        if tensor.dtype not in _KINDS.values():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise BundleError(
                f"{where} holds {_shown(name)} as {kind} (allowed: float32, float16, bfloat16, float64)",
                next_step=_AGAIN,
            )
    return tensors


def _tensor(dtype: str, data: bytearray, shape: list[int]) -> Tensor:
    return torch.frombuffer(data, dtype=_KINDS[dtype]).view(shape)


def _content(path: Path) -> bytes:
    content = read_file(path)
    if content is None:
        raise BundleError(f"{path} is missing", next_step="give a folder that PEFT's save_pretrained wrote")
    return content


def _modules(tensors: dict[str, Tensor], where: str, *, parts: str, prefix: str = "") -> dict[str, dict[str, Tensor]]:
    """A, B and for AdaLoRA E of each module in float32, by its name without the prefix that all names must have."""
    modules: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        module, part = _module_of(key)
        if part not in parts or not module.startswith(prefix) or module == prefix:
            raise BundleError(f"{where} holds {_shown(key)}, which is no LoRA weight", next_step=_AGAIN)
        mine = modules.setdefault(module.removeprefix(prefix), {})
        if part in mine:
            raise BundleError(f"{where} holds {_shown(key)} under two names", next_step=_AGAIN)
        mine[part] = tensor.float()
    if not modules:
        raise BundleError(f"{where} holds no LoRA weights", next_step=_AGAIN)
    for module, mine in modules.items():
        _check_module(module, mine, where, parts)
    return modules


def _check_module(module: str, mine: dict[str, Tensor], where: str, parts: str) -> None:
    if missing := [part for part in parts if part not in mine]:
        halves = " and ".join(f"lora_{part}" for part in missing)
        raise BundleError(f"{where} has no {halves} for {_shown(module)}, only half of an update", next_step=_AGAIN)
    a, b = mine["A"], mine["B"]
    fits = a.dim() == b.dim() == 2 and a.shape[0] == b.shape[1]
    if fits and "E" in parts:
        fits = mine["E"].shape == (len(a), 1)
    if not fits:
        shapes = ", ".join(f"lora_{part} {tuple(mine[part].shape)}" for part in parts)
        wanted = "lora_A (rank, in), lora_B (out, rank)" + (", lora_E (rank, 1)" if "E" in parts else "")
        raise BundleError(f"{where} has {shapes} for {_shown(module)} (allowed: {wanted})", next_step=_AGAIN)


def _module_of(key: str) -> tuple[str, str]:
    """The module of a weight, and which part of it this is: A, B or E; an empty part if it is no LoRA weight."""
    module, found, part = key.removesuffix(".weight").rpartition(".lora_")
    return (module, part) if found and part in {"A", "B", "E"} else (key, "none")


def _write_config(folder: Path, config: dict[str, Any]) -> None:
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(_shown(name) for name in sorted(names)[:5]) or "nothing"


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 200 else f"{name[:200]}…")
