"""Donors are compared by vectors of one encoder: another merchant's old version is passed over, and fails nobody."""

from collections.abc import Callable

import pytest
from tests.engine.conftest import quick_bundle_on as quick_bundle_on
from tests.engine.conftest import recipe_of

from shopfit.adapter.bundle import Bundle, seal
from shopfit.base.load import Base
from shopfit.registry import Registry
from shopfit.settings import Settings
from shopfit.warm_start.donors import Neighbours


@pytest.fixture
def share(
    base: Base, settings: Settings, quick_bundle_on: Callable[[Base], Callable[..., Bundle]]
) -> Callable[..., None]:
    """Registers the adapter of a merchant that shares."""

    def publish(merchant: str, vector: list[float], encoder: str = "") -> None:
        bundle = quick_bundle_on(base)(merchant)
        said = bundle.manifest.model_copy(update={"share": True, "vector": vector, "encoder": encoder})
        with Registry.open(settings) as registry:
            registry.publish(seal(bundle.folder, said), promote=True, actor="test")

    return publish


def donors(base: Base, settings: Settings, encoder: str) -> list[str]:
    with Registry.open(settings) as registry:
        known = Neighbours(registry, base, recipe_of(base, "choose"), "acme")
        return [donor.name for donor in known.donors(lambda: [1.0, 0.0, 0.0], lambda: encoder)]


def test_vectors_of_another_encoder_are_not_compared(
    base: Base, settings: Settings, share: Callable[..., None]
) -> None:
    share("far", [0.0, 1.0, 0.0], "ours")
    share("near", [0.8, 0.6, 0.0], "ours")
    share("older", [0.6, 0.8, 0.0])
    share("other", [1.0, 0.0, 0.0], "theirs")
    share("wider", [1.0, 0.0, 0.0, 0.0])
    assert donors(base, settings, "ours") == ["near/r@1", "older/r@1", "far/r@1"]
    assert donors(base, settings, "") == ["other/r@1", "near/r@1", "older/r@1", "far/r@1"]


def test_nobody_is_compared_with_a_merchant_without_texts(
    base: Base, settings: Settings, share: Callable[..., None]
) -> None:
    share("near", [0.8, 0.6, 0.0])
    with Registry.open(settings) as registry:
        assert Neighbours(registry, base, recipe_of(base, "choose"), "acme").donors(list) == []
