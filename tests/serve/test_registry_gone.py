"""A registry that cannot be reached: clients are told to come again, and not where it is."""

import time
from pathlib import Path

import pytest
from tests.serve.operated import operating, own_copy

from shopfit.settings import Settings

pytestmark = pytest.mark.proof


def test_clients_are_not_told_where_the_registry_is(filled: Settings, tmp_path: Path) -> None:
    settings = own_copy(filled, tmp_path / "home")
    with operating(settings) as operated:
        assert operated.classify().status_code == 200
        database, aside = settings.home / "registry.db", settings.home / "aside.db"
        database.rename(aside)
        while (answer := operated.classify()).status_code == 200:  # the key is still believed
            time.sleep(0.05)
        aside.rename(database)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["error"]["code"] == "registry_unavailable"
        for secret in ("sqlite", "registry.db", str(settings.home)):
            assert secret not in answer.text
        while operated.classify().status_code != 200:
            time.sleep(0.05)
