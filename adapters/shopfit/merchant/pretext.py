"""Pretext pairs: examples for ranking that are made from a catalog and histories, without any label.

catalog    an item's description, or its category and brand where it has none -> its title
histories  the earlier items of an unlabeled row -> its last one

The pairs teach the shop's items and words, and which items follow which. They do not teach what shoppers type; so
wherever there are examples, the pairs weigh less and are few beside them.
"""

from collections.abc import Callable, Sequence

from shopfit.errors import DataError
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example, seen
from shopfit.merchant.histories import histories_are_ranked
from shopfit.merchant.leaks import remove_leaks
from shopfit.merchant.sampling import hold_out, in_order
from shopfit.merchant.text import beginning
from shopfit.recipe.schema import Recipe

WEIGHT = 0.2  # of a pair, where there are examples, which weigh 1
_MOST = 512  # pairs
_MOST_READ = 4096  # pairs that are read once, before the examples
_EACH = 4  # pairs an example, where there are some: together they weigh less than the examples do
_WORDS = 40  # of a description: what shoppers type is short
_ITEMS = 8  # that one text may stand for, where several items have the same


def pretext_pairs(
    recipe: Recipe,
    catalog: Catalog | None,
    unlabeled: Sequence[Example],
    test: Sequence[Example],
    *,
    text: Callable[[Example], str],
    examples: int,
) -> list[Example]:
    """Pairs to train on before the examples; none that repeats a row held out.

    Args:
        recipe: of task rank.
        catalog: the items; None for plain titles.
        unlabeled: rows, maybe with histories.
        test: the rows held out, of the test set and to stop early.
        text: what the prompt shows of an example.
        examples: how many there are to train on; 0 makes the pairs all there is.

    Raises:
        DataError: if nothing can be made of catalog and rows, saying why.
    """
    weight, most = (WEIGHT, min(_MOST, _EACH * examples)) if examples else (1.0, _MOST)
    pairs = [*_of_catalog(recipe, catalog, weight), *_of_histories(recipe, unlabeled, weight)]
    pairs = _drawn_apart(recipe, pairs, test, text, most, "pretext")
    if not pairs:
        raise _nothing(recipe, catalog, examples)
    return pairs


def pairs_of_catalog(
    recipe: Recipe, catalog: Catalog | None, test: Sequence[Example], text: Callable[[Example], str]
) -> list[Example]:
    """Pairs of an item's description and the item, of weight 1, none that repeats a test row; may be empty.

    Args:
        recipe: of task rank.
        catalog: the items; None for plain titles.
        test: the test set.
        text: what the prompt shows of an example.
    """
    return _drawn_apart(recipe, _of_catalog(recipe, catalog, 1.0), test, text, _MOST_READ, "catalog")


def _drawn_apart(
    recipe: Recipe,
    pairs: Sequence[Example],
    test: Sequence[Example],
    text: Callable[[Example], str],
    most: int,
    draw_name: str,
) -> list[Example]:
    """At most `most` of the pairs that repeat no test row. Only so many are compared with the test set as it takes."""
    ordered = in_order(pairs, f"{recipe.tune.seed}/{draw_name}")
    kept: set[str] = set()
    for start in range(0, len(ordered), most):
        apart, _ = remove_leaks(ordered[start : start + most], test, text, recipe.data.near_duplicate)
        kept |= {pair.id for pair in apart[: most - len(kept)]}
        if len(kept) == most:
            break
    return [pair for pair in pairs if pair.id in kept]


def hold_out_pairs(
    recipe: Recipe, pairs: Sequence[Example], text: Callable[[Example], str]
) -> tuple[list[Example], list[Example]]:
    """Pairs to train on and pairs to measure on, where there is neither an example nor a test set.

    Raises:
        DataError: if they are too few.
    """
    data = recipe.data
    rest, test = hold_out(pairs, min(round(data.test_fraction * len(pairs)), data.max_test), "test")
    rest, _ = remove_leaks(rest, test, text, data.near_duplicate)
    if not test or not rest:
        raise DataError(
            f"there are no examples in {data.file}, no test set, and only {len(pairs)} pairs from the catalog: too few "
            "to train on some and to measure on the others",
            next_step="add examples, a test set in a file of its own, or items with descriptions",
        )
    return rest, test


def _of_catalog(recipe: Recipe, catalog: Catalog | None, weight: float) -> list[Example]:
    """An item's description -> the item; items with the same description share a pair."""
    field = _asked_in(recipe)
    if field is None or catalog is None:
        return []
    said: dict[str, list[str]] = {}
    for item in catalog.values():
        if words := _said_of(item):
            said.setdefault(words, []).append(item.id)
    return [
        Example(f"catalog/{items[0]}", {field: words}, relevant=tuple(items[:_ITEMS]), weight=weight, titles=True)
        for words, items in said.items()
    ]


def _said_of(item: Item) -> str:
    for names in (("description",), ("category", "brand")):
        if words := " ".join(" ".join(str(item.fields.get(name) or "") for name in names).split()):
            return beginning(words, _WORDS)
    return ""


def _of_histories(recipe: Recipe, unlabeled: Sequence[Example], weight: float) -> list[Example]:
    """Earlier items -> the last one, where histories hold items of the ranked catalog."""
    if not histories_are_ranked(recipe):
        return []
    pairs = []
    for row in unlabeled:
        *earlier, last = seen(row.fields) or ("",)
        if earlier and (recipe.data.repeats or last not in earlier):
            fields = {"history": earlier}
            pairs.append(Example(f"history/{row.id}", fields, relevant=(last,), group=row.group, weight=weight))
    return pairs


def _asked_in(recipe: Recipe) -> str | None:
    """The field of the prompt that holds what a shopper types; None if it shows items only."""
    texts = [name for name in recipe.fields if name not in recipe.data.item_fields]
    return "query" if "query" in texts else texts[0] if texts else None


def _nothing(recipe: Recipe, catalog: Catalog | None, examples: int) -> DataError:
    data = recipe.data
    none = "" if examples else f"there are no examples in {data.file}, and "
    histories = "add rows with histories of two items or more to the unlabeled file"
    if catalog is None:
        what, next_step = "no catalog to make pairs from", f"name one in data.catalog, or {histories}"
    elif _asked_in(recipe) is None:
        what = "the prompt shows items only, so nothing that a catalog says has a place in it"
        next_step = histories
    else:
        what = f"the catalog {data.catalog} says nothing of its items but their titles"
        next_step = f"give them a description, category or brand, or {histories}"
    return DataError(f"{none}{what}", next_step=f"{next_step}" if examples else f"add examples; or {next_step}")
