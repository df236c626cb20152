"""Bundles made when less of a base was hashed go on working on that base, and on no other."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.engine.conftest import recipe_of, seal_as

from shopfit.adapter.bundle import Bundle
from shopfit.adapter.weights import check_base
from shopfit.base.fingerprint import fingerprint
from shopfit.base.load import Base, load_base
from shopfit.errors import BaseError

Make = Callable[[Base, str], Bundle]


@pytest.fixture
def bundle_for(tmp_path: Path) -> Make:
    def make(base: Base, named: str) -> Bundle:
        (tmp_path / "bundle").mkdir()
        sealed = seal_as(tmp_path / "bundle", base, recipe_of(base, "choose"), "acme", method="lora", rank=2, seed=0)
        identity = sealed.manifest.base.model_copy(update={"fingerprint": named})
        return Bundle(sealed.folder, sealed.manifest.model_copy(update={"base": identity}))

    return make


@pytest.mark.parametrize("rule", ["fingerprint", "legacy_fingerprint"])
def test_old_and_new_bundles_belong_to_their_base(rule: str, base: Base, bundle_for: Make) -> None:
    assert base.fingerprint == fingerprint(base.folder) != base.legacy_fingerprint
    check_base(bundle_for(base, getattr(base, rule)), base)


@pytest.mark.parametrize("rule", ["fingerprint", "legacy_fingerprint"])
def test_another_base_is_refused_by_either_rule(
    rule: str, base: Base, other_base: Path, home: Path, bundle_for: Make
) -> None:
    other = load_base(str(other_base), home)
    with pytest.raises(BaseError, match=rf"{getattr(other, rule)}.*{base.fingerprint}"):
        check_base(bundle_for(base, getattr(other, rule)), base)


@pytest.mark.parametrize("named", ["", "0" * 64])
def test_a_bundle_that_names_no_base(base: Base, named: str, bundle_for: Make) -> None:
    with pytest.raises(BaseError, match=r"fingerprint"):
        check_base(bundle_for(base, named), base)
