"""Bases that are not what they say: a BaseError each, before anything is trained or served on them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.base.tiny import save_tiny

from shopfit.base.load import load_base
from shopfit.base.locate import locate_base
from shopfit.errors import BaseError


@pytest.fixture
def copy(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


def change(path: Path, said: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | said))


def change_weights(folder: Path, spoil: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(spoil(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})


DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda held: {name: held[name] for name in held if "layers.1" not in name}, f"{DOWN}: is missing"),
        (lambda held: {name: held[name] for name in held if name != DOWN}, f"{DOWN}: is missing"),
        (lambda held: held | {"model.layers.2.mlp.down_proj.weight": held[DOWN].clone()}, "layers.2.*has no place"),
        (lambda held: held | {DOWN: held[DOWN][:, :7].contiguous()}, f"{DOWN}: has the shape"),
        (lambda held: held | {DOWN: held[DOWN] * float("nan")}, f"{DOWN}: holds NaN"),
        (lambda held: held | {DOWN: held[DOWN] / 0}, f"{DOWN}: holds NaN or infinity"),
        (lambda held: {f"x.{name}": held[name] for name in held}, "is missing"),
    ],
)
def test_weights_that_do_not_fit(copy: Path, home: Path, spoil: Callable[..., Any], why: str) -> None:
    change_weights(copy, spoil)
    with pytest.raises(BaseError, match=f"(?s){why}"):
        load_base(str(copy), home)


def test_what_old_checkpoints_hold_besides_weights_is_let_be(copy: Path, tmp_path: Path, home: Path) -> None:
    change_weights(copy, lambda held: held | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    load_base(str(copy), home)
    masked = save_tiny(tmp_path / "masked", "bert", "AutoModelForMaskedLM")
    positions = {"bert.embeddings.position_ids": torch.arange(128)[None]}
    change_weights(masked, lambda held: held | positions)
    assert load_base(str(masked), home).encoder
    change_weights(masked, lambda held: held | {"bert.encoder.layer.2.output.dense.weight": torch.ones(2)})
    with pytest.raises(BaseError, match=r"layer\.2"):
        load_base(str(masked), home)


@pytest.mark.parametrize(
    "said",
    [
        {"model_type": None},
        {"model_type": 7},
        {"model_type": "unheard-of"},
        {"model_type": ["llama"]},
        {"model_type": "gpt2"},
        {"architectures": "LlamaForCausalLM"},
        {"architectures": [7]},
        {"architectures": ["UnheardOf"]},
        {"num_hidden_layers": 0},
        {"num_hidden_layers": -2},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 10**30},
        {"num_hidden_layers": "2"},
        {"num_hidden_layers": True},
        {"num_hidden_layers": 1},
        {"num_hidden_layers": 3},
        {"hidden_size": 0},
        {"hidden_size": -64},
        {"hidden_size": 10**12},
        {"hidden_size": 10**40},
        {"hidden_size": "64"},
        {"hidden_size": 32},
        {"intermediate_size": 10**9},
        {"num_attention_heads": 0},
        {"num_attention_heads": 3},
        {"num_attention_heads": 10**12},
        {"num_key_value_heads": 0},
        {"num_key_value_heads": 1},
        {"head_dim": 10**9},
        {"vocab_size": 0},
        {"vocab_size": -1},
        {"vocab_size": 10**9},
        {"vocab_size": 10},
        {"max_position_embeddings": 0},
        {"max_position_embeddings": -5},
        {"max_position_embeddings": "many"},
        {"max_position_embeddings": None},
        {"hidden_act": "unheard-of"},
        {"hidden_act": None},
        {"rms_norm_eps": "small"},
        {"rms_norm_eps": float("nan")},
        {"rope_parameters": {"rope_type": "unheard-of", "rope_theta": 1.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": float("nan")}},
        {"rope_parameters": 7},
        {"dtype": "float7"},
        {"eos_token_id": 10**6},
        {"eos_token_id": -1},
        {"eos_token_id": "two"},
        {"eos_token_id": [0, 5000]},
        {"pad_token_id": 400_000},
        {"bos_token_id": 1.5},
        {"tie_word_embeddings": False},
        {"is_encoder_decoder": True},
        {"layer_types": ["full_attention", "unheard-of"]},
        {"layer_types": 7},
    ],
    ids=str,
)
def test_settings_that_make_no_model(copy: Path, home: Path, said: dict[str, Any]) -> None:
    change(copy / "config.json", said)
    with pytest.raises(BaseError):
        load_base(str(copy), home)


def test_a_dtype_that_nobody_reads_does_no_harm(copy: Path, home: Path) -> None:
    change(copy / "config.json", {"dtype": 7})
    assert load_base(str(copy), home, device="cpu").dtype == "float32"


def test_without_architectures_a_base_is_what_its_family_is(
    copy: Path, tiny_encoder: Path, tmp_path: Path, home: Path
) -> None:
    change(copy / "config.json", {"architectures": None})
    assert not load_base(str(copy), home).encoder
    encoder = Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))
    change(encoder / "config.json", {"architectures": []})
    assert load_base(str(encoder), home).encoder


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}, "added_tokens": []}',
        b'{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["b", "c"]]}, "added_tokens": []}',
        b'{"version": "1.0", "model": {"type": "unheard-of"}, "added_tokens": []}',
        b'{"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}, "added_tokens": []}',
    ],
)
def test_tokenizers_that_read_nothing(copy: Path, home: Path, content: bytes) -> None:
    (copy / "tokenizer.json").write_bytes(content)
    with pytest.raises(BaseError):
        load_base(str(copy), home)


def test_tokens_that_end_texts_and_fill_rows_up(copy: Path, home: Path) -> None:
    change(copy / "tokenizer_config.json", {"eos_token": None, "pad_token": None})
    base = load_base(str(copy), home)
    assert (base.tokenizer.eos_token_id, base.tokenizer.pad_token_id) == (0, 0)  # as config.json says
    change(copy / "config.json", {"eos_token_id": None, "pad_token_id": None})
    with pytest.raises(BaseError, match="no padding token and no end token"):
        load_base(str(copy), home)


def test_positions_behind_the_padding_are_not_counted(tmp_path: Path, home: Path) -> None:
    folder = save_tiny(tmp_path / "roberta", "roberta", "AutoModel", pad_token_id=1)
    assert load_base(str(folder), home).max_length == 126


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a/b/c",
        "../x",
        "..",
        "~nobody-of-that-name/x",
        "a\0b",
        "/a\0b",
        "\ud800",
        "/\ud800",
        "a/\ud800",
        "x" * 5000,
        "/" + "x" * 5000,
        "owner/..",
        "owner/" + "x" * 5000,
        "-",
        "owner/na me",
        "\n",
        "https://example.org/a",
    ],
    ids=repr,
)
def test_names_of_no_base(home: Path, name: str) -> None:
    with pytest.raises(BaseError):
        load_base(name, home)


def test_a_file_is_no_base(home: Path, tiny_base: Path) -> None:
    with pytest.raises(BaseError, match="is not there: it is a file"):
        locate_base(str(tiny_base / "config.json"), home)


def test_a_packaged_base_that_is_damaged_is_fetched_anew(tmp_path: Path, tiny_encoder: Path) -> None:
    shutil.copytree(tiny_encoder, tmp_path / "bases" / "minilm-l6")
    (tmp_path / "bases" / "minilm-l6" / "model.safetensors").write_bytes(b"")
    with pytest.raises(BaseError, match=r"(?s)not a whole safetensors file.*shopfit base fetch minilm-l6"):
        load_base("minilm-l6", tmp_path)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, -1, 3, 63, 65, 2**31, 2**63, 10**30]),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(-3, 500), max_size=3),
    st.dictionaries(st.sampled_from(["rope_type", "rope_theta", "factor", "x"]), st.floats() | st.text(max_size=5)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_settings_load_or_are_refused(tiny_base: Path, copy: Path, home: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["config.json", "config.json", "tokenizer_config.json", "generation_config.json"]))
    said = json.loads((tiny_base / name).read_text())
    said |= data.draw(st.dictionaries(st.sampled_from(sorted(said)), VALUES, min_size=1, max_size=2))
    for other in ("config.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(tiny_base / other, copy / other)
    (copy / name).write_text(json.dumps(said))
    loads_or_is_refused(copy, home)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_load_or_are_refused(tiny_base: Path, copy: Path, home: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]))
    content = bytearray((tiny_base / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, min(len(content) - 1, 4000))))
        match data.draw(st.sampled_from(["write", "drop", "cut"])):
            case "write":
                content[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
            case "drop":
                del content[at : at + data.draw(st.integers(1, 50))]
            case "cut":
                del content[max(1, at) :]
    for path in tiny_base.iterdir():
        shutil.copy(path, copy / path.name)
    (copy / name).write_bytes(content)
    loads_or_is_refused(copy, home)


def loads_or_is_refused(folder: Path, home: Path) -> None:
    try:
        base = load_base(str(folder), home)
    except BaseError as error:
        str(error).encode()
    else:
        assert base.max_length >= 16


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"model_type": None}, "has the model_type None in its config.json"),
        ({"model_type": "foolm"}, r"is of the family foolm, which transformers [0-9.]+ does not know"),
        ({"num_attention_heads": 5}, "hidden size .* is not a multiple of the number of attention heads"),
        ({"hidden_size": "thirty"}, "hidden_size"),
    ],
)
def test_the_reason_is_said_in_full(copy: Path, home: Path, said: dict[str, Any], wanted: str) -> None:
    change(copy / "config.json", said)
    with pytest.raises(BaseError, match=wanted):
        load_base(str(copy), home)


def test_a_broken_tokenizer_is_named(copy: Path, home: Path) -> None:
    (copy / "tokenizer.json").write_text('{"version":')
    with pytest.raises(BaseError, match=r"the tokenizer of the base in .* cannot be loaded"):
        load_base(str(copy), home)
