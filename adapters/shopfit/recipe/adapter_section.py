"""The section `adapter` of a recipe: which small set of weights is trained."""

from typing import Literal

from pydantic import Field, model_validator

from shopfit.recipe.methods import (
    LARGEST_RANK,
    MAX_VIRTUAL_TOKENS,
    METHOD_RULES,
    SWITCHES,
    BaseKind,
    Limit,
    Method,
    limit_of,
)
from shopfit.recipe.section import Section

_PAPERS = ", ".join(f"{name} (arXiv:{rules.paper})" for name, rules in METHOD_RULES.items())


class Adapter(Section):
    """Which small set of weights is trained."""

    method: Method = Field("lora", description=_PAPERS)
    rank: int = Field(8, ge=1, le=256, description="rank of every matrix; adalora: its average after pruning")
    alpha: float = Field(16, gt=0, description="the update is scaled by alpha / rank")
    rslora: bool = Field(
        False, description="lora: scale it by alpha / sqrt(rank), which suits large ranks (rsLoRA, arXiv:2312.03732)"
    )
    dora: bool = Field(
        False,
        description="lora: train the length of each row of the base's weights apart from its direction (DoRA, "
        "arXiv:2402.09353); slower to train, and served by this engine and PEFT alone, as no plain LoRA equals it",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the adapter's input while training")
    targets: Literal["all-linear"] | list[str] = Field("all-linear", description="names of the base's linear layers")
    layers: str = Field(
        "all",
        pattern=r"^(all|last:[1-9][0-9]{0,3})$",
        description="blocks of the base that it changes: all, or last:N, with which training reads each text with the "
        "others once (lora, adalora)",
    )
    init_rank: int | None = Field(
        None, ge=2, le=LARGEST_RANK, description="adalora: rank before pruning; 1.5 times `rank` by default"
    )
    virtual_tokens: int = Field(16, ge=1, le=MAX_VIRTUAL_TOKENS, description="prefix: length of the prefix, in tokens")

    @model_validator(mode="after")
    def _fits_the_method(self) -> "Adapter":
        rules = METHOD_RULES[self.method]
        for switch in SWITCHES:
            if getattr(self, switch) and switch not in rules.switches:
                heeded = ", ".join(name for name, other in METHOD_RULES.items() if switch in other.switches)
                raise ValueError(f"{switch} is only for the method {heeded}, not {self.method}")
        if self.layers != "all" and rules.size_key != "rank":
            raise ValueError(f"layers is only for methods that change layers, not {self.method} (allowed: all)")
        if rules.prunes and self.init_rank is not None and self.init_rank <= self.rank:
            raise ValueError(f"init_rank must be above rank ({self.rank}), or {rules.title} has nothing to prune")
        return self

    def limit(self, quantization: str, kind: BaseKind | None = None) -> Limit | None:
        """What stands against it on a base; None if it works.

        Args:
            quantization: of the base.
            kind: of the base; None if it is not known yet.
        """
        return limit_of(self.method, [switch for switch in SWITCHES if getattr(self, switch)], quantization, kind)
