"""What of a base's folder may be read: every damaged or misplaced file is a BaseError that names it."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from shopfit.base.checkpoint import Checkpoint
from shopfit.base.fingerprint import fingerprint
from shopfit.errors import BaseError

ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.fixture
def copy(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


def weights(header: Any, data: int = 8, length: int | None = None) -> bytes:
    said = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(said) if length is None else length) + said + bytes(data)


def other(at: int, to: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [at, to]}


DAMAGED: dict[str, bytes] = {
    "no bytes": b"",
    "three bytes": b"abc",
    "cut short": weights({"a": ONE}, 7),
    "too long": weights({"a": ONE}, 9),
    "header behind the end": weights({"a": ONE}, 8, 1 << 20),
    "header of a petabyte": weights({"a": ONE}, 8, 1 << 50),
    "header of a negative length": weights({"a": ONE}, 8, (1 << 64) - 1),
    "header is no JSON": weights(b"hello!!!"),
    "header is a list": weights([]),
    "header is not UTF-8": weights(b'{"\xff": 1}'),
    "deep header": weights(b"[" * 100_000),
    "gap": weights({"a": ONE, "b": other(12, 20)}, 20),
    "overlap": weights({"a": ONE, "b": other(4, 12)}, 12),
    "negative shape": weights({"a": ONE | {"shape": [-2]}}),
    "shape of another size": weights({"a": ONE | {"shape": [3]}}),
    "shape that overflows": weights({"a": ONE | {"shape": [1 << 40, 1 << 40]}}),
    "negative offset": weights({"a": ONE | {"data_offsets": [-8, 0]}}),
    "offsets turned round": weights({"a": ONE | {"data_offsets": [8, 0]}}),
    "unknown type": weights({"a": ONE | {"dtype": "Q9"}}),
    "entry is a number": weights({"a": 7}),
    "no tensors": weights({}, 0),
    "a name twice": weights(b'{"a":' + json.dumps(ONE).encode() + b',"a":' + json.dumps(ONE).encode() + b"}"),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_weights(copy: Path, content: bytes) -> None:
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(BaseError, match=r"model\.safetensors|weights"):
        fingerprint(copy)


def test_however_many_names_come_twice_a_few_are_shown(copy: Path) -> None:
    empty = json.dumps({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})
    names = [f"t{place}" for place in range(3_000)] * 2
    listed = ",".join(f'"{name}":{empty}' for name in names)
    (copy / "model.safetensors").write_bytes(weights(b"{" + listed.encode() + b"}", 0))
    with pytest.raises(BaseError, match=r"names 't0', .*'t9' and 2990 more twice") as refused:
        fingerprint(copy)
    assert len(str(refused.value)) < 1_000


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keep=st.floats(0, 0.999))
def test_weights_cut_anywhere(copy: Path, tiny_base: Path, keep: float) -> None:
    content = (tiny_base / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(BaseError, match="not a whole safetensors file"):
        fingerprint(copy)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.bool])
def test_numbers_that_are_no_plain_weights(copy: Path, dtype: torch.dtype) -> None:
    tensors = load_file(copy / "model.safetensors")
    first = min(tensors)
    save_file(tensors | {first: tensors[first].to(dtype)}, copy / "model.safetensors")
    with pytest.raises(BaseError, match=rf"{first}.* has numbers of type"):
        fingerprint(copy)


def shard(folder: Path) -> dict[str, str]:
    """Spread the weights over two files; the map of the index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(names)}
    for place in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == place}, folder / place)
    write_index(folder, places)
    return places


def write_index(folder: Path, places: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def test_shards_are_what_the_index_names(copy: Path, tiny_base: Path) -> None:
    shard(copy)
    assert fingerprint(copy) == fingerprint(tiny_base)
    assert len(Checkpoint.open(copy).weights) == 2


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda places: {name: f"../{place}" for name, place in places.items()}, "in the folder"),
        (lambda places: {name: f"/etc/{place}" for name, place in places.items()}, "in the folder"),
        (lambda places: dict.fromkeys(places, "/etc/passwd"), "in the folder"),
        (lambda places: dict.fromkeys(places, "other.safetensors"), "not there"),
        (lambda places: dict.fromkeys(places, "a\x00b.safetensors"), "cannot be read|not there"),
        (lambda places: dict(list(places.items())[1:]), "the index does not name it"),
        (lambda places: places | {"more": next(iter(places.values()))}, "does not hold it"),
        (lambda places: dict(zip(places, reversed(places.values()), strict=True)), "does not hold it"),
        (lambda _: {}, "no weight_map"),
        (lambda places: list(places), "no weight_map"),
        (lambda places: dict.fromkeys(places, 7), "no weight_map"),
    ],
)
def test_an_index_that_is_not_of_its_files(copy: Path, spoil: Callable[[dict[str, str]], Any], why: str) -> None:
    write_index(copy, spoil(shard(copy)))
    with pytest.raises(BaseError, match=why):
        fingerprint(copy)


def test_a_shard_that_is_cut_short_or_not_there_or_elsewhere(copy: Path, tmp_path: Path) -> None:
    first = copy / min(shard(copy).values())
    content = first.read_bytes()
    first.write_bytes(content[:-1])
    with pytest.raises(BaseError, match=f"{first.name} is not a whole safetensors file"):
        fingerprint(copy)
    first.unlink()
    with pytest.raises(BaseError, match=f"names '{first.name}', which is not there"):
        fingerprint(copy)
    (tmp_path / "elsewhere.safetensors").write_bytes(content)
    first.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(BaseError, match=f"{first.name} leads out of its folder"):
        fingerprint(copy)


def test_a_tensor_in_two_shards(copy: Path) -> None:
    places = shard(copy)
    first, second = sorted(set(places.values()))
    tensors, name = load_file(copy / second), next(name for name, place in places.items() if place == first)
    save_file(tensors | {name: torch.zeros(2)}, copy / second)
    with pytest.raises(BaseError, match=name):
        fingerprint(copy)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("what", ["link outside", "link to nothing", "link to itself", "folder", "fifo"])
def test_what_is_no_file_of_the_folder(copy: Path, other_base: Path, name: str, what: str) -> None:
    path = copy / name
    path.unlink()
    match what:
        case "link outside":
            path.symlink_to(other_base / name)
        case "link to nothing":
            path.symlink_to(copy / "nothing")
        case "link to itself":
            path.symlink_to(path)
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
    with pytest.raises(BaseError, match=name):
        fingerprint(copy)


def test_a_snapshot_of_the_hub_is_links_to_its_blobs(tiny_base: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--owner--name"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, path in enumerate(sorted(tiny_base.iterdir())):
        shutil.copy(path, repository / "blobs" / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    assert fingerprint(snapshot) == fingerprint(tiny_base)
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(tiny_base / "config.json")
    with pytest.raises(BaseError, match="leads out of its folder"):
        fingerprint(snapshot)


def test_a_folder_that_is_itself_a_link(tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tiny_base)
    assert fingerprint(tmp_path / "link") == fingerprint(tiny_base)


@pytest.mark.parametrize(
    ("name", "said", "why"),
    [
        ("config.json", {"transformers_weights": "other.safetensors"}, "transformers_weights"),
        ("config.json", {"configuration_files": ["config.4.0.0.json"]}, "configuration_files"),
        ("config.json", {"quantization_config": {"quant_method": "gptq"}}, "quantized already"),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]}, "fast_tokenizer_files"),
        ("adapter_config.json", {"peft_type": "LORA"}, "adapter"),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "cls and mean"),
    ],
)
def test_settings_that_lead_elsewhere(copy: Path, name: str, said: dict[str, Any], why: str) -> None:
    path = copy / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | said))
    with pytest.raises(BaseError, match=why):
        fingerprint(copy)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b"\xff\xfe{}",
        b'{"a": "\\ud800"}',
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "half", "list", "number", "null", "utf-16", "surrogate", "deep", "long number"],
)
def test_settings_that_are_no_object(copy: Path, name: str, content: bytes) -> None:
    (copy / name).write_bytes(content)
    with pytest.raises(BaseError, match=name):
        fingerprint(copy)


@pytest.mark.parametrize("name", ["", "\0", "\ud800", "x" * 5000])
def test_a_path_that_no_folder_has(name: str, tmp_path: Path) -> None:
    with pytest.raises(BaseError):
        fingerprint(tmp_path / name / "x")


def test_a_base_that_changes_while_it_is_loaded(copy: Path) -> None:
    checkpoint = Checkpoint.open(copy)
    with pytest.raises(BaseError, match="was changed while"), checkpoint.alone():
        (copy / "config.json").write_text((copy / "config.json").read_text() + " ")


def test_the_loader_sees_nothing_else(copy: Path) -> None:
    (copy / "modeling_evil.py").write_text("raise SystemExit")
    (copy / "decoy.safetensors").write_bytes(b"")
    with Checkpoint.open(copy).alone() as shown:
        assert not {"modeling_evil.py", "decoy.safetensors"} & {path.name for path in shown.iterdir()}
    assert not shown.exists()
