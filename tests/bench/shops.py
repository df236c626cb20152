"""Merchants' folders made from the data sets that benchmarks read by path."""

import ast
import csv
import json
import random
import re
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


def zh_review_shop(source: Path, target: Path, shop: str, rows: int) -> Path:
    """A Chinese shop's reviews, as a merchant that shares, its own test set beside them.

    Args:
        source: folder of files `<shop>.<part>.tsv`, a text and 1 or -1 a line.
        target: where the merchant's folder goes.
        shop: such as `books`.
        rows: of the training file that it has at most.
    """
    folder = _merchant(target, shop, share=True, language="zh")
    for part, file in (("train", "reviews.jsonl"), ("test", "reviews.test.jsonl")):
        lines = (source / f"{shop}.{part}.tsv").read_text(encoding="utf-8").splitlines()
        pairs = [line.rpartition("\t")[::2] for line in lines]
        written = [
            {"id": f"{part}-{number}", "text": text, "label": "positive" if label == "1" else "negative"}
            for number, (text, label) in enumerate(pairs)
            if text.strip()
        ]
        random.Random(0).shuffle(written)
        _write(folder / file, written[:rows] if part == "train" else written)
    return folder


def domains(source: Path) -> list[str]:
    """Names of the domains in the file `clinc_dev.json`."""
    return list(json.loads(source.read_text(encoding="utf-8"))["domains"])


def intent_shop(source: Path, target: Path, domain: str) -> Path:
    """One domain of CLINC150, as a merchant that shares: questions and which of its fifteen intents each has.

    Args:
        source: the file `clinc_dev.json`.
        target: where the merchant's folder goes.
        domain: such as `banking`.
    """
    document = json.loads(source.read_text(encoding="utf-8"))
    folder, intents = _merchant(target, domain.replace("_", "-"), share=True), set(document["domains"][domain])
    for part, file in (("train", "intents.jsonl"), ("test", "intents.test.jsonl")):
        rows = [
            {"id": f"{part}-{number}", "text": text, "label": intent.replace("_", " ")}
            for number, (text, intent) in enumerate(document[part])
            if intent in intents
        ]
        _write(folder / file, rows)
    return folder


def movie_shop(source: Path, target: Path) -> Path:
    """TALLRec's movies: what a user liked and disliked, and whether one more film will be liked.

    Args:
        source: folder with train.json and test.json.
        target: where the merchant's folder goes.
    """
    folder = _merchant(target, "movies")
    for part, file in (("train", "behaviour.jsonl"), ("test", "behaviour.test.jsonl")):
        rows = []
        for number, row in enumerate(json.loads((source / f"{part}.json").read_text(encoding="utf-8"))):
            liked, disliked, asked = row["input"].split("\n")
            rows.append(
                {
                    "id": f"{part}-{number}",
                    "group": f"{part}-{row['user']}" if "user" in row else None,
                    "liked": _titles(liked),
                    "disliked": _titles(disliked),
                    "item": _titles(asked)[0],
                    "label": "yes" if row["output"].startswith("Yes") else "no",
                }
            )
        _write(folder / file, rows)
    return folder


def _titles(line: str) -> list[str]:
    return re.findall(r'"(.+?)"(?=, "|$|\?)', line)


def office_shop(source: Path, target: Path, seed: int, *, tested: int = 1000) -> Path:
    """A store's products, and what users bought next; users of the test are in no other row.

    Args:
        source: folder with the items and the rows.
        target: where the merchant's folder goes.
        seed: of the draw of the test's users.
        tested: rows of the test.
    """
    folder = _merchant(target, "office")
    items = json.loads((source / "Office_Products.item.json").read_text(encoding="utf-8"))
    texts = {name: _paragraphs(item["description"])[:300] for name, item in items.items()}
    _write(
        folder / "catalog.jsonl",
        (
            {"id": name, "title": item["title"], "description": texts[name], "brand": item.get("brand") or ""}
            for name, item in items.items()
        ),
    )
    with (source / "Office_Products.valid.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            {
                "id": str(number),
                "group": row["user_id"],
                "history": [str(item) for item in ast.literal_eval(row["history_item_id"])],
                "relevant": [row["item_id"]],
            }
            for number, row in enumerate(csv.DictReader(file))
        ]
    users = sorted({row["group"] for row in rows})
    place = {user: number for number, user in enumerate(random.Random(seed).sample(users, len(users)))}
    rows.sort(key=lambda row: place[row["group"]])
    last = rows[tested - 1]["group"]
    _write(folder / "searches.test.jsonl", rows[:tested])
    _write(folder / "searches.jsonl", [row for row in rows[tested:] if row["group"] != last])
    return folder


def _paragraphs(description: str) -> str:
    """What a list of paragraphs says, which was written down with quotes inside that were not always escaped."""
    try:
        return " ".join(ast.literal_eval(description or "[]"))
    except (SyntaxError, ValueError):
        return description.strip("[]\"'")


def intention_shop(source: Path, target: Path, seed: int) -> Path:
    """IntentionQA as ranking: which of four products an intention goes with, or which of four intentions two products.

    Args:
        source: task1.jsonl (intentions) or task2.jsonl (products).
        target: where the merchant's folder goes.
        seed: of the draw of the test's items, which are in no training row.
    """
    folder = _merchant(target, source.stem)
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if len(set(row["options"].values())) == 4]
    random.Random(seed).shuffle(rows)
    held: set[str] = set()
    for row in rows[: len(rows) // 2]:
        held |= {row["item_a_id"], row["item_b_id"]}
    shown: dict[str, list[dict[str, Any]]] = {"searches.jsonl": [], "searches.test.jsonl": []}
    for number, row in enumerate(rows):
        both = {row["item_a_id"], row["item_b_id"]}
        tested = number < len(rows) // 2
        if not tested and both & held:
            continue
        query = row["assertion"] if source.stem == "task2" else f"{row['item_a_name']}; {row['item_b_name']}"
        options = row["options"]
        example = {"query": query, "relevant": [options[row["gold_ind"]]], "candidates": list(options.values())}
        shown["searches.test.jsonl" if tested else "searches.jsonl"].append({"id": str(number), **example})
    for name, examples in shown.items():
        _write(folder / name, examples)
    return folder


def _merchant(target: Path, name: str, *, share: bool = False, language: str = "en") -> Path:
    folder = target / name
    folder.mkdir(parents=True)
    said = f"name: {name}\nshare: {str(share).lower()}\nlanguage: {language}\n"
    (folder / "merchant.yaml").write_text(said, encoding="utf-8")
    return folder


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
