"""Host memory keeps within its budget, and what is in use stays."""

import threading
from typing import Any

import torch

from shopfit.adapter.weights import Weights
from shopfit.base.prompt import Prompter
from shopfit.engine import Tenant
from shopfit.engine.adapter_cache import AdapterCache, Loaded
from shopfit.merchant.catalog import Catalog, Item
from shopfit.recipe.schema import Recipe
from shopfit.tasks.rank import RankFusion

RECIPE = Recipe.model_validate(
    {
        "name": "r",
        "task": "choose",
        "data": {"file": "x"},
        "prompt": {"template": "{text}"},
        "evaluate": {"metric": "auc"},
    }
)


def loaded(name: str, numbers: int = 1000, merchant: str = "") -> Loaded:
    weights = Weights(frozenset({(name, name)}), prefix=torch.zeros(numbers))
    return Loaded(name, Tenant(name, RECIPE, merchant=merchant), Prompter(RECIPE, None), weights)


SIZE = loaded("a").bytes


def test_the_least_recently_used_one_goes() -> None:
    memory = AdapterCache(2 * SIZE)
    for name in ("a", "b"):
        memory.release(memory.put(loaded(name)))
    a = memory.hold("a")
    assert a is not None
    memory.release(a)
    memory.release(memory.put(loaded("c")))
    assert memory.hold("b") is None
    assert memory.hold("a") is a
    assert memory.used == 2 * SIZE


def test_what_is_in_use_stays_and_others_wait() -> None:
    memory = AdapterCache(SIZE)
    held = memory.put(loaded("a"))
    done = threading.Event()

    def bring() -> None:
        memory.release(memory.put(loaded("b")))
        done.set()

    thread = threading.Thread(target=bring)
    thread.start()
    assert not done.wait(0.2)
    assert memory.used == SIZE
    memory.release(held)
    assert done.wait(60)
    thread.join()
    assert memory.hold("a") is None
    assert memory.used == SIZE


def test_one_larger_than_the_budget_is_kept_alone() -> None:
    memory = AdapterCache(10)
    memory.release(memory.put(loaded("a")))
    memory.release(memory.put(loaded("b")))
    assert memory.hold("a") is None
    assert memory.hold("b") is not None


def test_two_loaders_of_one_adapter_share_it() -> None:
    memory = AdapterCache(10 * SIZE)
    first, second = memory.put(loaded("a")), memory.put(loaded("a"))
    assert first is second
    assert memory.used == SIZE


def test_long_texts_and_blends_count() -> None:
    def size(**known: Any) -> int:
        return Loaded("a", Tenant("a", RECIPE, **known), Prompter(RECIPE, None), None).bytes

    def catalog(**fields: Any) -> Catalog:
        return Catalog({"x": Item("x", "X", {"id": "x", "title": "X"} | fields)})

    plain, text = size(catalog=catalog()), "x" * 1_000_000
    assert plain < size() + 10_000
    for fields in ({"description": text}, {"tags": [[text]]}, {"sizes": {text: 1}}):
        assert plain + 1_000_000 < size(catalog=catalog(**fields)) < plain + 1_010_000
    assert size(catalog=catalog(), history=catalog(tags=[0] * 100_000)) > plain + 800_000
    assert size(labels=("yes", text)) > size() + 1_000_000
    blend = RankFusion(
        weights={"adapter": 1.0}, popularity={f"item-{number}": 10**6 + number for number in range(10_000)}
    )
    assert 1_000_000 < size(blend=blend) - size() < 3_000_000


def test_closing_lets_nobody_wait() -> None:
    memory = AdapterCache(SIZE)
    memory.put(loaded("a"))
    thread = threading.Thread(target=memory.put, args=(loaded("b"),))
    thread.start()
    memory.close()
    thread.join(60)
    assert not thread.is_alive()
