"""How a base is quantized by bitsandbytes: what the loader is told, and what a frozen base needs to be trained on.

On CPUs int8 is ours (`int8_layers`).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from shopfit.base.placement import DeviceMap


def quantization_config(quantization: str, dtype: "torch.dtype", *, sharded: bool) -> Any:
    """What transformers' loader takes.

    Args:
        quantization: "int8" or "nf4".
        dtype: that nf4 computes in.
        sharded: whether processes will share the weights out, which they can only where 4-bit numbers are kept in a
            type of floats: bytes stay whole on each of them.
    """
    import torch
    from transformers import BitsAndBytesConfig

    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=torch.bfloat16 if sharded else torch.uint8,
    )


def loading(
    quantization: str, dtype: "torch.dtype", device: str, device_map: "DeviceMap | None", *, sharded: bool
) -> dict[str, Any]:
    """What transformers' loader is told of a quantized base, and of where it goes.

    Args:
        quantization, dtype, sharded: as for `quantization_config`.
        device: of the whole base, where no map says otherwise.
        device_map: places by the names of modules.
    """
    place: Any = {"": "cpu" if sharded else device}
    if device_map is not None:
        place = device_map if isinstance(device_map, str) else dict(device_map)
    return {"quantization_config": quantization_config(quantization, dtype, sharded=sharded), "device_map": place}


def keep_trainable(model: Any) -> None:
    """Disable the layout that bitsandbytes packs CPU weights into when gradients are off: it has no backward, is never
    unpacked, and makes later gradients silently wrong.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def is_packed(weight: "torch.Tensor") -> bool:
    """Whether a weight's numbers stand for others, four bits each, whatever type they are kept in."""
    return hasattr(weight, "quant_state")
