import pytest
from tests.registry.conftest import MakeBundle

from shopfit.errors import UnknownReference
from shopfit.registry import Identity, Reference, Registry
from shopfit.registry.pinned_name import PinnedName


def test_a_version_has_one_name_that_is_read_back(local: Registry, make_bundle: MakeBundle) -> None:
    version = local.publish(make_bundle(), promote=True, actor="ada")
    pinned = PinnedName.of(version)
    assert str(pinned) == f"acme/review-sentiment@1:{version.digest[:16]}"
    assert PinnedName.parse(str(pinned)) == pinned
    assert pinned.names(Identity(1, version.digest))
    assert not pinned.names(Identity(2, version.digest))
    assert not pinned.names(Identity(1, "0" * 64))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "acme/review",
        "acme/review@7",
        "acme/review@production",
        "acme/review@production:0123456789abcdef",
        "acme/review:0123456789abcdef",
        "acme/review@7:0123456789abcde",
        "acme/review@7:0123456789abcdef0",
        "acme/review@7:0123456789ABCDEF",
        "acme/review@7:0123456789abcdef\n",
        "acme/review@07:0123456789abcdef",
        "acme/review@7:0123456789abcdef:0123456789abcdef",
        "../review@7:0123456789abcdef",
        "/etc/passwd@7:0123456789abcdef",
        "acme/../review@7:0123456789abcdef",
        "Acme/review@7:0123456789abcdef",
        "ácme/review@7:0123456789abcdef",
        "acme/review@7:\ud800123456789abcde",
        "a" * 1_000_000,
        "house/x@1:" + "0" * 1_000_000,
        None,
        7,
    ],
)
def test_all_else_is_refused(name: str) -> None:
    with pytest.raises(UnknownReference):
        PinnedName.parse(name)


def test_the_longest_names_are_names() -> None:
    slug = "a" * 63
    pinned = PinnedName(Reference(slug, slug, 999_999_999), "0123456789abcdef")
    assert PinnedName.parse(str(pinned)) == pinned
