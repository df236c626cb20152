"""Of a catalog too large to rank whole, the adapter ranks what search finds, and the report says what that loses."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine.encoder_bundles import maker_on

from shopfit.base.embed import LateEmbedder
from shopfit.base.load import Base
from shopfit.engine import Engine, RankRequest, Tenant
from shopfit.engine.candidates import RERANKED, WHOLE
from shopfit.evaluation.retrieval import retrieval_facts
from shopfit.evaluation.wording import retrieval_told
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example
from shopfit.settings import indexes

KINDS = ("tent", "stove", "lamp", "bag", "mat")


def catalog(count: int) -> Catalog:
    titles = [f"{KINDS[place % 5]} number{place}" for place in range(count)]
    return Catalog({f"i{place}": Item(f"i{place}", title, {"title": title}) for place, title in enumerate(titles)})


@pytest.fixture
def tenant(encoder: Base, tmp_path: Path) -> Tenant:
    return Tenant.of(maker_on(encoder, tmp_path)("trailhead", "rank"))


@pytest.fixture
def engine(encoder: Base, home: Path) -> Engine:
    return Engine(encoder, embed=LateEmbedder(home, str(encoder.folder), remember=False))


def test_of_a_large_catalog_the_adapter_ranks_what_search_finds(engine: Engine, tenant: Tenant, home: Path) -> None:
    large = replace(tenant, catalog=catalog(WHOLE + 1))
    (answer,) = engine.rank([RankRequest(large, {"query": "lamp number1002"}, top=1000)])
    assert len(answer.items) == 1000  # as many as are asked for
    (answer,) = engine.rank([RankRequest(large, {"query": "lamp number1002"}, top=RERANKED)])
    ranked = [item.id for item in answer.items]
    assert len(set(ranked)) == RERANKED
    assert "i1002" in ranked
    (exact,) = engine.rank([RankRequest(large, {"query": "lamp number1002"}, candidates=ranked, top=RERANKED)])
    assert [item.id for item in exact.items] == ranked
    assert list(indexes(home, large.merchant).glob("*.safetensors"))


def test_a_small_one_is_ranked_whole(engine: Engine, tenant: Tenant) -> None:
    small = replace(tenant, catalog=catalog(WHOLE))
    (answer,) = engine.rank([RankRequest(small, {"query": "lamp"}, top=WHOLE)])
    assert len(answer.items) == WHOLE
    assert retrieval_facts(engine, small, [Example("1", {"query": "lamp"}, relevant=("i2",))]) == {}


def test_the_report_says_what_that_loses(engine: Engine, tenant: Tenant) -> None:
    large = replace(tenant, catalog=catalog(WHOLE + 500))
    rows = [Example(str(place), {"query": f"lamp number{place}"}, relevant=(f"i{place}",)) for place in (7, 1002)]
    facts = retrieval_facts(engine, large, rows)
    assert facts["items"] == facts["sample"] == WHOLE + 500
    assert (facts["found"], facts["searches"], facts["right_found"]) == (RERANKED, 2, 1)
    best = large.recipe.evaluate.k
    wanted = []
    for row in rows:
        (exact,) = engine.rank([RankRequest(large, row.fields, candidates=list(large.catalog or ()), top=best)])
        (found,) = engine.rank([RankRequest(large, row.fields, top=RERANKED)])
        wanted.append(len({item.id for item in exact.items} & {item.id for item in found.items}) / best)
    assert facts["first_found"] == pytest.approx(sum(wanted) / 2)
    said = retrieval_told(facts, best)
    assert said.startswith("Of 2,500 items it ranks the 200 that search finds; 100% of the right ones")
    assert said.endswith("(2 searches)")
