"""Which bases there are to serve: asked in one statement, however many versions there are."""

from dataclasses import replace

from tests.registry.conftest import MakeBundle
from tests.registry.test_keys import statements

from shopfit.registry import Registry


def test_some_versions_of_each_base_in_production(registry: Registry, make_bundle: MakeBundle) -> None:
    for merchant, base in (("acme", "a"), ("best", "a"), ("cozy", "a"), ("acme", "b"), ("dune", "c")):
        bundle = make_bundle(merchant, f"on-{base}", base=base * 64)
        registry.publish(bundle, promote=base != "c", actor="ada")
    registry.publish(make_bundle("acme", "on-a", base="d" * 64), promote=False, actor="ada")
    with statements() as ran:
        assert [one.name for one in registry.of_bases()] == ["acme/on-a@1", "acme/on-b@1"]
    assert sum("shopfit_versions" in one for one in ran) == 1
    found = registry.of_bases(2)
    assert [one.name for one in found] == ["acme/on-a@1", "acme/on-b@1", "best/on-a@1"]
    assert found[0] == replace(registry.resolve("acme/on-a@1"), aliases=("production",))


def test_nothing_is_in_production(registry: Registry, make_bundle: MakeBundle) -> None:
    assert registry.of_bases() == []
    registry.publish(make_bundle(), promote=False, actor="ada")
    assert registry.of_bases() == []
