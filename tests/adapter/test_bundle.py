from pathlib import Path

import pytest

from shopfit.adapter.bundle import MANIFEST, BaseIdentity, Bundle, DataIdentity, Manifest, seal
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
