"""What Accelerate's configuration may ask of a training: DDP, or FSDP2 to shard the base.

Accelerate runs DDP in silence where it is asked for FSDP on a CPU, and most of what it says of FSDP is about a model
that it wraps. Here only the frozen base is sharded, and the adapter is whole on every process (see
`shopfit.base.sharding`): what would mean nothing is refused.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shopfit.base.sharding import NEXT
from shopfit.errors import Problem, ShopfitError
from shopfit.settings import sharded_by

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.utils import FullyShardedDataParallelPlugin

_FSDP, _FILE = "FSDP", "deploy/accelerate/fsdp2.yaml"


def shards(accelerator: "Accelerator") -> bool:
    """Whether the run's processes share the base's weights out."""
    return bool(accelerator.distributed_type.value == _FSDP)


def as_asked(precision: str, log_folder: str | None, *, shards: bool) -> "Accelerator":
    """An Accelerator as Accelerate is configured.

    Args:
        precision: "no", "bf16" or "fp16".
        log_folder: where trackers write.
        shards: whether the base may be sharded.

    Raises:
        ShopfitError: if it was asked for what is not done here, or does something else; with every setting that must
            change.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    asked = sharded_by()
    _check_asked(asked, shards=shards)
    AcceleratorState._reset_state()  # global, and an earlier run may have had another precision
    try:
        accelerator = Accelerator(mixed_precision=precision, project_dir=log_folder)
    except (RuntimeError, ValueError) as error:
        if not asked:
            raise
        raise ShopfitError(
            f"Accelerate refuses its configuration of FSDP: {error}", next_step=f"start from {_FILE}; or {NEXT}"
        ) from error
    if asked:
        _check_done(accelerator)
    return accelerator


def _check_asked(asked: str, *, shards: bool) -> None:
    if asked not in {"", _FSDP}:
        raise ShopfitError(
            f"Accelerate is configured for {asked}, which is not supported (allowed: DDP, FSDP2)",
            next_step=f"FSDP2 shards a frozen base as ZeRO-3 does: `accelerate launch --config_file {_FILE}`",
        )
    if asked and not shards:
        raise ShopfitError(
            "Accelerate is configured for FSDP, which this command cannot do: `shopfit adapter` alone shards its base",
            next_step=NEXT,
        )


def _check_done(accelerator: "Accelerator") -> None:
    if not shards(accelerator):
        raise ShopfitError(
            f"Accelerate was asked for FSDP and runs {accelerator.distributed_type.value} on {accelerator.device}, "
            f"processes: {accelerator.num_processes}",
            next_step="FSDP takes a GPU for each of two processes or more; " + NEXT,
        )
    problems = list(problems_of(accelerator.state.fsdp_plugin))
    if problems:
        raise ShopfitError(
            "Accelerate's configuration of FSDP asks for what is not done here",
            problems=problems,
            next_step=f"start from {_FILE}",
        )


def problems_of(plugin: "FullyShardedDataParallelPlugin") -> Iterator[Problem]:
    """Settings of Accelerate's FSDP that would mean something else here, or nothing."""
    if plugin.fsdp_version != 2:
        yield Problem("fsdp_version", str(plugin.fsdp_version), "2")
    elif not plugin.reshard_after_forward:
        yield Problem("fsdp_reshard_after_forward", "false", "true")
    if getattr(plugin.cpu_offload, "offload_params", False) or type(plugin.cpu_offload).__name__ == "CPUOffloadPolicy":
        yield Problem("fsdp_offload_params", "true", "false; `quantization: nf4` takes a quarter of the memory")
    if plugin.cpu_ram_efficient_loading:
        yield Problem("fsdp_cpu_ram_efficient_loading", "true", "false: processes map the base's files together")
    if plugin.activation_checkpointing:
        yield Problem("fsdp_activation_checkpointing", "true", "false, and `--set tune.gradient_checkpointing=true`")
