"""What `shopfit serve` is told of is looked for when it starts: one clear message, and no gateway that fails later."""

import hashlib
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.serve.gateways import serving
from tests.serve.operated import operating, own_copy
from tests.serve.shops import RECIPES

from shopfit.adapter.bundle import MANIFEST
from shopfit.settings import Settings


def start(*options: str) -> str:
    """What a gateway says that does not start."""
    command = [sys.executable, "-m", "shopfit", "serve", "--port", "0", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "serving http" not in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Next: " in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "nosuch",
            "there is no base called 'nosuch' (allowed: smollm2-135m, minilm-l6, e5-small-multilingual, a Hub id",
        ),
        ("smollm2-135m", "is a decoder, which embeds no texts (allowed: minilm-l6"),
        ("/no/such/folder", "the base '/no/such/folder' is not there: no such folder"),
        ("a/b/c", "there is no base called 'a/b/c'"),
        (" ", "there is no base called ' '"),
    ],
)
def test_an_encoder_that_is_none(name: str, said: str) -> None:
    told = start("--encoder", name)
    assert f"--encoder is {name!r}: " in told
    assert said in told


def test_an_encoder_that_is_a_decoders_folder(tiny_base: Path) -> None:
    assert f"the base in {tiny_base} is of the kind decoder, which embeds no texts (allowed: encoder)" in start(
        "--encoder", str(tiny_base)
    )


def test_a_redis_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = start("--encoder", "", "--limits", f"redis://ada:secret@127.0.0.1:{port}")
    assert f"--limits is 'redis://ada:***@127.0.0.1:{port}', and nothing answers there" in told
    assert "secret" not in told


def test_a_server_that_is_no_redis() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections, and never says a word
        assert "nothing answers there" in start(
            "--encoder", "", "--limits", f"redis://127.0.0.1:{mute.getsockname()[1]}"
        )


def test_a_blob_store_that_cannot_be_read(home: Path) -> None:
    (home / "blobs").write_text("a file where a folder should be")
    told = start("--encoder", "")
    assert f"reading from the blob store {home / 'blobs'} failed" in told
    assert "SHOPFIT_BLOBS" in told


def test_an_upstream_that_is_not_there_yet_is_said_and_waited_for(settings: Settings, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with serving(settings, tmp_path / "gateway.log", {}, "--upstream", url) as served:
        assert f"nothing answers at --upstream {url} (ConnectError)" in served.log.read_text()


def test_one_damaged_adapter_keeps_no_other_from_being_served(filled: Settings, tmp_path: Path) -> None:
    settings = own_copy(filled, tmp_path / "home")
    first = min(RECIPES)  # by name, of the first merchant: what is read first to know a base
    manifest = (settings.home / "made" / f"acme-{first}" / MANIFEST).read_bytes()
    digest = hashlib.sha256(manifest).hexdigest()
    (Path(settings.blobs) / digest[:2] / digest).unlink()
    with operating(settings) as operated:
        assert operated.classify().status_code == 200
        while len(operated.engines()) < 2:  # the log is written a moment later
            time.sleep(0.02)
        log = operated.gateway.log.read_text()
        assert f"acme/{first}@1 cannot be served" in log
        assert "is missing" in log
