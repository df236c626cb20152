"""Merchants' folders made from the data sets that benchmarks read by path."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def review_shop(source: Path, target: Path, shop: str, *, share: bool = False) -> Path:
    """A shop's reviews (DiverseFewShot_Amazon, at least four stars against fewer), its own test set beside them.

    Args:
        source: folder of files `<shop>.t4.<part>`.
        target: where the merchant's folder goes.
        shop: such as `camera_photo`.
        share: whether it may donate to a starter.
    """
    folder = _merchant(target, shop.replace("_", "-"), share=share)
    for part, file in (("train", "reviews.jsonl"), ("test", "reviews.test.jsonl")):
        rows = []
        for number, line in enumerate((source / f"{shop}.t4.{part}").read_text(encoding="utf-8").splitlines()):
            text, _, label = line.rpartition("\t")
            name = "positive" if label == "1" else "negative"
            if text.strip():
                rows.append({"id": f"{part}-{number}", "text": text, "label": name})
        _write(folder / file, rows)
    return folder


def intent_shop(source: Path, target: Path, domain: str) -> Path:
    """One domain of CLINC150: questions and which of the domain's fifteen intents each has.

    Args:
        source: the file `clinc_dev.json`.
        target: where the merchant's folder goes.
        domain: such as `banking`.
    """
    document = json.loads(source.read_text(encoding="utf-8"))
    folder, intents = _merchant(target, domain.replace("_", "-")), set(document["domains"][domain])
    for part, file in (("train", "intents.jsonl"), ("test", "intents.test.jsonl")):
        rows = [
            {"id": f"{part}-{number}", "text": text, "label": intent.replace("_", " ")}
            for number, (text, intent) in enumerate(document[part])
            if intent in intents
        ]
        _write(folder / file, rows)
    return folder


def _merchant(target: Path, name: str, *, share: bool = False) -> Path:
    folder = target / name
    folder.mkdir(parents=True)
    (folder / "merchant.yaml").write_text(f"name: {name}\nshare: {str(share).lower()}\n", encoding="utf-8")
    return folder


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
