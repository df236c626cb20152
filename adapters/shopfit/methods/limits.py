"""The matrix of methods, quantizations and kinds of bases: what a recipe asks for works, or is refused by name."""

from shopfit.errors import RecipeError
from shopfit.recipe.adapter_section import Adapter
from shopfit.recipe.methods import BaseKind


def check_limits(settings: Adapter, quantization: str, kind: BaseKind, base: str) -> None:
    """Refuse what does not work together. Nothing of the base needs to be loaded.

    Args:
        settings: the recipe's `adapter` section.
        quantization: of the base.
        kind: of the base.
        base: its name, for the message.

    Raises:
        RecipeError: with the reason, and the nearest that works.
    """
    if limit := settings.limit(quantization, kind):
        numbers = "" if quantization == "none" else f" in {quantization}"
        raise RecipeError(
            f"{limit.key}: {limit.what} does not work on the base {base} ({kind}){numbers}: {limit.why}",
            next_step=f"take the nearest that works: `--set {limit.nearest}`",
        )
