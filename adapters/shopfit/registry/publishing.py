"""Reads a bundle's files for publishing, once, and checks that the registry can store them."""

import hashlib

from shopfit.adapter.bundle import MANIFEST, Bundle, HeldBundle, check_servable, parse_manifest
from shopfit.adapter.safe_reading import read_file
from shopfit.errors import BundleError, Problem
from shopfit.registry import fetching


def contents(bundle: Bundle) -> dict[str, bytes]:
    """Every file of `bundle`, in memory, so that the hashed bytes are the stored bytes.

    Raises:
        BundleError: if a file is too large, cannot be stored or served, or changed while it was read.
    """
    manifest = bundle.manifest
    paths = [*manifest.files, MANIFEST]
    problems = [
        Problem(repr(path), "this name cannot be kept", fetching.PATH_RULE)
        for path in paths
        if not fetching.is_path(path)
    ]
    if problems:
        raise BundleError(f"the bundle in {bundle.folder} cannot be published", problems=problems)
    found = {path: _content(bundle, path) for path in paths}
    for path, digest in manifest.files.items():
        if hashlib.sha256(found[path]).hexdigest() != digest:
            raise BundleError(f"the bundle in {bundle.folder} changed while it was published: {path}")
    if parse_manifest(found[MANIFEST], str(bundle.folder / MANIFEST)) != manifest:
        raise BundleError(f"the bundle in {bundle.folder} changed while it was published: {MANIFEST}")
    check_servable(HeldBundle(manifest, found))
    return found


def _content(bundle: Bundle, path: str) -> bytes:
    content = read_file(bundle.folder / path)
    if content is None:
        raise BundleError(f"the bundle in {bundle.folder} changed while it was published: {path}")
    return content
