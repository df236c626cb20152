"""A registry with adapters on the tiny base, and the resolver that vLLM asks. None of this needs vLLM."""

from collections.abc import Callable, Iterator

import pytest
from tests.engine.conftest import make_bundle, quick_bundle, quick_bundle_on, trained

from shopfit.adapter.bundle import Bundle
from shopfit.registry import Registry
from shopfit.registry.pinned_name import PinnedName
from shopfit.settings import Settings
from shopfit_vllm.resolver import AdapterResolver

__all__ = ["make_bundle", "quick_bundle", "quick_bundle_on", "trained"]

Publish = Callable[[Bundle], str]


@pytest.fixture
def publish(settings: Settings) -> Iterator[Publish]:
    """Publishes a bundle, and tells the name that vLLM has to be asked for."""
    with Registry.open(settings) as registry:
        yield lambda bundle: str(PinnedName.of(registry.publish(bundle, promote=True, actor="ada")))


@pytest.fixture
def resolver(settings: Settings) -> Iterator[AdapterResolver]:
    resolver = AdapterResolver(settings, max_rank=16)
    yield resolver
    resolver.close()
