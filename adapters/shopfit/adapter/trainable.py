"""An adapter being trained on a base, whichever its method: attach, train, save, detach.

PEFT does the work; `methods` adds what PEFT leaves to its callers. Whatever the method, callers see an `AdaptedModel`:
a model with, maybe, a prefix or a head.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shopfit.adapter.head import Head
from shopfit.adapter.initial_weights import Start
from shopfit.adapter.layer_lock import Training, turns_of
from shopfit.adapter.trained_weights import TrainedWeights
from shopfit.adapter.trunk import Trunk, trunk_below
from shopfit.adapter.weight_files import write_native, write_norm_scales
from shopfit.base.adaptable import adaptable_layers, has_experts, linear_layers
from shopfit.base.blocks import block_names
from shopfit.base.load import Base
from shopfit.base.prefix import Prefix
from shopfit.base.scoring.scorer import QuestionBatch
from shopfit.errors import BaseError, Diverged, Problem, RecipeError
from shopfit.libraries import compiled_late
from shopfit.methods import METHODS, PeftMethod
from shopfit.methods.limits import check_limits
from shopfit.methods.method import Beginning, Form
from shopfit.recipe.adapter_section import Adapter

MARKS = ("peft_config", "_hf_peft_config_loaded")  # what PEFT leaves on a model that it has layers in


class TrainableAdapter(TrainedWeights):
    """An adapter on a base, being trained.

    Args:
        base: the base, already wrapped by PEFT in `peft`.
        method: of the adapter.
        peft: PEFT's model.
        training: exclusive use of the base's layers.
    """

    def __init__(self, base: Base, method: PeftMethod, peft: Any, training: Training) -> None:
        self.base = base
        self.peft = peft
        self._method = method
        self._training = training
        self._on_base = True
        self.trunk: Trunk | None = None
        self.prototypes: nn.Parameter | None = None
        self._labels: tuple[str, ...] = ()
        self._biases: Tensor | None = None
        self.offsets: tuple[float, ...] = ()

    @property
    def head(self) -> Head | None:
        """The classifier head; None except for `choose` on an encoder."""
        return None if self.prototypes is None else Head(self._labels, self.prototypes, self._biases)

    def train_head(self, head: Head) -> None:
        """Train this head's prototypes as well, on the base's device."""
        device = self.base.device
        self._labels, self.prototypes = head.labels, nn.Parameter(head.prototypes.to(device, copy=True))
        self._biases = None if head.biases is None else head.biases.to(device)

    @property
    def model(self) -> Any:
        """The causal language model or the encoder, with the adapter in it."""
        return self.peft.get_base_model()

    def prefix(self, rows: int) -> Prefix | None:
        """The trained prefix for `rows` rows; None except for prefix tuning."""
        return self._method.prefix(self.peft, rows)

    @contextmanager
    def reading(self, batch: QuestionBatch) -> Iterator[None]:
        """A context for forwards over a batch in training, which begin behind the blocks that no adapter changes, where
        these have read the batch's texts before.
        """
        with nullcontext() if self.trunk is None else self.trunk.reading(batch):
            yield

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trainable parameters."""
        weights = (weight for weight in self.peft.parameters() if weight.requires_grad)
        return weights if self.prototypes is None else chain(weights, [self.prototypes])

    def up_projections(self) -> list[nn.Parameter]:
        """As of all weights; the method says which."""
        return self._method.up_projections(self.peft)

    def ranks(self) -> dict[str, int]:
        """The rank that each layer has now, where training changes it, as AdaLoRA's does."""
        return self._method.ranks(self.peft)

    def size(self) -> int:
        """Number of trainable parameters."""
        return sum(weight.numel() for weight in self.parameters())

    def penalty(self) -> Tensor | float:
        """The method's term of the loss, such as AdaLoRA's orthogonality penalty."""
        return self._method.penalty(self.peft)

    def after_step(self, step: int) -> None:
        """To be called after each optimizer step, before the gradients are cleared; `step` counts from 1."""
        self._method.after_step(self.peft, step)

    def settled(self, step: int) -> bool:
        """As of all weights; the method says so."""
        return self._method.settled(self.peft, step)

    def averages(self) -> dict[str, Tensor]:
        """As of all weights; the method has them."""
        return self._method.averages(self.peft)

    def put_averages(self, averages: Mapping[str, Tensor]) -> None:
        """Put back what `averages` returned."""
        self._method.put_averages(self.peft, averages)

    def check(self) -> None:
        """Refuse weights that are NaN or infinite after training.

        Raises:
            Diverged: naming the first layer with such numbers.
        """
        weights = chain(self.peft.named_parameters(), [] if self.prototypes is None else [("head", self.prototypes)])
        for name, weight in weights:
            if weight.requires_grad and not torch.isfinite(weight).all():
                layer = name.removeprefix("base_model.model.").replace(".default", "")
                raise Diverged(
                    f"the training diverged: {layer} has numbers that are not finite",
                    next_step="lower tune.lr (a tenth of it is a good try), or adapter.alpha; nothing was registered",
                )

    def save(self, folder: Path) -> None:
        """Write the PEFT folder (adapter_config.json, adapter_model.safetensors), and beside them DoRA's norm scales.

        Raises:
            Diverged: if training diverged.
        """
        self.check()
        write_native(self.peft, folder, self.base.name)
        write_norm_scales(folder, self._method.norm_scales(self.peft))

    def detach(self) -> None:
        """Remove the adapter, if it is still there; the base is as it was before."""
        if not self._on_base:
            return
        self._on_base = False
        self._method.unload(self.peft)
        if self.base.model.is_activation_checkpointing:
            self.base.model.activation_checkpointing_disable()
        _free(self.base, self._training)

    @contextmanager
    def detached_on_error(self) -> Iterator[None]:
        """A context for what needs the adapter on its base: whatever is raised, the base is bare again."""
        try:
            yield
        except BaseException:
            self.detach()
            raise


def attach(
    base: Base,
    settings: Adapter,
    *,
    total_steps: int,
    opening: Sequence[int],
    gradient_checkpointing: bool = False,
    start: Start | None = None,
) -> TrainableAdapter:
    """Put a new adapter on a base, initialised from torch's random state and from `start`; if that fails, it is bare.

    Args:
        base: of any architecture.
        settings: the recipe's `adapter` section.
        total_steps: optimizer steps of the whole run, at least 1; AdaLoRA's schedule spans them.
        opening: tokens that a prefix is initialised from, such as a prompt's; at least one.
        gradient_checkpointing: recompute activations in the backward pass.
        start: weights to start from; from scratch by default.

    Raises:
        RecipeError: if `adapter.targets` names a layer the base does not have, or the base does not support the method,
            or a layer of it does not.
        BaseError: if another adapter is being trained on the base, or the base was loaded by a device map.
    """
    with compiled_late():
        from peft import get_peft_model

    method, start = METHODS[settings.method], start or Start()
    check_limits(settings, base.quantization, base.kind, base.name, sharded=base.sharded)
    turns_of(base.model).check(base.name)
    if method.form is Form.FACTORS:
        settings = settings.model_copy(update={"targets": target_layers(base, settings, start)})
    if base.placed:
        raise BaseError(
            f"the base {base.name} was loaded by a device map, which serves it and does not train it",
            next_step="train without one, or in int8 or nf4 (`quantization`); what fits on no one GPU is sharded by "
            "FSDP2 (deploy/accelerate/fsdp2.yaml), and the adapter is served here",
        )
    config = method.config(settings, total_steps=total_steps, task_type=base.scorer.peft_task)
    if method.form is Form.PREFIX:
        config.num_layers, config.num_attention_heads, dim = base.check_prefix_shape()
        config.token_dim = config.num_attention_heads * dim
    training = turns_of(base.model).train(base.name)
    try:
        peft = get_peft_model(base.model, config)
    except BaseException:
        _take_off_what_is_there(base, training)
        raise
    adapter = TrainableAdapter(base, method, peft, training)
    beginning = Beginning(base, opening, start.factors, start.prefix)
    with adapter.detached_on_error():
        method.initialise(peft, beginning)
        if gradient_checkpointing:
            method.recompute(peft, beginning)
        alone = base.device.type == "cpu" and not base.sharded  # whose processes make the same number of forwards
        adapter.trunk = trunk_below(base.model, alone=alone)
    return adapter


def _take_off_what_is_there(base: Base, training: Training) -> None:
    """Leave a base bare whose layers PEFT has wrapped in part."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    wrapped = [(name, layer) for name, layer in base.model.named_modules() if isinstance(layer, BaseTunerLayer)]
    replace_layers(base.model, {name: layer.get_base_layer() for name, layer in wrapped})
    _free(base, training)


def _free(base: Base, training: Training) -> None:
    """Freeze a base without layers of PEFT, and release it."""
    base.model.requires_grad_(False).eval()
    for leftover in MARKS:
        base.model.__dict__.pop(leftover, None)
    training.end()


def replace_layers(model: Any, layers: Mapping[str, Any]) -> None:
    """Put layers in place of a model's layers of these names."""
    for name, layer in layers.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)


def target_layers(base: Base, settings: Adapter, start: Start) -> str | list[str]:
    """The layers to change, for PEFT: `adapter.targets` as it is, or full names where PEFT would take others too.

    PEFT lets a misspelt name pass when another one matches, and takes routers, experts and layers for pictures too.
    Layers that the start changes are among them.

    Raises:
        RecipeError: as of `attach`.
    """
    targets, linear, layers = settings.targets, linear_layers(base.model), adaptable_layers(base.model)
    asked = {
        name for name in linear if targets == "all-linear" or any(f".{name}".endswith(f".{end}") for end in targets)
    }
    inside = _last_blocks(base, settings.layers)
    wanted = [
        name
        for name in layers
        if (name in asked and (inside is None or name.startswith(inside)))
        or (start.factors is not None and name in start.factors)
    ]
    names = sorted({name.rpartition(".")[2] for name in layers})
    if (
        unknown := []
        if isinstance(targets, str)
        else [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in layers)]
    ):
        raise RecipeError(
            f"adapter.targets names layers that the base {base.name} does not have, or that no adapter may change "
            "(routers and experts)",
            problems=[Problem("adapter.targets", repr(name), ", ".join(names)) for name in unknown],
            next_step="use `targets: all-linear`, or names from the list",
        )
    if not wanted:
        raise RecipeError(
            f"the base {base.name} has no linear layers that an adapter may change"
            + ("" if inside is None else f" in its blocks {settings.layers}"),
            next_step="use another base, such as smollm2-135m" if inside is None else "set adapter.layers to all",
        )
    return targets if set(wanted) == asked and not has_experts(base.model) else wanted


def _last_blocks(base: Base, layers: str) -> tuple[str, ...] | None:
    """What names of layers in the blocks that `adapter.layers` names begin with; None for all.

    Raises:
        RecipeError: if the base has not so many blocks, or none that follow each other.
    """
    if layers == "all":
        return None
    count, blocks = int(layers.removeprefix("last:")), block_names(base.model)
    if count > len(blocks):
        has = f"has {len(blocks)} blocks" if blocks else "has no single row of blocks"
        raise RecipeError(
            f"adapter.layers is {layers}, and the base {base.name} {has} "
            f"(allowed: all{f', last:1 to last:{len(blocks)}' if blocks else ''})",
            next_step="set adapter.layers to all, or leave it out",
        )
    return tuple(f"{name}." for name in blocks[-count:])
