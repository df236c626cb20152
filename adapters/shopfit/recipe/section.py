"""What every part of a recipe has in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from shopfit.errors import RecipeError
from shopfit.recipe.mistakes import explain
from shopfit.recipe.plain_yaml import dotted


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, values do not change.

    Raises:
        RecipeError: where one is made from values that it cannot have, with every mistake.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            name = type(self).__name__
            mistakes = explain(error, type(self), values, lambda path: dotted(path) or name)
            raise RecipeError(
                f"{name} cannot be made from these values",
                problems=[mistake.problem for mistake in mistakes],
                next_step="correct what is named above",
            ) from None

    # within another part pydantic makes one without asking `__init__`, and tells all mistakes at once
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]
