"""What of a bundle is published: its files, read once, if a registry can keep all of them."""

import hashlib

from shopfit.adapter.bundle import MANIFEST, Bundle, HeldBundle, check_servable, parse_manifest
from shopfit.adapter.plain_files import read_file
from shopfit.errors import BundleError, Problem
from shopfit.registry import fetching


def contents(bundle: Bundle) -> dict[str, bytes]:
    """Every file of `bundle`, in memory, so that what is hashed is what is kept.

    Raises:
        BundleError: if something in it is too large, could not be kept or served, or changed while it was read.
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
