"""GGUF files as bases: what is in the file, and nothing else, is what answers."""

import shutil
from pathlib import Path

import pytest
import torch
from tests.base.tiny import save_gguf

from shopfit.base.fingerprint import fingerprint
from shopfit.base.load import load_base
from shopfit.base.locate import locate_base
from shopfit.errors import BaseError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gguf").mkdir()
    return tmp_path / "gguf"


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "F16"])
def test_a_file_answers_with_its_own_numbers_and_tokens(folder: Path, tiny_base: Path, home: Path, kind: str) -> None:
    held = save_gguf(folder / "tiny.gguf", tiny_base, kind)
    stages: list[str] = []
    place = locate_base(str(folder / "tiny.gguf"), home, stages.append)
    assert [stage[-8:] for stage in stages] == ["(1 of 3)", "(2 of 3)", "(3 of 3)"]
    assert kind in stages[0]
    base, plain = load_base(str(folder / "tiny.gguf"), home), load_base(str(tiny_base), home)
    found = base.model.state_dict()
    assert all(torch.equal(found[name], held[name]) for name in held)
    assert found.keys() == plain.model.state_dict().keys()
    assert base.folder == place
    for text in ("Tents and stoves", " 2 for 1!\n", "<|end|>"):
        assert base.tokenizer.encode(text) == plain.tokenizer.encode(text)
    assert base.tokenizer.eos_token_id == base.tokenizer.pad_token_id == 0


def test_a_folder_with_one_file_is_that_base_and_it_is_written_once(folder: Path, tiny_base: Path, home: Path) -> None:
    save_gguf(folder / "tiny.gguf", tiny_base)
    (folder / "config.json").write_text("{}")  # what lies beside it is not read
    stages: list[str] = []
    place = locate_base(str(folder), home, stages.append)
    assert len(stages) == 3
    assert locate_base(str(folder / "tiny.gguf"), home, stages.append) == place
    assert len(stages) == 3
    shutil.move(folder, folder.with_name("moved"))
    assert locate_base(str(folder.with_name("moved")), home, stages.append) == place


def test_another_content_under_the_same_name_is_another_base(folder: Path, tiny_base: Path, home: Path) -> None:
    save_gguf(folder / "tiny.gguf", tiny_base, "Q8_0")
    first = fingerprint(locate_base(str(folder), home))
    save_gguf(folder / "tiny.gguf", tiny_base, "Q4_0")
    assert fingerprint(locate_base(str(folder), home)) != first


def test_safetensors_beside_it_go_first(folder: Path, tiny_base: Path, home: Path) -> None:
    shutil.copytree(tiny_base, folder, dirs_exist_ok=True)
    (folder / "tiny.gguf").write_bytes(b"")
    assert locate_base(str(folder), home) == folder


def test_several_files_are_not_chosen_from(folder: Path, home: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (folder / name).write_bytes(b"")
    with pytest.raises(BaseError, match=r"several GGUF files: a\.gguf, b\.gguf") as refused:
        locate_base(str(folder), home)
    assert str(folder / "a.gguf") in str(refused.value)


def test_a_part_of_a_file_is_refused(folder: Path, home: Path) -> None:
    (folder / "base-00001-of-00003.gguf").write_bytes(b"")
    with pytest.raises(BaseError, match=r"one part of several(.|\n)*llama-gguf-split --merge"):
        locate_base(str(folder), home)


@pytest.mark.parametrize("keep", [0, 3, 24, 1000, 0.5, -1])
def test_a_file_that_is_cut_short(folder: Path, tiny_base: Path, home: Path, keep: float) -> None:
    save_gguf(folder / "tiny.gguf", tiny_base)
    content = (folder / "tiny.gguf").read_bytes()
    (folder / "tiny.gguf").write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(BaseError, match=r"tiny\.gguf is not a whole GGUF file"):
        locate_base(str(folder), home)
    assert not (home / "dequantized").exists()


def test_an_architecture_that_transformers_does_not_know(folder: Path, tiny_base: Path, home: Path) -> None:
    save_gguf(folder / "tiny.gguf", tiny_base)
    content = (folder / "tiny.gguf").read_bytes()
    (folder / "tiny.gguf").write_bytes(content.replace(b"llama", b"lhama"))
    with pytest.raises(BaseError, match=r"does not read .*tiny\.gguf, of the architecture lhama .*F32, Q8_0"):
        locate_base(str(folder), home)
    assert not list((home / "dequantized").iterdir())


def test_a_file_that_lacks_weights(folder: Path, tiny_base: Path, home: Path) -> None:
    save_gguf(folder / "tiny.gguf", tiny_base)
    content = (folder / "tiny.gguf").read_bytes()
    (folder / "tiny.gguf").write_bytes(content.replace(b"blk.1.ffn_down", b"blk.7.ffn_down"))
    with pytest.raises(BaseError, match=r"layers\.1\.mlp\.down_proj\.weight: is missing"):
        locate_base(str(folder), home)


def test_a_link_that_leads_out_of_the_folder(folder: Path, tiny_base: Path, home: Path, tmp_path: Path) -> None:
    save_gguf(tmp_path / "elsewhere.gguf", tiny_base)
    (folder / "tiny.gguf").symlink_to(tmp_path / "elsewhere.gguf")
    with pytest.raises(BaseError, match="leads out of its folder"):
        locate_base(str(folder), home)


def test_a_file_that_is_not_there(folder: Path, home: Path) -> None:
    with pytest.raises(BaseError, match=r"there is no file .*tiny\.gguf"):
        locate_base(str(folder / "tiny.gguf"), home)
