"""A sharded base: every process has a part of each block's weights, and all of a block's only while it computes.

By torch's `fully_shard` (FSDP2) over the decoder's blocks; what lies beside them is whole on every process. An adapter
comes onto the base afterwards and is no part of it. A forward is an exchange: every process makes the same number.
"""

from typing import TYPE_CHECKING, Any

from shopfit.base.quantizing import is_packed
from shopfit.errors import BaseError

if TYPE_CHECKING:
    import torch

    from shopfit.recipe.methods import BaseKind

NEXT = "train with DDP (deploy/accelerate/ddp.yaml): each process then holds the whole base"
_PACKED = ("compress_statistics", "quant_type")  # that PEFT asks a 4-bit weight for


def check_shardable(name: str, kind: "BaseKind", quantization: str) -> None:
    """Refuse what cannot be sharded, before anything is loaded.

    Args:
        name: of the base, for messages.
        kind: of the base.
        quantization: of the base.

    Raises:
        BaseError: with the nearest that works.
    """
    if kind != "decoder":
        raise BaseError(f"the base {name} is no decoder but an {kind}; only decoders are sharded", next_step=NEXT)
    if quantization == "int8":
        raise BaseError(
            f"the base {name} cannot be sharded in int8 (allowed: none, nf4)",
            next_step="set `quantization` to nf4; or " + NEXT,
        )


def shard(name: str, model: Any, device: "torch.device | str") -> None:
    """Share a frozen decoder's blocks out among the processes of the run.

    Args:
        name: of the base, for messages.
        model: of transformers, on the CPU; the same on every process.
        device: of this process.

    Raises:
        BaseError: if it has no row of blocks.
    """
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    from shopfit.base.blocks import block_names
    from shopfit.base.output_head import backbone_of

    blocks = [model.get_submodule(block) for block in block_names(model)]
    if not blocks:
        raise BaseError(f"the base {name} has no row of blocks to shard", next_step=NEXT)
    place = torch.device(device)
    mesh = init_device_mesh(place.type, (torch.distributed.get_world_size(),))
    packed = {key: weight for key, weight in model.named_parameters() if is_packed(weight)}
    for weight in model.parameters() if packed else ():  # norms and embeddings are float32 then
        if not is_packed(weight) and weight.is_floating_point():
            weight.data = weight.data.float()
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    beside = {weight for weight in model.parameters() if not isinstance(weight, DTensor)}
    for weight in beside:
        weight.data = weight.data.to(place)
    for module in model.modules():
        for key, buffer in module._buffers.items():
            module._buffers[key] = None if buffer is None else buffer.to(place)
    # the blocks' root: it fetches one while another computes
    fully_shard(backbone_of(model), mesh=mesh, ignored_params=beside)
    with torch.inference_mode(mode=False):  # what a block is fetched into is made now: training could not use it
        for block in blocks:
            block.unshard()
            block.reshard()
    for key, weight in model.named_parameters():
        for trait in _PACKED if key in packed else ():
            setattr(weight, trait, getattr(packed[key], trait))


def release(model: Any) -> None:
    """Let go of this process's part of a sharded model, which computes nothing afterwards."""
    import torch
    from torch.distributed.tensor import DTensor

    for weight in model.parameters():
        if isinstance(weight, DTensor):
            weight.to_local().untyped_storage().resize_(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
