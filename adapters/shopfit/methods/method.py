"""What the other rooms may ask of a PEFT method, whichever it is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from torch import Tensor

from shopfit.base.load import Base
from shopfit.base.prefix import Prefix
from shopfit.recipe.methods import METHOD_RULES, Method, MethodRules
from shopfit.recipe.schema import Adapter

ADAPTER = "default"  # what PEFT calls the adapter that is trained

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""Plain LoRA by layer name: A (r, in) and B (out, r), the scale in B."""


class Form(Enum):
    """What an engine holds of an adapter, whichever method trained it."""

    FACTORS = "plain LoRA, which takes a slot of the stack"
    PREFIX = "keys and values before a row, which take none"


@dataclass(frozen=True, slots=True)
class Beginning:
    """What an adapter may begin with.

    Args:
        base: that it is on.
        opening: tokens, such as a prompt's, that a prefix begins as; at least one.
        factors: to start from, if there are any.
        prefix: (layers, 2, heads, n, dim) keys and values of n virtual tokens to start from, if there are any.
    """

    base: Base
    opening: Sequence[int]
    factors: Factors | None = None
    prefix: Tensor | None = None


class PeftMethod(ABC):
    """A method: everything by which it differs from the others. It has no state, so there is one object of each."""

    name: ClassVar[Method]
    peft_type: ClassVar[str]  # what PEFT's adapter_config.json calls it
    form: ClassVar[Form]  # adapters of one form start each other
    adds_up: ClassVar[bool]  # whether the weighted sum of several merchants' adapters means anything
    no_encoder: ClassVar[str] = ""  # why an encoder cannot have it; empty if it can

    @property
    def rules(self) -> MethodRules:
        """What recipes know of it."""
        return METHOD_RULES[self.name]

    def size(self, settings: Adapter) -> int:
        """How large a recipe's `adapter` section makes it: a rank, or a number of virtual tokens."""
        return int(getattr(settings, self.rules.size_key))

    @abstractmethod
    def size_in_words(self, settings: Adapter) -> str:
        """The same for people, such as `rank 8 on all-linear`."""

    @abstractmethod
    def slot_rank(self, settings: Adapter) -> int:
        """The largest rank that it may need of an engine's slots; 0 if it takes none."""

    @abstractmethod
    def config(self, settings: Adapter, *, total_steps: int, task_type: str) -> Any:
        """PEFT's configuration.

        Args:
            settings: the recipe's `adapter` section.
            total_steps: optimizer steps of the whole run, at least 1.
            task_type: PEFT's word for what the base is.
        """

    @abstractmethod
    def initialise(self, peft: Any, beginning: Beginning) -> None:
        """Give a fresh adapter its first values; what the beginning does not reach stays fresh.

        Args:
            peft: PEFT's model, its adapter called `ADAPTER`.
            beginning: each method heeds its own form of start.
        """

    def prefix(self, peft: Any, rows: int) -> Prefix | None:  # noqa: ARG002 - only prefix tuning has one
        """What stands before each of `rows` rows."""
        return None

    def penalty(self, peft: Any) -> Tensor | float:  # noqa: ARG002 - only AdaLoRA has one
        """What the method adds to the loss."""
        return 0.0

    def after_step(self, peft: Any, step: int) -> None:  # noqa: ARG002 - only AdaLoRA has something to do
        """To be called after each optimizer step, before the gradients are cleared; `step` counts from 1."""
        return

    def settled(self, peft: Any, step: int) -> bool:  # noqa: ARG002 - AdaLoRA settles late
        """Whether the weights after `step` may be the final ones."""
        return True

    def unload(self, peft: Any) -> None:  # noqa: ARG002 - a prefix leaves the layers alone
        """Take what it put into the base's layers out of them."""
        return
