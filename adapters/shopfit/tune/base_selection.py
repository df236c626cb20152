"""`base: auto`: the packaged bases compete on a merchant's own examples.

Each is tuned from scratch on a part of the examples and answers the rest, on the folds that starts are compared on. The
recipe's metric decides, and a larger base must be better by more than one standard error of the paired difference: the
simplest model that is as good as the best one, as far as one can tell (Breiman et al., Classification and Regression
Trees, 1984, section 3.4.3).
"""

import math
from collections.abc import Callable

from accelerate import Accelerator

from shopfit.adapter.initial_weights import Start
from shopfit.base.by_language import packaged_for
from shopfit.base.load import Base
from shopfit.base.packaged import PACKAGED
from shopfit.errors import DataError, Diverged
from shopfit.evaluation.evidence import Evidence, weigh
from shopfit.evaluation.metrics import measure
from shopfit.evaluation.wording import number
from shopfit.recipe.languages import language_of
from shopfit.recipe.schema import Recipe
from shopfit.tasks import Predictions, pooled
from shopfit.tune.folds import FOLDS, folds, predictions_of
from shopfit.tune.merchant_dataset import MerchantDataset
from shopfit.tune.trainer import Trainer

_ROUNDING = 1e-9


def candidates(recipe: Recipe, language: str = "en") -> tuple[str, ...]:
    """The packaged bases that can do what a recipe asks, the smallest first; a decoder must read the language, or be
    the only one that can.

    Args:
        recipe: what is asked.
        language: of the texts, in BCP 47.
    """
    encoder, decoder = (packaged_for(kind, language) for kind in ("encoder", "decoder"))
    chats = recipe.prompt.format == "chat"
    if recipe.spec.written or recipe.adapter.limit(recipe.quantization, "encoder") or chats:
        return (decoder,)
    return (encoder, decoder) if language_of(language) in PACKAGED[decoder].languages else (encoder,)


def choose_base(
    dataset: MerchantDataset,
    load: Callable[[str], Base],
    *,
    accelerator: Accelerator,
    reporter: Callable[[str, str], None],
) -> Base:
    """The base that does best on a merchant's examples.

    Args:
        dataset: the merchant as the recipe sees it.
        load: a base by its name.
        accelerator: from `make_accelerator`.
        reporter: told what each reaches.

    Raises:
        DataError: if there are too few examples to tell.
        Diverged: if training diverged on each.
    """
    recipe, names = dataset.recipe, candidates(dataset.recipe, dataset.merchant.language)
    if len(names) == 1:
        chats = " in the chat format" if recipe.prompt.format == "chat" else ""
        done = f"{recipe.task} with {recipe.adapter.method}{chats} in {dataset.merchant.language}"
        reporter("base", f"{names[0]}: no other does {done}")
        return load(names[0])
    asked = recipe.evaluate
    best: tuple[Predictions, Base] | None = None
    for name in names:
        base = load(name)
        parts = folds(recipe, dataset.training_set(base))
        if not parts:
            have = len(dataset.splits.train) + len(dataset.splits.valid)
            raise DataError(
                f"{dataset.merchant.name} has {have} examples, too few for bases to compete on: it takes {2 * FOLDS}",
                next_step=f"name the base, such as --set base={names[0]}",
            )
        try:
            answers = predictions_of(Trainer(base, accelerator), recipe, parts, Start())()
        except Diverged as error:
            if name == names[-1] and best is None:
                raise
            reporter("base", f"{name}: passed over, as {error.message}")
            continue
        said = pooled([answer for _, answer in answers])
        groups = [row.group or row.id for part, _ in answers for row in part.valid]
        reached = measure(said, [asked.metric], asked.k)[asked.metric] if groups else math.nan
        reporter("base", f"{name}: {asked.metric} {number(reached)} on held-out examples")
        if best is None or (groups and clearly_better(weigh(said, best[0], asked.metric, asked.k, groups, 100))):
            best = said, base
    assert best is not None
    return best[1]


def clearly_better(evidence: Evidence) -> bool:
    """Whether a gain is more than one standard error of it, measured on paired rows."""
    return evidence.groups > 0 and evidence.gain.value - evidence.spread / math.sqrt(evidence.groups) > _ROUNDING
