"""How much memory a run has taken."""

import platform
import resource

import torch


def peak_memory_mb(device: torch.device | None = None) -> float:
    """Largest resident memory of this process so far, or what torch had allocated on a GPU, in MB (10^6 bytes).

    Args:
        device: of the base; this process's own memory by default.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if platform.system() == "Darwin" else peak * 1024 / 1e6
