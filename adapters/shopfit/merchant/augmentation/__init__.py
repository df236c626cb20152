"""Training examples, varied anew each epoch: what `data.augment` says. Labels never change.

A step changes an example with its `chance`, so that an epoch takes no longer than without, and holds most examples as
they were written. Steps run in one order whatever the recipe's: what a model wrote takes the place of the whole text,
items are swapped while they can still be recognised, words change after that, and slips of the keyboard come last.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from random import Random
from typing import Any

from shopfit.merchant.augmentation.swaps import Shelf
from shopfit.merchant.augmentation.synonyms import Thesaurus
from shopfit.merchant.augmentation.typos import misspell
from shopfit.merchant.augmentation.words import vary
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example, Fields
from shopfit.merchant.mentions import Names
from shopfit.merchant.text import clusters, parts_of
from shopfit.recipe.augmenting import (
    BackTranslation,
    CatalogSwap,
    Paraphrase,
    Rewriting,
    Step,
    Synonyms,
    Typos,
    WordDropout,
)
from shopfit.recipe.schema import Recipe

_ORDER: tuple[type[Step], ...] = (BackTranslation, Paraphrase, CatalogSwap, Synonyms, WordDropout, Typos)
_LEAST_LETTERS = 3  # of a word that is misspelt: shorter ones become others


def texts_of(recipe: Recipe, fields: Fields) -> dict[str, str]:
    """The texts of an example that its prompt shows and that a step may change: no items, no lists, no numbers."""
    names = [name for name in recipe.fields if name not in recipe.data.item_fields]
    return {name: value for name in names if isinstance(value := fields.get(name), str) and value.strip()}


class Augmentation:
    """Varies one merchant's training examples.

    Args:
        recipe: its `data.augment` names the steps.
        catalog: of the ranked items, if there is one.
        history: of the items in `data.item_fields`; `catalog` by default.

    Raises:
        ShopfitError: if a step needs a package that is not installed.
    """

    def __init__(self, recipe: Recipe, catalog: Catalog | None = None, history: Catalog | None = None) -> None:
        self._recipe = recipe
        self._steps = sorted(recipe.data.augment, key=lambda step: _ORDER.index(type(step)))
        kinds = {type(step) for step in self._steps}
        history = history if history is not None else catalog
        named = [catalog, history] if self._steps else []
        self._ids = frozenset(key.casefold() for items in named for key in items or ())
        self._dense_ids = Names(key for key in self._ids if any(dense for _, _, dense in parts_of(key)))
        shown = [history] if recipe.spec.items else [history, catalog]
        items = [item for some in shown if some is not None for item in some.values()]
        self._shelf = Shelf(items if CatalogSwap in kinds else ())
        self._thesaurus = Thesaurus.load() if Synonyms in kinds else None

    def __call__(self, example: Example, epoch: int) -> Fields:
        """The fields of an example as an epoch shows it: the same in every process, and the example's own where no step
        has anything to change.

        Args:
            example: to train on.
            epoch: counted from 1.
        """
        fields = dict(example.fields)
        for step in self._steps:
            draw = Random(f"{self._recipe.tune.seed}/{epoch}/{example.id}/{step.step}")
            if draw.random() < step.chance:
                fields |= self._changed(step, example, fields, draw)
        return example.fields if fields == example.fields else fields

    def _changed(self, step: Step, example: Example, fields: Fields, draw: Random) -> dict[str, Any]:
        """The fields that one step changes."""
        texts = texts_of(self._recipe, fields)
        match step:
            case Rewriting():
                written = example.rewrites.get(step.step, {})
                return {name: draw.choice(written[name]) for name in texts if written.get(name)}
            case CatalogSwap():
                return self._swapped(step, example, fields, draw)
            case Synonyms():
                assert self._thesaurus is not None
                return self._varied(example, texts, draw, step.share, self._thesaurus.another)
            case WordDropout():
                return self._varied(example, texts, draw, step.share, lambda _word, _draw: "")
            case Typos():
                return self._varied(example, texts, draw, step.share, misspell, least=_LEAST_LETTERS)
            case _:
                raise AssertionError(step)

    def _varied(
        self,
        example: Example,
        texts: dict[str, str],
        draw: Random,
        share: float,
        change: Callable[[str, Random], str | None],
        *,
        least: int = 1,
    ) -> dict[str, Any]:
        words = Names(_words_of(example))
        return {
            name: vary(
                text,
                draw,
                share,
                lambda word: change(word, draw),
                ids=self._ids,
                stay=[*words.mentions(text), *self._dense_ids.mentions(text)],
                least=least,
            )
            for name, text in texts.items()
        }

    def _swapped(self, step: CatalogSwap, example: Example, fields: Fields, draw: Random) -> dict[str, Any]:
        """Items of the history and what texts say of them; elsewhere those that texts mention."""
        texts = texts_of(self._recipe, fields)
        if not self._recipe.spec.items:
            swaps = self._shelf.of_text(list(texts.values()), _answer(example), draw)
            return {name: self._shelf.rewrite(text, swaps) for name, text in texts.items()}
        lists = {name: fields[name] for name in self._recipe.data.item_fields if fields.get(name)}
        history = [item for value in lists.values() for item in ([value] if isinstance(value, str) else value)]
        keep = {*example.relevant, *(example.candidates or ())}
        swaps = self._shelf.of_history(history, keep, step.share, draw)
        changed: dict[str, Any] = {name: self._shelf.rewrite(text, swaps, keep) for name, text in texts.items()}
        for name, value in lists.items():
            renamed = [
                swaps[item].id if item in swaps else item for item in ([value] if isinstance(value, str) else value)
            ]
            changed[name] = renamed[0] if isinstance(value, str) else renamed
        return changed


def _answer(example: Example) -> str:
    """The right answer as text; of JSON its values."""
    return (example.label or "") if example.output is None else "\n".join(_leaves(example.output))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        yield str(value)
        return
    for part in value:
        yield from _leaves(part)


def _words_of(example: Example) -> Iterator[str]:
    """Words that a generated answer takes from the text: without them it could not be learned. In scripts without
    spaces they are pairs of characters.
    """
    answer = _answer(example) if example.output is not None else ""
    for start, end, dense in parts_of(answer):
        if dense:
            characters = clusters(answer[start:end])
            yield from map("".join, pairwise(characters)) if len(characters) > 1 else characters
        else:
            yield from re.findall(r"\w+", answer[start:end])
