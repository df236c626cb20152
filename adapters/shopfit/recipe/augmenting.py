"""The steps of `data.augment`: how training examples are varied, anew each epoch. Labels never change."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from shopfit.recipe.section import Section


def _holds_text(prompt: str) -> str:
    if "{text}" not in prompt:
        raise ValueError("must hold {text}, where the text to rewrite goes")
    return prompt


Prompt = Annotated[str, AfterValidator(_holds_text)]


class Step(Section):
    """One way to vary an example."""

    step: str
    chance: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of the examples that the step changes in an epoch; the others pass as written",
    )


class Typos(Step):
    """Typing errors."""

    step: Literal["typos"] = Field(description="a neighbouring key, two letters swapped, one dropped or doubled")
    share: float = Field(0.1, gt=0, le=1, description="share of the words that are misspelt; numbers and ids never are")


class WordDropout(Step):
    """Words left out (EDA, arXiv:1901.11196)."""

    step: Literal["word-dropout"] = Field(description="words left out")
    share: float = Field(0.1, gt=0, lt=1, description="share of the words; numbers, ids and negations stay")


class CatalogSwap(Step):
    """Items swapped for others of their category."""

    step: Literal["catalog-swap"] = Field(
        description="title, brand and price of an item in the text become those of another one of its category; "
        "rank: so do items of the history"
    )
    share: float = Field(0.5, gt=0, le=1, description="rank: share of the history's items that are swapped")


class Synonyms(Step):
    """English words for others of the same meaning (EDA, arXiv:1901.11196)."""

    step: Literal["synonyms"] = Field(description="English words replaced by synonyms; needs `shopfit[augment]`")
    share: float = Field(0.1, gt=0, le=1, description="share of the words; numbers, ids and negations stay")


class Rewriting(Step):
    """Texts rewritten by a model, once, before training."""

    model: str = Field(
        min_length=1, description="who writes: packaged base, Hub id or local folder; causal or sequence-to-sequence"
    )
    versions: int = Field(2, ge=1, le=16, description="texts written for each one; an epoch takes one of them")
    temperature: float = Field(0.7, gt=0, le=2, description="of sampling")


class BackTranslation(Rewriting):
    """Translated to another language and back (arXiv:1511.06709)."""

    step: Literal["back-translation"] = Field(description="translated into another language and back")
    through: str = Field(min_length=1, description="the other language, in the model's words, such as French")
    language: str = Field("English", min_length=1, description="the texts' own language, in the model's words")
    back: str | None = Field(None, min_length=1, description="who translates back; `model` by default")
    prompt: Prompt = Field(
        "Translate from {source} to {target}:\n{text}",
        description="what the model is asked; {text} alone for one that only translates",
    )


class Paraphrase(Rewriting):
    """The same said in other words."""

    step: Literal["paraphrase"] = Field(description="said in other words by a model")
    prompt: Prompt = Field("Say the same in other words:\n{text}", description="what the model is asked")


Augment = Annotated[
    Typos | WordDropout | CatalogSwap | Synonyms | BackTranslation | Paraphrase, Field(discriminator="step")
]


def augment_problems(steps: Sequence[Step], *, catalog: bool) -> Iterator[str]:
    """Steps that cannot be combined, in the form of a recipe's validation errors.

    Args:
        steps: of `data.augment`.
        catalog: whether the recipe names one.
    """
    for name, count in Counter(step.step for step in steps).items():
        if count > 1:
            yield f"data.augment: {name} is there {count} times (allowed: each step once)"
    if not catalog and any(isinstance(step, CatalogSwap) for step in steps):
        yield "data.augment: catalog-swap takes items from a catalog (allowed: with data.catalog)"
