"""A blob store that lost what it had, or cannot be read: clients are told to come again, operators where to look."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.serve.operated import Operated, operating, own_copy

from shopfit.settings import Settings

pytestmark = pytest.mark.proof


def empty(blobs: Path) -> None:
    """The store is there, and nothing is in it."""
    blobs.mkdir()


def unreadable(blobs: Path) -> None:
    """What is there cannot be read as a folder, whoever asks."""
    blobs.write_text("a file where a folder should be")


Damage = Callable[[Path], None]


def refused(operated: Operated) -> dict[str, Any]:
    """The error that a client gets."""
    answer = operated.classify()
    assert answer.status_code == 503, answer.text
    assert answer.headers["retry-after"] == "1"
    error: dict[str, Any] = answer.json()["error"]
    assert error["type"] == "server_error"
    assert error["problems"] == []
    for secret in (str(operated.gateway.settings.home), "blobs", "SHOPFIT", "bundle.json", ".safetensors"):
        assert secret not in answer.text
    return error


@pytest.mark.parametrize(
    ("damage", "code", "logged"),
    [(empty, "adapter_unavailable", "its blob"), (unreadable, "registry_unavailable", "reading from the blob store")],
)
@pytest.mark.parametrize("known", [False, True], ids=["read-by-the-gateway", "read-by-the-engine"])
def test_blobs_that_are_gone(
    filled: Settings, tmp_path: Path, damage: Damage, code: str, logged: str, known: bool
) -> None:
    settings = own_copy(filled, tmp_path / "home")
    blobs, aside = Path(settings.blobs), tmp_path / "aside"
    with operating(settings) as operated:
        if known:  # the gateway has read the manifest, and the engine nothing yet
            assert operated.classify(fields={"nothing": "x"}).status_code == 422
        blobs.rename(aside)
        damage(blobs)
        assert refused(operated)["code"] == code
        while not any(logged in line["message"] for line in errors_of(operated)):  # the log is written a moment later
            time.sleep(0.02)
        (blobs.rmdir if blobs.is_dir() else blobs.unlink)()
        aside.rename(blobs)
        assert operated.classify().status_code == 200


def errors_of(operated: Operated) -> list[Any]:
    """What the gateway's log has of errors."""
    whole = operated.gateway.log.read_text().rpartition("\n")[0]
    lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
    return [line for line in lines if line["level"] == "error"]
