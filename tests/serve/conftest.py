"""A gateway with real engine processes on tiny bases, once a worker: `shopfit serve` on a free port of this machine."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import openai
import pytest
from tests.serve.gateways import ServedGateway, serving
from tests.serve.operated import settings_in
from tests.serve.shops import fill

from shopfit.registry import Registry
from shopfit.settings import Settings

MERCHANTS = ("acme", "rival")


@pytest.fixture
def client(gateway: ServedGateway) -> Iterator[openai.OpenAI]:
    """OpenAI's client with a merchant's key; it checks that answers are what its types say."""
    with openai.OpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.keys["acme"], max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture
def lenient(gateway: ServedGateway) -> Iterator[openai.OpenAI]:
    """The same without checks: its types have neither vectors in base64, which it asks for, nor parts of texts."""
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.keys["acme"], max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path, tiny_base: Path) -> Settings:
    """A registry with the adapters of two merchants; `own_copy` makes a copy that a test may change."""
    home = tmp_path_factory.mktemp("filled")
    settings = settings_in(home)
    with Registry.open(settings) as registry:
        fill(registry, home, tiny_encoder, tiny_base, MERCHANTS)
    return settings


@pytest.fixture(scope="session")
def gateway(filled: Settings) -> Iterator[ServedGateway]:
    """A gateway that all tests of a worker share: they must not change what others see."""
    with Registry.open(filled) as registry:
        keys = make_keys(registry)
    with serving(filled, filled.home / "gateway.log", keys) as served:
        yield served


def make_keys(registry: Registry) -> dict[str, str]:
    """Tokens by name: each merchant's, which may ask; and others, named by what they may do."""
    keys = {name: registry.create_key(name, ["infer"], actor="tests").token for name in MERCHANTS}
    keys |= {f"{name}-publish": registry.create_key(name, ["publish"], actor="tests").token for name in MERCHANTS}
    keys["platform"] = registry.create_key(None, ["admin"], actor="tests").token
    keys["spare"] = registry.create_key("spare", ["admin"], new=True, actor="tests").token
    keys["feedback"] = registry.create_key("acme", ["feedback"], actor="tests").token
    revoked = registry.create_key("acme", ["infer"], actor="tests")
    registry.revoke_key(revoked.key.id, actor="tests")
    keys["revoked"] = revoked.token
    soon = datetime.now(UTC) + timedelta(seconds=1)
    keys["expired"] = registry.create_key("acme", ["infer"], expires=soon, actor="tests").token
    return keys
