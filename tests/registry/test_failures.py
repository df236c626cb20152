import errno

import pytest

from shopfit.registry.failures import masked, storage_failure


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql+psycopg://ada:s3cret@db/shop", "postgresql+psycopg://ada:***@db/shop"),
        ("postgresql+psycopg://ada:s3/cr@et@db/shop", "postgresql+psycopg://ada:***@db/shop"),
        ("postgresql+psycopg://:s3cret@db/shop", "postgresql+psycopg://:***@db/shop"),
        ("postgresql+psycopg://db/shop?password=s3cret&x=1", "postgresql+psycopg://db/shop?password=***&x=1"),
        ("postgresql+psycopg://db/shop?x=1&sslpassword=s3cret", "postgresql+psycopg://db/shop?x=1&sslpassword=***"),
        ("sftp://ada:s3cret@host/blobs", "sftp://ada:***@host/blobs"),
        ("sqlite:////srv/registry.db", "sqlite:////srv/registry.db"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("/srv/blobs", "/srv/blobs"),
    ],
)
def test_passwords_are_masked(address: str, shown: str) -> None:
    assert masked(address) == shown


@pytest.mark.parametrize(
    ("error", "reason", "step"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device", "free some space"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system", "name another place in SHOPFIT_BLOBS"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied", "let this user write there"),
        (ValueError("bad credentials\nand more"), "bad credentials", "SHOPFIT_BLOBS names it"),
        (RuntimeError(), "RuntimeError", "can be reached"),
    ],
)
def test_what_went_wrong_and_what_to_do(error: Exception, reason: str, step: str) -> None:
    failure = storage_failure("writing to the blob store /srv/blobs", error, variable="SHOPFIT_BLOBS")
    assert failure.message == f"writing to the blob store /srv/blobs failed: {reason}"
    assert step in failure.next_step
