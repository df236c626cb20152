"""A catalog that an engine has dropped with its merchant is read again, also if it is the same one."""

import time
from pathlib import Path

import pytest
from tests.serve.operated import Operated, operating, own_copy

from shopfit.adapter.bundle import Bundle
from shopfit.errors import UnknownReference
from shopfit.settings import Settings

pytestmark = pytest.mark.proof

SHOP = [{"id": "stove", "title": "Gas stove"}, {"id": "axe", "title": "Small axe"}]
PATH = "/v1/merchants/acme/catalog"


def ranked(operated: Operated) -> set[str]:
    body = {"model": "acme/products", "query": "cook", "top_n": 50}
    while (answer := operated.gateway.ask("/v1/rerank", body, key="platform")).status_code == 404:
        time.sleep(0.05)  # a name that named nothing is remembered for a moment
    assert answer.status_code == 200, answer.text
    return {one["document"]["id"] for one in answer.json()["results"]}


@pytest.mark.parametrize("erased", [True, False])
def test_a_merchant_that_comes_back_with_the_same_catalog(filled: Settings, tmp_path: Path, erased: bool) -> None:
    settings = own_copy(filled, tmp_path / "home")
    with operating(settings) as operated:
        gateway, registry = operated.gateway, operated.registry
        assert gateway.ask(PATH, SHOP, method="PUT", key="platform").status_code == 200
        assert ranked(operated) == {"stove", "axe"}
        bundle = Bundle.open(filled.home / "made" / "acme-products")
        if erased:
            registry.erase("acme", settings, actor="tests")
        else:
            for version in registry.versions("acme"):
                for alias in version.aliases:
                    registry.unalias(f"{version.merchant}/{version.recipe}@{alias}", actor="tests")
                registry.remove(version.name, actor="tests")
        with pytest.raises(UnknownReference):
            registry.resolve("acme/products")
        while operated.counted("shopfit_engine_host_adapters"):  # the engine has seen it
            time.sleep(0.05)
        registry.publish(bundle, promote=True, actor="tests")
        if erased:
            assert gateway.ask(PATH, SHOP, method="PUT", key="platform").status_code == 200
        assert ranked(operated) == {"stove", "axe"}
