"""Where a base's layers lie: all on one device, or a decoder's blocks on several, which a forward visits in turn.

Everything beside the blocks (embeddings, the last norm, the output head) is on one device, so that a forward begins and
ends there, and so do the engine's tokens, masks and scores. A block moves what it reads to its own device.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from shopfit.base.blocks import block_names
from shopfit.errors import BaseError

DeviceMap = str | Mapping[str, str | int]
"""Places by the names of modules, as accelerate takes it; or "auto"."""
_PLACES = "shopfit_places"  # the attribute of a model: devices of its blocks, by name
_AUTO = "auto"
_Places = tuple[torch.device, dict[str, torch.device]]


def device_of(model: Any, name: str) -> torch.device:
    """The device of a layer.

    Args:
        model: of transformers.
        name: of one of its modules.
    """
    places: Mapping[str, torch.device] = getattr(model, _PLACES, {})
    block = next((block for block in places if f"{name}.".startswith(f"{block}.")), None)
    device: torch.device = model.device if block is None else places[block]
    return device


def block_devices(model: Any) -> list[torch.device]:
    """The device of each block in turn; empty where all are on that of the model."""
    return list(getattr(model, _PLACES, {}).values())


def spread(name: str, model: Any, device_map: DeviceMap) -> None:
    """Move a model's parts to their devices.

    Args:
        name: of the base, for messages.
        model: of transformers, on the CPU.
        device_map: where to.

    Raises:
        BaseError: if it names no place for a part, one that is not there, or several where one is needed.
    """
    blocks = [] if model.get_output_embeddings() is None else block_names(model)  # a decoder's
    first, places = _balanced(model, blocks) if device_map == _AUTO else _asked(name, model, blocks, device_map)
    several = {first, *places.values()} != {first}
    if several and not blocks:
        raise _refused(name, "on several devices, and it has no row of blocks to spread (allowed: one device)")
    try:
        _move(name, model, first, places)
    except (RuntimeError, AssertionError) as error:
        raise _refused(name, f"where it cannot go: {str(error).splitlines()[0]}") from error
    if not several:
        return
    setattr(model, _PLACES, places)
    for block, place in places.items():
        model.get_submodule(block).register_forward_pre_hook(partial(_bring, place), with_kwargs=True)
    model.get_submodule(blocks[-1]).register_forward_hook(lambda _, __, output: _moved(output, first))


def _asked(name: str, model: Any, blocks: Sequence[str], device_map: DeviceMap) -> _Places:
    if isinstance(device_map, str):
        raise _refused(name, f"at {device_map!r:.60} (allowed: auto, or a device for each part by its name)")
    wanted = {part: _device(name, place) for part, place in device_map.items()}
    inside = next((part for part in wanted for block in blocks if part.startswith(f"{block}.")), None)
    if inside is not None:
        raise _refused(name, f"apart within a block: {inside} (allowed: places of whole blocks)")

    def place(part: str) -> torch.device:
        above = [key for key in wanted if not key or f"{part}.".startswith(f"{key}.")]
        if not above:
            raise _refused(name, f"nowhere: no place for {part}")
        return wanted[max(above, key=len)]

    beside = [part for part, module in model.named_modules() if _own(module) and not _within(part, blocks)]
    rest: dict[torch.device, str] = {}
    for part in beside:
        rest.setdefault(place(part), part)
    if len(rest) > 1:
        apart = ", ".join(f"{part} on {device}" for device, part in rest.items())
        raise _refused(name, f"on several devices beside its blocks: {apart} (allowed: one for all but the blocks)")
    return next(iter(rest)), {block: place(block) for block in blocks}


def _balanced(model: Any, blocks: Sequence[str]) -> _Places:
    """Blocks in turn on every GPU, as its free memory allows; the rest on the first one. On the CPU without any."""
    if not torch.cuda.is_available():
        return torch.device("cpu"), dict.fromkeys(blocks, torch.device("cpu"))
    gpus = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    sizes = [_bytes(model.get_submodule(block)) for block in blocks]
    rest = _bytes(model) - sum(sizes)
    return gpus[0], dict(zip(blocks, _shared_out(gpus, _free(gpus), sizes, rest), strict=True))


def _free(gpus: Sequence[torch.device]) -> list[int]:
    return [torch.cuda.mem_get_info(gpu)[0] for gpu in gpus]


def _shared_out(
    devices: Sequence[torch.device], free: Sequence[int], sizes: Sequence[int], rest: int
) -> list[torch.device]:
    """A device for each block: each device takes the share of all bytes that it has of the free memory."""
    whole, found, at, held = rest + sum(sizes), [], 0, float(rest)
    for size in sizes:
        while at < len(devices) - 1 and held + size / 2 > whole * free[at] / sum(free):
            at, held = at + 1, 0.0
        held += size
        found.append(devices[at])
    return found


def _bytes(module: nn.Module) -> int:
    return sum(weight.nbytes for weight in module.parameters())


def _move(name: str, model: Any, first: torch.device, places: Mapping[str, torch.device]) -> None:
    moved: dict[nn.Parameter, tuple[torch.device, nn.Parameter]] = {}  # tied weights stay one
    for part, module in model.named_modules():
        place = next((places[block] for block in places if _within(part, [block])), first)
        for key, weight in module._parameters.items():
            if weight is None:
                continue
            if weight not in moved:
                moved[weight] = place, nn.Parameter(weight.data.to(place), requires_grad=weight.requires_grad)
            there, module._parameters[key] = moved[weight]
            if there != place:
                raise _refused(name, f"apart where it shares weights: {part} (allowed: those parts on one device)")
        for key, buffer in module._buffers.items():
            module._buffers[key] = None if buffer is None else buffer.to(place)


def _own(module: nn.Module) -> bool:
    return any(part is not None for part in (*module._parameters.values(), *module._buffers.values()))


def _within(part: str, blocks: Sequence[str]) -> bool:
    return any(f"{part}.".startswith(f"{block}.") for block in blocks)


def _device(name: str, place: str | int) -> torch.device:
    try:
        device = torch.device("cuda", place) if isinstance(place, int) else torch.device(place)
    except RuntimeError:
        device = None
    if device is None or device.type not in {"cpu", "cuda"}:
        raise _refused(name, f"on {place!r:.60} (allowed: cpu, a GPU such as cuda:1, or its number)")
    return device


def _bring(place: torch.device, _: nn.Module, args: Any, kwargs: Any) -> Any:
    return _moved(args, place), _moved(kwargs, place)


def _moved(value: Any, place: torch.device) -> Any:
    """The value with its tensors on a device; caches and other objects as they are."""
    if isinstance(value, Tensor):
        return value.to(place)
    if type(value) in {tuple, list}:
        return type(value)(_moved(each, place) for each in value)
    if type(value) is dict:
        return {key: _moved(each, place) for key, each in value.items()}
    return value


def _refused(name: str, what: str) -> BaseError:
    return BaseError(
        f"the device map puts the base {name} {what}",
        next_step='use device_map="auto", one device, int8 or nf4 if it is too large; or let vLLM serve it',
    )
