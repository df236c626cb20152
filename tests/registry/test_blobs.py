import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shopfit.errors import RegistryError
from shopfit.registry.blobs import BlobStore

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
SOON = timedelta(minutes=1)


@pytest.fixture(params=["folder", "file-url", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    folder = tmp_path / "deep" / "blobs"
    addresses = {"folder": str(folder), "file-url": f"file://{folder}", "memory": f"memory://{tmp_path.name}/blobs"}
    return BlobStore.open(addresses[request.param])


def test_what_is_put_can_be_read(store: BlobStore) -> None:
    assert store.read(DIGEST) is None
    assert not store.has(DIGEST)
    store.put(CONTENT, DIGEST)
    store.put(CONTENT, DIGEST)
    assert store.read(DIGEST) == CONTENT
    assert store.has(DIGEST)


def test_what_is_missing_and_what_is_removed(store: BlobStore) -> None:
    store.put(CONTENT, DIGEST)
    other = "0" * 64
    assert store.missing([DIGEST, other, other]) == {other}
    store.remove([DIGEST, other])
    assert store.missing([DIGEST, other]) == {DIGEST, other}


def test_a_damaged_blob_is_replaced(tmp_path: Path) -> None:
    store = BlobStore.open(str(tmp_path))
    store.put(CONTENT, DIGEST)
    (tmp_path / DIGEST[:2] / DIGEST).write_bytes(b"damaged")
    store.put(CONTENT, DIGEST)
    assert store.read(DIGEST) == CONTENT


def test_blobs_get_the_permissions_that_the_user_asks_for(tmp_path: Path) -> None:
    script = (
        f"from shopfit.registry.blobs import BlobStore; BlobStore.open({str(tmp_path)!r}).put({CONTENT!r}, {DIGEST!r})"
    )
    subprocess.run([sys.executable, "-c", script], check=True, umask=0o027)
    blob = tmp_path / DIGEST[:2] / DIGEST
    assert (blob.stat().st_mode & 0o777, blob.parent.stat().st_mode & 0o777) == (0o640, 0o750)


def test_only_old_and_unused_blobs_go(store: BlobStore) -> None:
    store.put(CONTENT, DIGEST)
    now = datetime.now(UTC)
    assert store.remove_stale({DIGEST}, now + SOON).count == 0
    assert store.remove_stale(set(), now - SOON).count == 0
    assert store.has(DIGEST)
    assert store.remove_stale(set(), now + SOON).count == 1
    assert not store.has(DIGEST)
    assert store.remove_stale(set(), now + SOON).count == 0


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nosuch://bucket", "allowed: a folder, s3://bucket/prefix"),
        ("nosuch://me:pass@host/x", r"nosuch://me:\*\*\*@host/x"),
    ],
)
def test_an_address_that_names_no_filesystem(address: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message) as caught:
        BlobStore.open(address)
    assert "pass@" not in str(caught.value)


def test_a_filesystem_whose_package_is_missing() -> None:
    try:
        import s3fs  # noqa: F401
    except ImportError:
        with pytest.raises(RegistryError, match="package for it is missing") as caught:
            BlobStore.open("s3://bucket/prefix")
        assert "shopfit[s3]" in caught.value.next_step
    else:
        assert BlobStore.open("s3://bucket/prefix").address == "s3://bucket/prefix"


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    file = tmp_path / "blobs"
    file.write_text("x")
    with pytest.raises(RegistryError, match=r"blobs failed: Not a directory") as caught:
        BlobStore.open(str(file)).put(CONTENT, DIGEST)
    assert "SHOPFIT_BLOBS" in caught.value.next_step


def test_a_full_disk(small_disk: Path) -> None:
    store = BlobStore.open(str(small_disk / "blobs"))
    store.put(CONTENT, DIGEST)
    large = os.urandom(1024 * 1024)
    with pytest.raises(RegistryError, match="No space left on device") as caught:
        store.put(large, hashlib.sha256(large).hexdigest())
    assert "free some space" in caught.value.next_step
    assert [path for path in small_disk.rglob("*") if path.is_file()] == [small_disk / "blobs" / DIGEST[:2] / DIGEST]
    store.put(b"more", hashlib.sha256(b"more").hexdigest())


def test_a_read_only_disk(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(RegistryError, match="Read-only file system") as caught:
        BlobStore.open(str(small_disk / "blobs")).put(CONTENT, DIGEST)
    assert "SHOPFIT_BLOBS" in caught.value.next_step
