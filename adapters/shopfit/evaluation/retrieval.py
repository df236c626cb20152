"""What is lost where a catalog is too large to rank whole, and the adapter ranks what search finds."""

import random
from collections.abc import Collection, Sequence

import numpy as np

from shopfit.engine import Engine, Tenant
from shopfit.engine.candidates import RERANKED, WHOLE, offered
from shopfit.engine.validation import MOST_ITEMS
from shopfit.merchant.examples import Example, seen
from shopfit.recipe.item_rules import Rules
from shopfit.tasks.rank_answers import RankRequest

_SEARCHES = 50


def retrieval_facts(engine: Engine, tenant: Tenant, test: Sequence[Example]) -> dict[str, float]:
    """How much of what the adapter would rank first search finds, by name; empty where it ranks the whole catalog.

    The whole catalog is ranked for none of it: the adapter ranks a sample of items for each search, whose first ones
    are the sample's share of the first k of all. A decoder would read each item for each search, so of that only the
    share of right items is told.

    Args:
        engine: answers.
        tenant: of the adapter.
        test: the test set; its first 50 rows are asked.
    """
    catalog = tenant.catalog
    if catalog is None or not tenant.recipe.spec.items or len(catalog) <= WHOLE:
        return {}
    rows = test[:_SEARCHES]
    answers = engine.rank([RankRequest(tenant, row.fields, top=RERANKED) for row in rows])
    found = [{item.id for item in answer.items} for answer in answers]
    right = [_share(row.relevant, items) for row, items in zip(rows, found, strict=True) if row.relevant]
    facts = {"items": float(len(catalog)), "found": float(RERANKED), "searches": float(len(rows))}
    if right:
        facts["right_found"] = float(np.mean(right))
    everything = offered(tenant, catalog, {}, [Rules()])
    if not engine.base.encoder or not everything:
        return facts
    sample = random.Random("retrieval").sample(everything, min(MOST_ITEMS, len(everything)))
    first = max(1, round(tenant.recipe.evaluate.k * len(sample) / len(everything)))
    asked = [RankRequest(tenant, row.fields, candidates=_unseen(tenant, row, sample), top=first) for row in rows]
    firsts = [[item.id for item in answer.items] for answer in engine.rank(asked)]
    kept = float(np.mean([_share(best, items) for best, items in zip(firsts, found, strict=True)]))
    return facts | {"sample": float(len(sample)), "first_found": kept}


def _unseen(tenant: Tenant, row: Example, items: Sequence[str]) -> list[str]:
    left_out = set() if tenant.recipe.data.repeats else set(seen(row.fields))
    return [item for item in items if item not in left_out]


def _share(wanted: Collection[str], found: Collection[str]) -> float:
    return len(set(wanted) & set(found)) / max(1, len(set(wanted)))
