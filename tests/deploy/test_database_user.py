"""The database user of vLLM servers reads the registry and changes nothing; its script, on a real server."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.deploy.manifests import DEPLOY

from shopfit.errors import RegistryError
from shopfit.registry import Registry
from shopfit.settings import Settings

PASSWORD = 'it\'s \\ $HOME "quoted"'


@pytest.fixture
def reader(postgresql: str, postgresql_server: Path) -> Iterator[str]:
    """The address of an empty database for the user that the script makes."""
    name = postgresql.partition("@/")[2].partition("?")[0]
    programs = [Path(one).parent for one in (shutil.which("psql"),) if one] or sorted(
        Path("/usr/lib/postgresql").glob("*/bin")
    )
    environment = {
        **os.environ,
        "PATH": f"{programs[-1]}{os.pathsep}{os.environ['PATH']}",
        "PGHOST": str(postgresql_server),
        "POSTGRES_USER": "shopfit",
        "POSTGRES_DB": name,
        "READER_PASSWORD": PASSWORD,
    }
    done = subprocess.run(
        [DEPLOY / "postgres" / "reader.sh"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    yield postgresql.replace("//shopfit:s3cret@", "//reader:unchecked@")
    with psycopg.connect(host=str(postgresql_server), user="shopfit", dbname=name, autocommit=True) as connection:
        connection.execute("DROP OWNED BY reader")
        connection.execute("DROP ROLE reader")


def test_it_reads_what_the_owner_wrote_and_changes_nothing(postgresql: str, reader: str, tmp_path: Path) -> None:
    blobs = str(tmp_path / "blobs")
    with Registry.open(Settings(tmp_path / "owner", postgresql, blobs)) as registry:
        key = registry.create_key("acme", ["infer"], new=True, actor="ada").key
    with Registry.open(Settings(tmp_path / "reader", reader, blobs)) as registry:
        (seen,) = registry.keys()
        assert seen.id == key.id
        with pytest.raises(RegistryError):
            registry.create_key("acme", ["infer"], actor="mallory")
        with pytest.raises(RegistryError):
            registry.revoke_key(key.id, actor="mallory")
    with Registry.open(Settings(tmp_path / "owner", postgresql, blobs)) as registry:
        (kept,) = registry.keys()
        assert kept.revoked is None
