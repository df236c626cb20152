"""The fleet's table: what it tells after a change is what it tells when it is read anew."""

from datetime import UTC, datetime

from tests.registry.conftest import MakeBundle, make_bundle, place, registry

from shopfit.registry import Registry, Version
from shopfit.serve.console.fleet_table import STALE, Adapter, FleetTable
from shopfit.serve.console.formats import told_aliases
from shopfit.serve.traffic import AdapterTraffic, Traffic

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


def test_a_refused_version_needs_attention_only_where_nothing_good_serves(
    registry: Registry, make_bundle: MakeBundle
) -> None:
    table = FleetTable(registry, Traffic())

    def told() -> tuple[tuple[str, ...], Version | None]:
        (row,) = table.rows(None)
        assert "stale" in row.adapter.attention(AdapterTraffic(), datetime.now(UTC) + 2 * STALE)
        return row.attention, row.adapter.tried

    registry.publish(make_bundle(seed=1), refused="no better", promote=False, actor="ada")
    assert told() == (("refused",), None)
    good = registry.publish(make_bundle(seed=2), promote=False, actor="ada", summary={"lead": 0.2})
    assert told() == (("waiting",), None)
    registry.promote(good.name, actor="ada")
    later = registry.publish(make_bundle(seed=3), refused="it ties", promote=False, actor="ada")
    assert told() == ((), registry.resolve(later.name))
    assert "refused" in table.rows(None)[0].adapter.attention(AdapterTraffic(), datetime.now(UTC) + 2 * STALE)
    registry.promote(
        registry.publish(make_bundle(seed=4), promote=False, actor="ada", summary={"lead": -0.1}).name, actor="ada"
    )
    assert told() == (("worse",), None)
    registry.publish(make_bundle(seed=5), refused="it ties", promote=False, actor="ada")
    assert told()[0] == ("refused", "worse")


def test_a_candidate_in_production_is_called_that_no_more() -> None:
    assert told_aliases(["candidate", "production"]) == ["production"]
    assert told_aliases(["candidate", "previous"]) == ["candidate", "previous"]
