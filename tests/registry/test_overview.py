"""What people look at: space by adapter, and the audit a page at a time."""

import pytest
from tests.registry.conftest import MakeBundle

from shopfit.errors import UnknownReference
from shopfit.registry import Registry
from shopfit.registry.overview import Mark


def test_space_is_summed_by_adapter(registry: Registry, make_bundle: MakeBundle) -> None:
    first = registry.publish(make_bundle(seed=1), promote=True, actor="ada")
    second = registry.publish(make_bundle(seed=2), promote=False, actor="ada")
    other = registry.publish(make_bundle("rival"), promote=False, actor="ada")
    registry.remove(registry.publish(make_bundle(seed=3), refused="no", promote=False, actor="ada").name, actor="ada")
    acme, rival = registry.stored()
    assert (acme.merchant, acme.recipe, acme.versions, acme.newest) == ("acme", "review-sentiment", 2, 2)
    assert acme.bytes == first.size + second.size
    assert acme.production == first.number
    assert (rival.bytes, rival.production) == (other.size, None)
    assert registry.stored("rival") == [rival]
    assert registry.stored("nobody") == []
    with pytest.raises(UnknownReference):
        registry.stored("No Body")


def test_the_audit_comes_in_pages_of_the_newest_first(registry: Registry, make_bundle: MakeBundle) -> None:
    for seed in range(3):
        registry.publish(make_bundle(seed=seed), promote=True, actor="ada")
    registry.publish(make_bundle("rival"), promote=True, actor="bob")
    everything = registry.audit()[::-1]
    pages = [registry.audit_page(skip=skip, most=3) for skip in range(0, len(everything), 3)]
    assert {total for total, _ in pages} == {len(everything)}
    assert [entry for _, entries in pages for entry in entries] == everything
    assert registry.audit_page("rival")[1] == registry.audit("rival")[::-1]
    assert registry.audit_page("acme", recipe="other") == (0, [])
    total, found = registry.audit_page("acme", recipe="review-sentiment", action="publish", most=1)
    assert (total, found[0].reference) == (3, "acme/review-sentiment@3")


def test_files_of_a_version_are_listed(registry: Registry, make_bundle: MakeBundle) -> None:
    version = registry.publish(make_bundle(), promote=True, actor="ada")
    listed = registry.listed(version)
    assert sum(file.size for file in listed) == version.size
    assert "bundle.json" in {file.path for file in listed}


def test_who_changed_since_the_audit_was_read_is_told(registry: Registry, make_bundle: MakeBundle) -> None:
    mark, changed = registry.changed(Mark())
    assert (mark, changed) == (Mark(), None)
    registry.publish(make_bundle(seed=1), promote=True, actor="ada")
    mark, changed = registry.changed(mark)
    assert changed is None
    assert registry.changed(mark) == (mark, [])
    registry.publish(make_bundle("rival"), promote=True, actor="ada")
    newest, changed = registry.changed(mark)
    assert changed == ["rival"]
    assert registry.changed(newest)[1] == []
    assert registry.changed(newest._replace(at=mark.at))[1] is None
