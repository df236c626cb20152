"""The fleet's table: what it tells after a change is what it tells when it is read anew."""

from tests.registry.conftest import MakeBundle, make_bundle, place, registry

from shopfit.registry import Registry
from shopfit.serve.console.fleet_table import Adapter, FleetTable
from shopfit.serve.traffic import Traffic

__all__ = ["make_bundle", "place", "registry"]


def test_a_table_that_follows_changes_tells_what_a_new_one_tells(registry: Registry, make_bundle: MakeBundle) -> None:
    followed = FleetTable(registry, Traffic())

    def both() -> list[Adapter]:
        anew = FleetTable(registry, Traffic()).adapters()
        assert followed.adapters() == anew
        return anew

    assert both() == []
    first = registry.publish(make_bundle(seed=1), promote=True, actor="ada")
    assert [adapter.name for adapter in both()] == ["acme/review-sentiment"]
    registry.publish(make_bundle("rival"), promote=False, actor="ada")
    second = registry.publish(make_bundle(seed=2), promote=False, actor="ada")
    acme, _ = both()
    assert (acme.production, acme.candidate) == (registry.resolve(first.name), registry.resolve(second.name))
    registry.promote(second.name, actor="ada")
    assert both()[0].candidate is None
    registry.rollback("acme/review-sentiment", actor="ada")
    assert both()[0].production == registry.resolve(first.name)
    registry.unalias("rival/review-sentiment@candidate", actor="ada")
    registry.remove("rival/review-sentiment@1", actor="ada")
    assert [adapter.merchant for adapter in both()] == ["acme"]
