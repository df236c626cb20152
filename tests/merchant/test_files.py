import json
import os
import socket
import sys
from pathlib import Path
from types import FrameType

import pytest
from tests.merchant.shop import recipe

from shopfit.errors import DataError
from shopfit.merchant.examples import load_examples
from shopfit.merchant.files import MerchantFile
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.unlabeled import load_unlabeled

OUT = "leads out of the merchant's folder"
ROW = json.dumps({"id": "1", "title": "theirs", "text": "theirs", "label": "x"}) + "\n"


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    """The folder of a merchant, beside that of another whose files it must not read."""
    from datasets import Dataset

    for name in ("acme", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "merchant.yaml").write_text(f"name: {name}\n")
    (tmp_path / "other" / "rows.jsonl").write_text(ROW)
    Dataset.from_list([json.loads(ROW)]).save_to_disk(str(tmp_path / "other" / "ds"))
    return tmp_path / "acme"


def read(folder: Path, file: str = "rows.jsonl") -> list[str]:
    merchant = Merchant.open(folder)
    examples = load_examples(merchant, recipe("choose", file=file), file, catalog=None, history=None)
    return [str(example.fields["text"]) for example in examples]


def test_files_inside_are_read_through_links_that_stay_inside(acme: Path) -> None:
    (acme / "real").mkdir()
    (acme / "real" / "rows.jsonl").write_text(ROW.replace("theirs", "mine"))
    (acme / "rows.jsonl").symlink_to("real/rows.jsonl")
    (acme / "sub").symlink_to(acme / "real")
    for file in ("rows.jsonl", "sub/rows.jsonl", "./real/../rows.jsonl"):
        assert MerchantFile(acme, file).read() == ROW.replace("theirs", "mine").encode()
    assert read(acme) == read(acme, "sub/rows.jsonl") == ["mine"]


def test_a_merchants_folder_may_be_reached_by_a_link(acme: Path, tmp_path: Path) -> None:
    (acme / "rows.jsonl").write_text(ROW)
    (tmp_path / "by-link").symlink_to(acme)
    assert read(tmp_path / "by-link") == ["theirs"]


@pytest.mark.parametrize(
    ("name", "target", "file"),
    [
        ("rows.jsonl", "../other/rows.jsonl", "rows.jsonl"),
        ("sub", "../other", "sub/rows.jsonl"),
        ("sub", "..", "sub/other/rows.jsonl"),
        ("rows.csv", "/etc/passwd", "rows.csv"),
        ("ds", "../other/ds", "ds"),
        ("up", "..", "up/other/ds"),
        ("rows.jsonl", "../acme-2/rows.jsonl", "rows.jsonl"),
    ],
)
def test_no_link_leads_out(acme: Path, tmp_path: Path, name: str, target: str, file: str) -> None:
    (tmp_path / "acme-2").mkdir()
    (tmp_path / "acme-2" / "rows.jsonl").write_text(ROW)
    (acme / name).symlink_to(target)
    with pytest.raises(DataError, match=OUT):
        read(acme, file)


@pytest.mark.parametrize("part", ["state.json", "data-00000-of-00001.arrow"])
def test_no_part_of_a_dataset_lies_elsewhere(acme: Path, part: str) -> None:
    from datasets import Dataset

    Dataset.from_list([{"text": "mine", "label": "x"}]).save_to_disk(str(acme / "ds"))
    assert read(acme, "ds") == ["mine"]
    (acme / "ds" / part).unlink()
    (acme / "ds" / part).symlink_to(acme.parent / "other" / "ds" / part)
    with pytest.raises(DataError, match=OUT):
        read(acme, "ds")


def test_no_file_that_a_dataset_names_lies_elsewhere(acme: Path) -> None:
    from datasets import Dataset

    Dataset.from_list([{"text": "mine", "label": "x"}]).save_to_disk(str(acme / "ds"))
    state = json.loads((acme / "ds" / "state.json").read_text())
    state["_data_files"] = [{"filename": "../../other/ds/data-00000-of-00001.arrow"}]
    (acme / "ds" / "state.json").write_text(json.dumps(state))
    with pytest.raises(DataError, match=r"state.json _data_files: .* is not accepted"):
        read(acme, "ds")


def test_test_files_unlabeled_files_catalogs_and_descriptions_stay_inside(acme: Path) -> None:
    other = acme.parent / "other"
    merchant = Merchant.open(acme)
    for name in ("rows.test.jsonl", "rows.unlabeled.jsonl", "catalog.jsonl"):
        (acme / name).symlink_to(other / "rows.jsonl")
    with pytest.raises(DataError, match=OUT):
        merchant.catalog("catalog.jsonl")
    with pytest.raises(DataError, match=OUT):
        load_unlabeled(merchant, recipe("choose"), catalog=None, history=None)
    with pytest.raises(DataError, match=OUT):
        load_examples(merchant, recipe("choose"), "rows.test.jsonl", catalog=None, history=None)
    (acme / "merchant.yaml").unlink()
    (acme / "merchant.yaml").symlink_to(other / "merchant.yaml")
    with pytest.raises(DataError, match=OUT):
        Merchant.open(acme)


@pytest.mark.parametrize("name", ["../other/rows.jsonl", "sub/../../other/rows.jsonl", "/etc/passwd", "//etc/passwd"])
def test_no_name_leads_out(acme: Path, name: str) -> None:
    (acme / "sub").mkdir()
    with pytest.raises(DataError, match=OUT):
        MerchantFile(acme, name).open()


@pytest.mark.parametrize("name", ["a\0b", "\ud800.jsonl", "x" * 5000, "a/" * 3000])
def test_names_that_no_file_can_have(acme: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        MerchantFile(acme, name).open()
    assert caught.value.next_step or "cannot be a file's name" in caught.value.message


def test_what_is_no_plain_file_is_not_opened(acme: Path) -> None:
    os.mkfifo(acme / "pipe.jsonl")
    (acme / "loop.jsonl").symlink_to("loop.jsonl")
    (acme / "file").write_text("x")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(acme / "socket.jsonl"))
        for name in ("pipe.jsonl", "loop.jsonl", "socket.jsonl", "file/rows.jsonl", "."):
            with pytest.raises(DataError, match=r"is not a file|no file"):
                MerchantFile(acme, name).open()
        for name in ("pipe.jsonl", "loop.jsonl", "socket.jsonl"):
            with pytest.raises(DataError, match="is not a file"):
                read(acme, name)
    (acme / "merchant.yaml").unlink()
    os.mkfifo(acme / "merchant.yaml")
    with pytest.raises(DataError, match="is not a file"):
        Merchant.open(acme)


def test_a_link_put_there_after_the_path_was_resolved_leads_nowhere(acme: Path) -> None:
    (acme / "sub").mkdir()
    (acme / "sub" / "rows.jsonl").write_text("mine")
    file = MerchantFile(acme, "sub/rows.jsonl")
    assert file.read() == b"mine"
    resolving: list[FrameType] = []

    def exchange_once_resolved(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is MerchantFile.resolved.__code__:
            resolving.append(frame)
        elif event == "return" and frame in resolving and not (acme / "away").exists():
            os.rename(acme / "sub", acme / "away")  # noqa: PTH104 - no call of Python's while it is watched
            os.symlink(acme.parent / "other", acme / "sub")  # noqa: PTH211

    sys.setprofile(exchange_once_resolved)
    try:
        with pytest.raises(DataError, match="is not a file"):
            file.open()
    finally:
        sys.setprofile(None)
    assert (acme / "sub").is_symlink()
    with pytest.raises(DataError, match=OUT):  # and whoever resolves it now sees the link
        file.open()


def test_a_file_that_is_too_large_is_not_read(acme: Path) -> None:
    with (acme / "large.jsonl").open("wb") as file:
        file.truncate(1024**3 + 1)
    with pytest.raises(DataError, match=r"too large \(allowed: at most 1 GiB\)"):
        MerchantFile(acme, "large.jsonl").read()
    (acme / "merchant.yaml").write_bytes(b"#" * (256 * 1024 + 1))
    with pytest.raises(DataError, match=r"merchant.yaml is too large \(allowed: at most 256 KiB\)"):
        Merchant.open(acme)
