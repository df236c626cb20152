"""The interface of PEFT methods: what other rooms may call."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import Parameter

from shopfit.base.load import Base
from shopfit.base.prefix import Prefix
from shopfit.errors import RecipeError
from shopfit.recipe.adapter_section import Adapter
from shopfit.recipe.methods import METHOD_RULES, Method, MethodRules

ADAPTER = "default"  # PEFT's name of the adapter in training

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""Plain LoRA by layer name: A (r, in) and B (out, r), scale folded into B."""


NormScales = Mapping[str, Tensor]
"""DoRA's constant factor of each output of a layer, (out,) by layer name: m / ||W + s B A||; see `methods.lora`."""


class Form(Enum):
    """The form in which an engine serves an adapter."""

    FACTORS = "plain LoRA, which takes a slot of the stack"
    PREFIX = "keys and values before a row, which take none"


@dataclass(frozen=True, slots=True)
class Beginning:
    """What an adapter is initialised from.

    Args:
        base: of the adapter.
        opening: tokens, such as a prompt's, whose keys and values a prefix is initialised with; at least one.
        factors: LoRA factors to start from, if any.
        prefix: (layers, 2, heads, n, dim) keys and values of n virtual tokens to start from, if any.
    """

    base: Base
    opening: Sequence[int]
    factors: Factors | None = None
    prefix: Tensor | None = None


class PeftMethod(ABC):
    """A PEFT method: everything that is specific to it. It has no state, so there is one object of each."""

    name: ClassVar[Method]
    peft_type: ClassVar[str]  # `peft_type` in PEFT's adapter_config.json
    form: ClassVar[Form]  # an adapter can start from another one of the same form
    adds_up: ClassVar[bool]  # whether a weighted sum of several merchants' adapters is a useful adapter

    @property
    def rules(self) -> MethodRules:
        """Its rules for recipes."""
        return METHOD_RULES[self.name]

    def size(self, settings: Adapter) -> int:
        """Its size by a recipe's `adapter` section: a rank, or a number of virtual tokens."""
        return int(getattr(settings, self.rules.size_key))

    @abstractmethod
    def size_in_words(self, settings: Adapter) -> str:
        """Its size as text, such as `rank 8 on all-linear`."""

    @abstractmethod
    def slot_rank(self, settings: Adapter) -> int:
        """The largest rank that it may need in an engine's slots; 0 if it needs no slot."""

    @abstractmethod
    def config(self, settings: Adapter, *, total_steps: int, task_type: str) -> Any:
        """PEFT's configuration.

        Args:
            settings: the recipe's `adapter` section.
            total_steps: optimizer steps of the whole run, at least 1.
            task_type: PEFT's, such as `CAUSAL_LM`.
        """

    @abstractmethod
    def initialise(self, peft: Any, beginning: Beginning) -> None:
        """Initialise a new adapter; weights that the beginning does not cover keep PEFT's initialisation.

        Args:
            peft: PEFT's model, its adapter called `ADAPTER`.
            beginning: a method only uses starts of its own form.

        Raises:
            RecipeError: if the method cannot adapt one of the base's layers.
        """

    def recompute(self, peft: Any, beginning: Beginning) -> None:
        """Recompute activations in the backward pass, until the adapter is off.

        Args:
            peft: PEFT's model, initialised.
            beginning: that it was initialised from.

        Raises:
            RecipeError: if the base, or this method on it, cannot.
        """
        model = peft.get_base_model()
        if not model.supports_gradient_checkpointing:
            raise no_recomputing(beginning.base, "transformers does not do it for this family")
        # reentrant checkpoints have no gradient where no input has one, as of a frozen base
        model.activation_checkpointing_enable({"use_reentrant": False})

    def no_plain_form(self, settings: Adapter) -> str:  # noqa: ARG002 - only DoRA is low-rank and has none
        """Why no plain LoRA equals what is trained, though it takes a slot, and what to do; empty if one does."""
        return ""

    def norm_scales(self, peft: Any) -> NormScales:  # noqa: ARG002 - only DoRA has them
        """DoRA's factors of the base's outputs, by layer; empty for all but DoRA."""
        return {}

    def prefix(self, peft: Any, rows: int) -> Prefix | None:  # noqa: ARG002 - only prefix tuning has one
        """The trained prefix for `rows` rows, if the method has one."""
        return None

    def up_projections(self, peft: Any) -> list[Parameter]:  # noqa: ARG002 - only products B A have some
        """Every B of a method that trains products B A; none of another."""
        return []

    def ranks(self, peft: Any) -> dict[str, int]:  # noqa: ARG002 - only AdaLoRA's change
        """The rank that each layer has now, where training changes it; empty for all but AdaLoRA."""
        return {}

    def penalty(self, peft: Any) -> Tensor | float:  # noqa: ARG002 - only AdaLoRA has one
        """The method's term of the loss."""
        return 0.0

    def after_step(self, peft: Any, step: int) -> None:  # noqa: ARG002 - only AdaLoRA has a schedule
        """To be called after each optimizer step, before the gradients are cleared; `step` counts from 1."""
        return

    def averages(self, peft: Any) -> dict[str, Tensor]:  # noqa: ARG002 - only AdaLoRA has some
        """What later steps follow from beside the weights, by name."""
        return {}

    def put_averages(self, peft: Any, averages: Mapping[str, Tensor]) -> None:  # noqa: ARG002
        """Put back what `averages` returned."""
        return

    def settled(self, peft: Any, step: int) -> bool:  # noqa: ARG002 - AdaLoRA settles late
        """Whether the weights after `step` may be the final ones."""
        return True

    def unload(self, peft: Any) -> None:  # noqa: ARG002 - a prefix leaves the layers alone
        """Remove from the base's layers what the method added."""
        return


def no_recomputing(base: Base, why: str) -> RecipeError:
    """The error for a base whose activations cannot be recomputed in the backward pass."""
    return RecipeError(
        f"tune.gradient_checkpointing does not work on the base {base.name} "
        f"(family {base.model.config.model_type}): {why}",
        next_step="leave tune.gradient_checkpointing out, and take a smaller tune.batch_size to save memory",
    )
