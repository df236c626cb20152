"""Which items, or texts, a request ranks, and with which scores a search found them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from shopfit.adapter.score_fusion import BM25, HISTORY, MINILM
from shopfit.errors import RequestError
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Fields, seen
from shopfit.recipe.item_rules import Rules
from shopfit.tasks.rank import RankFusion
from shopfit.tasks.rank_answers import RankRequest
from shopfit.tasks.scored import Parts
from shopfit.tasks.tenant import Tenant

WHOLE, RERANKED = 2_000, 200
"""Items up to which a whole catalog is ranked; items of a larger one that search finds and the adapter ranks."""
_SEARCHED = {BM25, MINILM, HISTORY}  # parts of a blend that a search computes


def searches(tenant: Tenant) -> bool:
    """Whether an adapter's blend has a part that a search computes."""
    return tenant.blend is not None and bool(_SEARCHED & tenant.blend.weights.keys())


def searched_first(request: RankRequest, tenant: Tenant) -> bool:
    """Whether a request ranks what search finds, since it names nothing to rank and the catalog is large."""
    named = request.documents is not None or request.candidates is not None
    return not named and tenant.catalog is not None and len(tenant.catalog) > WHOLE


def of_texts(tenant: Tenant) -> Tenant:
    """An adapter as it ranks texts: it has no catalog, and knows nothing of their popularity."""
    blend = tenant.blend
    if isinstance(blend, RankFusion):
        blend = blend.model_copy(update={"popularity": {}})
    return replace(tenant, catalog=None, blend=blend)


def candidates(request: RankRequest, tenant: Tenant) -> Sequence[str]:
    """What a request ranks: its documents, its candidates, or else the catalog.

    Raises:
        RequestError: if a candidate is not in the catalog, or there is neither one nor the other.
    """
    if request.documents is not None:
        return request.documents
    if request.candidates is not None:
        unknown = [item for item in request.candidates if tenant.catalog is not None and item not in tenant.catalog]
        if unknown:
            raise RequestError(
                f"candidates name items that {tenant.name} does not know: {', '.join(map(repr, unknown[:5]))}",
                next_step="send ids of its catalog",
            )
        return request.candidates
    if tenant.catalog is None:
        raise RequestError(f"{tenant.name} has no catalog to choose from", next_step="send `candidates`")
    return offered(tenant, tenant.catalog, request.fields, [Rules()])


def offered(tenant: Tenant, catalog: Catalog, fields: Fields, rules: Sequence[Rules]) -> Sequence[str]:
    """Items that pass one or more rules, all of them, less those of the history unless the recipe has repeats."""
    left_out = set() if tenant.recipe.data.repeats else set(seen(fields))
    first, *more = rules  # the recipe's, which are the same for every request
    passing: Sequence[str] = catalog.passing(first)
    if left_out:
        passing = [item for item in passing if item not in left_out]
    if more:
        passing = [item for item in passing if all(rule.allow(catalog[item].fields) for rule in more)]
    return passing


def found_parts(found: Mapping[str, Mapping[str, float]], wanted: Callable[[str], bool]) -> Parts:
    """The scores that items were found with, by retriever."""
    names = dict.fromkeys(name for scores in found.values() for name in scores)
    return {name: np.array([scores[name] for scores in found.values()]) for name in names if wanted(name)}
