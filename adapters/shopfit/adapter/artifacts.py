"""A bundle's serving artifacts: the files that answering needs besides the weights.

`catalog.jsonl` and `history.jsonl` hold items, `blend.json` the score fusion, `head.safetensors` prototypes (see
`head`); the calibration is in the manifest. Their names, and reading items and fusion, need no torch.
"""

from collections.abc import Collection
from pathlib import Path

from pydantic import ValidationError

from shopfit.adapter.bundle import LORA, MANIFEST, NATIVE, Bundle, HeldBundle
from shopfit.adapter.finite import finite_json
from shopfit.adapter.items import AGAIN, CATALOG, HISTORY, parsed, written
from shopfit.adapter.manifest_rules import place_of
from shopfit.adapter.score_fusion import ScoreFusion
from shopfit.errors import BundleError
from shopfit.merchant.catalog import Catalog

FUSION, HEAD = "blend.json", "head.safetensors"
TEMPERATURE, THRESHOLD = "temperature", "threshold"  # in a manifest's `calibration`


def write_items(path: Path, catalog: Catalog | None) -> None:
    """Write a catalog into a bundle; None writes nothing."""
    if catalog is not None:
        path.write_text(written(catalog.values()), encoding="utf-8")


def read_items(bundle: Bundle | HeldBundle, name: str) -> Catalog | None:
    """Read what `write_items` wrote; None if it wrote nothing. Numbers that are not finite count as missing.

    Raises:
        BundleError: if the file holds anything else.
    """
    content = bundle.read(name)
    if content is None:
        return None
    return parsed(content, f"{name} of {bundle.manifest.reference}")


def read_fusion(bundle: Bundle | HeldBundle, kind: type[ScoreFusion] | None) -> ScoreFusion | None:
    """The score fusion of a bundle; None if its answers are the adapter's scores alone.

    Args:
        bundle: to read.
        kind: the task's; None if it has no score fusion.

    Raises:
        BundleError: if it is malformed, or a number in it is not finite.
    """
    content = bundle.read(FUSION)
    if content is None:
        return None
    try:
        if kind is None:
            raise ValueError("its task has no score fusion")
        return kind.model_validate(finite_json(content))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        reason = ": ".join([place_of(first), first["msg"]]).removeprefix(": ")
    except ValueError as error:
        reason = str(error)
    raise BundleError(f"{FUSION} of {bundle.manifest.reference} is not a blend: {reason}", next_step=AGAIN)


def needed(paths: Collection[str]) -> set[str]:
    """The files of a bundle that serving needs: without the report, and without `native/` where `lora/` is served."""
    weights = [path for path in paths if path.startswith(f"{LORA}/")]
    weights = weights or [path for path in paths if path.startswith(f"{NATIVE}/")]
    return {*beside_weights(paths), *weights}


def beside_weights(paths: Collection[str]) -> set[str]:
    """The files of a bundle that serving needs where the weights are there already."""
    return {MANIFEST, CATALOG, HISTORY, FUSION, HEAD} & set(paths)
