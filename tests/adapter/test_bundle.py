import os
import socket
from pathlib import Path

import pytest

from shopfit.adapter.bundle import (
    MANIFEST,
    BaseIdentity,
    Bundle,
    DataIdentity,
    HeldBundle,
    Manifest,
    check_servable,
    parse_manifest,
    seal,
)
from shopfit.errors import BundleError


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    folder = tmp_path / "bundle"
    (folder / "native").mkdir(parents=True)
    (folder / "native" / "weights").write_bytes(b"1234")
    (folder / "report.json").write_text("{}")
    return seal(folder, manifest())


def manifest() -> Manifest:
    return Manifest(
        schema=1,
        merchant="acme",
        recipe="r",
        recipe_snapshot={"task": "choose"},
        base=BaseIdentity(name="b", fingerprint="f"),
        data=DataIdentity(digest="d", train=["1"], valid=[], test=["2"]),
        seed=1,
        method="lora",
        rank=8,
        trainable_parameters=10,
        steps=3,
        libraries={"torch": "2"},
    )


def test_opens_as_it_was_sealed(bundle: Bundle) -> None:
    again = Bundle.open(bundle.folder)
    assert again == bundle
    assert again.digest == bundle.digest
    assert again.size > 4
    assert again.lora is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda folder: (folder / "native" / "weights").write_bytes(b"1235"),
            "native/weights: its content does not match",
        ),
        (lambda folder: (folder / "report.json").unlink(), "report.json: is missing"),
        (lambda folder: (folder / "evil.pkl").write_text(""), "evil.pkl: is not in the manifest"),
        (lambda folder: (folder / MANIFEST).unlink(), "it has no bundle.json"),
        (lambda folder: (folder / MANIFEST).write_text("{}"), "not a valid manifest"),
        (lambda folder: (folder / "link").symlink_to("/etc/passwd"), "not a plain file"),
    ],
)
def test_an_edited_bundle_is_refused_saying_what(bundle: Bundle, change: object, said: str) -> None:
    change(bundle.folder)  # type: ignore[operator]
    with pytest.raises(BundleError, match=said):
        Bundle.open(bundle.folder)


def test_the_digest_covers_the_manifest(bundle: Bundle) -> None:
    before = bundle.digest
    again = seal(bundle.folder, manifest().model_copy(update={"seed": 2}))
    assert again.digest != before


@pytest.mark.parametrize("file", ["bundle.json", "report.json", "native/weights"])
@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "socket"])
def test_only_plain_files_are_read_and_nobody_is_waited_for(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, kind: str
) -> None:
    path = bundle.folder / file
    path.rename(tmp_path / "away")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(tmp_path / "away")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            monkeypatch.chdir(path.parent)  # names of sockets may not be long
            made.bind(path.name)
    else:
        path.mkdir()
    with pytest.raises(BundleError, match=f"{path.name}.*(is not a plain file|is missing)"):
        Bundle.open(bundle.folder)
    if file != "bundle.json":
        with pytest.raises(BundleError, match="is not a plain file"):
            bundle.read(file)
    if kind in {"pipe", "link", "socket"} or file == "bundle.json":
        with pytest.raises(BundleError, match="is not a plain file"):
            seal(bundle.folder, manifest())


def test_a_folder_of_very_many_files_is_no_bundle(bundle: Bundle) -> None:
    for number in range(2000):
        (bundle.folder / "native" / str(number)).touch()
    for look in (lambda: Bundle.open(bundle.folder), lambda: seal(bundle.folder, manifest())):
        with pytest.raises(BundleError, match="holds more than 1000 files"):
            look()


def test_what_is_read_is_what_was_sealed(bundle: Bundle) -> None:
    assert bundle.read("report.json") == b"{}"
    assert bundle.read("never.json") is None
    (bundle.folder / "added.json").write_text("{}")
    assert bundle.read("added.json") is None  # nobody vouches for it
    (bundle.folder / "report.json").write_text("[]")
    with pytest.raises(BundleError, match=r"report\.json was changed after the bundle was sealed"):
        bundle.read("report.json")
    (bundle.folder / "report.json").unlink()
    with pytest.raises(BundleError, match=r"report\.json is missing"):
        bundle.read("report.json")


def test_a_bundle_stays_the_one_that_was_opened(bundle: Bundle) -> None:
    opened = Bundle.open(bundle.folder)
    digest = opened.digest
    seal(bundle.folder, manifest().model_copy(update={"seed": 2}))
    assert opened.digest == bundle.digest == digest
    assert Bundle.open(bundle.folder).digest != digest


@pytest.mark.parametrize("name", ["", "bundle.json/x", "a\0b", "x" * 5000])
def test_places_where_no_bundle_can_be(bundle: Bundle, name: str) -> None:
    with pytest.raises(BundleError):
        Bundle.open(bundle.folder.parent / name if name != "" else bundle.folder.parent)


SIZES = {
    MANIFEST: 32,
    "blend.json": 16,
    "lora/adapter_config.json": 4,
    "head.safetensors": 256,
    "catalog.jsonl": 1024,
    "history.jsonl": 1024,
    "report.json": 64,
    "study.json": 64,
    "README.md": 64,
    "lora/adapter_model.safetensors": 4096,
}


def grow(path: Path, mebibytes: int) -> None:
    """To one byte too many, without writing them."""
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.truncate(path, mebibytes * 1024**2 + 1)


@pytest.mark.parametrize(("name", "most"), SIZES.items())
def test_a_file_larger_than_its_kind_is_refused_unread(bundle: Bundle, name: str, most: int) -> None:
    grow(bundle.folder / name, most)
    said = rf"{Path(name).name} has {most * 1024**2 + 1} bytes \(allowed: {most * 1024**2}\)"
    with pytest.raises(BundleError, match=said):
        Bundle.open(bundle.folder)
    if name != MANIFEST:
        with pytest.raises(BundleError, match=said):
            seal(bundle.folder, manifest())


def test_a_manifest_too_large_is_not_sealed(bundle: Bundle) -> None:
    many = DataIdentity(digest="d", train=["x" * 1000] * 40_000, valid=[], test=[])
    with pytest.raises(BundleError, match=r"bundle\.json has \d+ bytes"):
        seal(bundle.folder, manifest().model_copy(update={"data": many}))
    assert Bundle.open(bundle.folder) == bundle


@pytest.mark.parametrize("name", ["blend.json", "lora/adapter_config.json", "report.json", "README.md"])
def test_a_file_too_large_is_not_taken_from_a_registry(name: str) -> None:
    content = b" " * (SIZES[name] * 1024**2 + 1)
    bundle = HeldBundle(manifest().model_copy(update={"files": {name: "0" * 64}}), {name: content})
    for read in (lambda: bundle.read(name), lambda: check_servable(bundle)):
        with pytest.raises(BundleError, match=rf"{Path(name).name} has {len(content)} bytes"):
            read()
    with pytest.raises(BundleError, match=r"bundle\.json has \d+ bytes"):
        parse_manifest(b" " * (32 * 1024**2 + 1), MANIFEST)


@pytest.mark.parametrize("name", ["catalog.jsonl", "history.jsonl"])
def test_a_line_too_long_is_not_sealed(bundle: Bundle, name: str) -> None:
    (bundle.folder / name).write_bytes(b"{}\n" + b" " * (4 * 1024**2) + b"{}\n")
    with pytest.raises(BundleError, match=rf"{name} has 4194307 bytes in line 2 \(allowed: 4194304\)"):
        seal(bundle.folder, manifest())
