"""`base: auto`: the packaged bases compete on a merchant's own examples.

Each is tuned from scratch on a part of the examples and answers the rest, on the folds that starts are compared on. The
recipe's metric decides, and where two are as good, the smaller base.
"""

from collections.abc import Callable
from statistics import fmean

from accelerate import Accelerator

from shopfit.adapter.start import Start
from shopfit.base.load import Base
from shopfit.errors import DataError
from shopfit.evaluation.metrics import measure
from shopfit.recipe.schema import LOWER_IS_BETTER, Recipe
from shopfit.tune.folds import FOLDS, folds, predictions_of
from shopfit.tune.shop import Shop

AUTO = "auto"
ENCODERS, DECODERS = ("minilm-l6",), ("smollm2-135m",)


def candidates(recipe: Recipe) -> tuple[str, ...]:
    """The bases that can do what a recipe asks, the smallest first."""
    reads = recipe.task != "generate" and recipe.adapter.method != "prefix"
    return (*(ENCODERS if reads else ()), *DECODERS)


def choose_base(
    shop: Shop,
    load: Callable[[str], Base],
    *,
    accelerator: Accelerator,
    say: Callable[[str, str], None],
) -> Base:
    """The base that does best on a merchant's examples.

    Args:
        shop: the merchant as the recipe sees it.
        load: a base by its name.
        accelerator: from `make_accelerator`.
        say: hears what each reaches.

    Raises:
        DataError: if there are too few examples to tell.
    """
    recipe, names = shop.recipe, candidates(shop.recipe)
    if len(names) == 1:
        say("base", f"{names[0]}: no other does {recipe.task} with {recipe.adapter.method}")
        return load(names[0])
    metric = recipe.evaluate.metric
    sign = -1 if metric in LOWER_IS_BETTER else 1
    best: tuple[float, Base] | None = None
    for name in names:
        base = load(name)
        parts = folds(recipe, shop.material(base))
        if not parts:
            have = len(shop.splits.train) + len(shop.splits.valid)
            raise DataError(
                f"{shop.merchant.name} has {have} examples, too few for bases to compete on: it takes {2 * FOLDS}",
                next_step=f"name the base, such as --set base={names[0]}",
            )
        answers = predictions_of(base, recipe, parts, Start(), accelerator)
        reached = fmean(measure(answer, [metric], recipe.evaluate.k)[metric] for _, answer in answers)
        say("base", f"{name}: {metric} {reached:.3f} on held-out examples")
        if best is None or sign * reached > sign * best[0]:
            best = reached, base
    assert best is not None
    return best[1]
