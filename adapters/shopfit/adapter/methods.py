"""LoRA, AdaLoRA and prefix tuning behind one small interface: attach, train, save, detach.

PEFT does the work; what it leaves to its callers (AdaLoRA's schedule and penalty, a prefix's first values, names that
match nothing) is settled here. What comes out never differs in use: a model and, maybe, a prefix or a head.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shopfit.adapter.files import write_native
from shopfit.adapter.fusing import fuse
from shopfit.adapter.head import Head
from shopfit.adapter.start import Start, begin
from shopfit.adapter.turns import Training, turns_of
from shopfit.base.encode import PlainTokenizer
from shopfit.base.load import Base
from shopfit.base.prefix import Prefix
from shopfit.errors import Problem, RecipeError, ShopfitError
from shopfit.recipe.schema import Adapter

LEARNING_RATES = {"lora": 5e-4, "adalora": 2e-3, "prefix": 5e-3}


class TrainableAdapter(ABC):
    """An adapter on a base, being trained.

    Args:
        base: the base, already wrapped by PEFT in `peft`.
        peft: PEFT's model.
        training: the claim to the base's layers.
    """

    def __init__(self, base: Base, peft: Any, training: Training) -> None:
        self.base = base
        self.peft = peft
        self._training = training
        self.rows: nn.Parameter | None = None
        self._labels: tuple[str, ...] = ()

    @property
    def head(self) -> Head | None:
        """What it knows of its labels; None but for `choose` on an encoder."""
        return None if self.rows is None else Head(self._labels, self.rows)

    def wear(self, head: Head) -> None:
        """Train these rows as well, one a label."""
        self._labels, self.rows = head.labels, nn.Parameter(head.rows.clone())

    @property
    def model(self) -> Any:
        """The causal language model or the encoder, with the adapter in it."""
        return self.peft.get_base_model()

    def prefix(self, rows: int) -> Prefix | None:  # noqa: ARG002 - only prefix tuning has one
        """What stands before each of `rows` rows."""
        return None

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights that are trained."""
        weights = (weight for weight in self.peft.parameters() if weight.requires_grad)
        return weights if self.rows is None else chain(weights, [self.rows])

    def size(self) -> int:
        """How many numbers are trained."""
        return sum(weight.numel() for weight in self.parameters())

    def penalty(self) -> Tensor | float:
        """What the method adds to the loss."""
        return 0.0

    def after_step(self, step: int) -> None:  # noqa: ARG002 - only AdaLoRA has something to do
        """To be called after each optimizer step, before the gradients are cleared; `step` counts from 1."""
        return

    def settled(self, step: int) -> bool:  # noqa: ARG002 - AdaLoRA settles late
        """Whether the weights after `step` may be the final ones."""
        return True

    def check(self) -> None:
        """Refuse weights that training has driven to NaN or infinity.

        Raises:
            ShopfitError: naming the first layer with such numbers.
        """
        weights = chain(self.peft.named_parameters(), [] if self.rows is None else [("head", self.rows)])
        for name, weight in weights:
            if weight.requires_grad and not torch.isfinite(weight).all():
                layer = name.removeprefix("base_model.model.").replace(".default", "")
                raise ShopfitError(
                    f"the training diverged: {layer} has numbers that are not finite",
                    next_step="lower tune.lr (a tenth of it is a good try), or adapter.alpha; nothing was registered",
                )

    def state(self) -> list[Tensor]:
        """A copy of the trained weights, on the CPU."""
        return [weight.detach().to("cpu", copy=True) for weight in self.parameters()]

    def restore(self, state: list[Tensor]) -> None:
        """Put back what `state` returned."""
        with torch.no_grad():
            for weight, kept in zip(self.parameters(), state, strict=True):
                weight.copy_(kept)

    def approach(self, origin: list[Tensor], share: float) -> None:
        """Go back to `share` of the way from where training began to the weights as they are (arXiv:2109.01903).

        Args:
            origin: an earlier `state`.
            share: above 0, and 1 at most, which changes nothing.
        """
        if share == 1:
            return
        with torch.no_grad():
            for weight, before in zip(self.parameters(), origin, strict=True):
                between = torch.lerp(before.to(weight.device), weight, share)
                weight.copy_(torch.where(weight == 0, 0, between))  # what AdaLoRA has pruned stays pruned

    @contextmanager
    def nearer(self, origin: list[Tensor], share: float) -> Iterator[None]:
        """The weights as `approach` makes them, for a look; training goes on from where they were."""
        if share == 1:
            yield
            return
        end = self.state()
        try:
            self.approach(origin, share)
            yield
        finally:
            self.restore(end)

    def save(self, folder: Path) -> None:
        """Write the PEFT folder (adapter_config.json, adapter_model.safetensors).

        Raises:
            ShopfitError: if training diverged.
        """
        self.check()
        write_native(self.peft, folder, self.base.name)

    @abstractmethod
    def detach(self) -> None:
        """Take the adapter off; the base is as it was before."""


class LoraAdapter(TrainableAdapter):
    """LoRA (arXiv:2106.09685)."""

    def detach(self) -> None:
        """Take the adapter's layers out of the base."""
        self.peft.unload()
        self.base.model.requires_grad_(False).eval()
        for leftover in ("peft_config", "_hf_peft_config_loaded"):
            self.base.model.__dict__.pop(leftover, None)
        self._training.end()


class AdaLoraAdapter(LoraAdapter):
    """AdaLoRA (arXiv:2303.10512): ranks start at `init_rank` and are pruned by importance to `rank` on average."""

    @property
    def _config(self) -> Any:
        return self.peft.peft_config["default"]

    def penalty(self) -> Tensor | float:
        """How far the singular vectors are from orthogonal, weighted; PEFT adds it only to its own losses."""
        terms = []
        for name, weight in self.peft.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                gram = weight @ weight.T if "lora_A" in name else weight.T @ weight
                terms.append((gram - torch.eye(len(gram), device=gram.device)).norm())
        share = float(self._config.orth_reg_weight)
        return share * torch.stack(terms).mean()

    def after_step(self, step: int) -> None:
        """Update the importance of every singular value and prune on schedule."""
        if step == self._config.total_step - self._config.tfinal == 1:
            # PEFT would prune in a run of one step before it has measured any importance
            self.peft.base_model.rankallocator.update_ipt(self.peft.base_model.model)
        self.peft.base_model.update_and_allocate(step)

    def settled(self, step: int) -> bool:
        """Only once the last pruning is done are ranks within the budget."""
        return bool(step >= self._config.total_step - self._config.tfinal)


class PrefixAdapter(TrainableAdapter):
    """Prefix tuning (arXiv:2101.00190): trained keys and values before every row, in every layer."""

    def prefix(self, rows: int) -> Prefix | None:
        """The trained keys and values, for `rows` rows."""
        virtual = int(self.peft.peft_config["default"].num_virtual_tokens)
        return Prefix(self.peft.get_prompt(batch_size=rows), torch.full((rows,), virtual, device=self.base.device))

    def detach(self) -> None:
        """The base was never touched."""
        self.base.model.requires_grad_(False).eval()
        self._training.end()


def attach(
    base: Base,
    settings: Adapter,
    *,
    total_steps: int,
    opening: Sequence[int],
    gradient_checkpointing: bool = False,
    start: Start | None = None,
) -> TrainableAdapter:
    """Put a fresh adapter on a base. Its first values come from torch's random state, and from where it starts.

    Args:
        base: a causal language model, or an encoder.
        settings: the recipe's `adapter` section.
        total_steps: optimizer steps of the whole run, at least 1; AdaLoRA's schedule spans them.
        opening: tokens that a prefix starts from, such as a prompt's; at least one.
        gradient_checkpointing: recompute activations in the backward pass.
        start: weights to start from; from scratch by default.

    Raises:
        RecipeError: if `adapter.targets` names a layer the base does not have, or the base takes no prefix.
        BaseError: if another adapter is being trained on the base.
    """
    from peft import get_peft_model, prepare_model_for_kbit_training

    if base.encoder and settings.method == "prefix":
        raise RecipeError(
            f"adapter.method is prefix, and the base {base.name} is an encoder, which takes no prefix "
            "(allowed: lora, adalora)",
            next_step="set adapter.method to lora, or base to a decoder such as smollm2-135m",
        )
    if isinstance(settings.targets, list):
        _check_targets(base, settings.targets)
    training = turns_of(base.model).train(base.name)
    if base.quantization != "none":
        prepare_model_for_kbit_training(base.model, use_gradient_checkpointing=False)
    peft = get_peft_model(base.model, _config(settings, total_steps, encoder=base.encoder))
    if gradient_checkpointing:
        base.model.activation_checkpointing_enable({"use_reentrant": False})
    if settings.method == "prefix":
        _open_with(peft, base, opening)
    begin(peft, settings.method, start or Start())
    if settings.method == "lora":
        fuse(peft)
    kinds: dict[str, type[TrainableAdapter]] = {"lora": LoraAdapter, "adalora": AdaLoraAdapter, "prefix": PrefixAdapter}
    return kinds[settings.method](base, peft, training)


def _config(settings: Adapter, total_steps: int, *, encoder: bool) -> Any:
    from peft import AdaLoraConfig, LoraConfig, PrefixTuningConfig

    targets = settings.targets
    kind = "FEATURE_EXTRACTION" if encoder else "CAUSAL_LM"
    if settings.method == "lora":
        return LoraConfig(
            task_type=kind,
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=targets,
        )
    if settings.method == "adalora":
        init_rank = settings.init_rank or settings.rank + max(1, settings.rank // 2)
        return AdaLoraConfig(
            task_type=kind,
            init_r=init_rank,
            target_r=settings.rank,
            # PEFT divides by init_r: this keeps the recipe's scale of alpha / rank
            lora_alpha=settings.alpha * init_rank / settings.rank,
            lora_dropout=settings.dropout,
            target_modules=targets,
            total_step=total_steps,
            tinit=total_steps // 10,
            tfinal=total_steps // 3,
            deltaT=max(1, total_steps // 20),
        )
    return PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=settings.virtual_tokens)


def _check_targets(base: Base, targets: list[str]) -> None:
    """PEFT lets a misspelt name pass when another one matches."""
    leaves = {
        name.rpartition(".")[2] for name, module in base.model.named_modules() if name and not list(module.children())
    }
    if unknown := [name for name in targets if name.rpartition(".")[2] not in leaves]:
        linear = {
            name.rpartition(".")[2] for name, module in base.model.named_modules() if "Linear" in type(module).__name__
        }
        raise RecipeError(
            f"adapter.targets names layers that the base {base.name} does not have",
            problems=[Problem("adapter.targets", repr(name), ", ".join(sorted(linear))) for name in unknown],
            next_step="use `targets: all-linear`, or names from the list",
        )


def _open_with(peft: Any, base: Base, tokens: Sequence[int]) -> None:
    """Let a prefix begin as what the base keeps of these tokens, repeated until there are enough."""
    from peft import initialize_kv_prefix_from_past_key_values

    wanted = peft.peft_config["default"].num_virtual_tokens
    between = PlainTokenizer.of(base.tokenizer).encode("\n\n", special=False)
    read = list(tokens)
    while len(read) < wanted:
        read += [*between, *tokens]
    with torch.no_grad(), peft.disable_adapter():
        kept = peft(input_ids=torch.tensor([read], device=base.device), use_cache=True).past_key_values
    initialize_kv_prefix_from_past_key_values(peft, past_key_values=kept)
