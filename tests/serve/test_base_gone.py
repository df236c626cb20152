"""A base that cannot be loaded: said, tried again, and its requests get 503."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.serve.operated import Operated, operating, settings_in
from tests.serve.shops import bundle_of

from shopfit.base.load import load_base
from shopfit.registry import Registry
from shopfit.settings import Settings


@pytest.fixture
def own(tmp_path: Path, tiny_encoder: Path) -> Iterator[tuple[Settings, Path]]:
    """A registry with one adapter, and the folder of its base, which a test may change."""
    base = tmp_path / "base"
    shutil.copytree(tiny_encoder, base)
    settings = settings_in(tmp_path / "served")
    with Registry.open(settings) as registry:
        bundle = bundle_of(tmp_path / "made", load_base(str(base), settings.home), "acme", "sentiment")
        registry.publish(bundle, promote=True, actor="tests")
        registry.create_key("rival", ["infer"], new=True, actor="tests")
    return settings, base


def refused(operated: Operated, code: str, base: Path) -> None:
    answer = operated.classify()
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"]["code"] == code
    assert str(base) not in answer.text


def logged(operated: Operated, wanted: str, times: int = 1) -> Callable[[], bool]:
    return lambda: operated.gateway.log.read_text().count(wanted) >= times


def until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.05)


def test_a_base_that_is_gone(own: tuple[Settings, Path], tmp_path: Path) -> None:
    settings, base = own
    base.rename(tmp_path / "aside")
    with operating(settings, ready=False) as operated:
        until(logged(operated, "could not be started"))
        refused(operated, "base_unavailable", base)
        assert f"the base '{base}' is not there" in operated.gateway.log.read_text()
        told = operated.gateway.ask("/ready")
        assert (told.status_code, told.json()["engines"]) == (503, {"base:none": False})
        (tmp_path / "aside").rename(base)
        until(lambda: operated.classify().status_code == 200)
