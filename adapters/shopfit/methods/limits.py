"""The matrix of methods, quantizations and kinds of bases: what a recipe asks for works, or is refused by name."""

from shopfit.errors import RecipeError
from shopfit.recipe.adapter_section import Adapter
from shopfit.recipe.methods import BaseKind


def check_limits(settings: Adapter, quantization: str, kind: BaseKind, base: str, *, sharded: bool = False) -> None:
    """Refuse what does not work together. Nothing of the base needs to be loaded.

    Args:
        settings: the recipe's `adapter` section.
        quantization: of the base.
        kind: of the base.
        base: its name, for the message.
        sharded: whether processes share its weights out.

    Raises:
        RecipeError: with the reason, and the nearest that works.
    """
    if sharded and settings.dora:
        raise RecipeError(
            f"adapter.dora: DoRA does not work on the base {base} where it is sharded: it begins with each layer's "
            "whole weights",
            next_step="take the nearest that works: `--set adapter.dora=false`; or train with DDP "
            "(deploy/accelerate/ddp.yaml)",
        )
    if limit := settings.limit(quantization, kind):
        numbers = "" if quantization == "none" else f" in {quantization}"
        raise RecipeError(
            f"{limit.key}: {limit.what} does not work on the base {base} ({kind}){numbers}: {limit.why}",
            next_step=f"take the nearest that works: `--set {limit.nearest}`",
        )
