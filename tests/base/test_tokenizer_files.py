"""Tokenizers in the files they come in: read as they were made, or refused by the name of the missing file."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.base.tiny import save_tiny
from tests.conftest import CORPUS

from shopfit.base.encode import PlainTokenizer
from shopfit.base.load import load_base
from shopfit.errors import BaseError

TEXTS = ("Tents and stoves for two", " 2 for 1!\n\n", "店铺 магазин é", "<|end|> [SEP]")


@pytest.fixture
def copy(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


def only(folder: Path, *names: str) -> None:
    """Leave of a tokenizer's files only these."""
    for path in folder.iterdir():
        if path.name not in {"config.json", "generation_config.json", "model.safetensors", *names}:
            path.unlink()


def read(folder: Path, home: Path) -> list[tuple[int, ...]]:
    plain = PlainTokenizer.of(load_base(str(folder), home).tokenizer)
    return [plain.encode(text) for text in TEXTS]


def test_tokenizer_json_alone_is_read_as_it_is(copy: Path, home: Path) -> None:
    whole = read(copy, home)
    only(copy, "tokenizer.json")
    base = load_base(str(copy), home)
    assert read(copy, home) == whole
    assert (base.tokenizer.eos_token_id, base.tokenizer.pad_token_id) == (0, 0)  # config.json says so


def test_tokenizer_json_alone_of_an_encoder(tiny_encoder: Path, tmp_path: Path, home: Path) -> None:
    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))
    whole = read(folder, home)
    only(folder, "tokenizer.json")
    assert read(folder, home) == whole


def write_byte_pairs(folder: Path) -> None:
    """vocab.json and merges.txt, as slow tokenizers kept them."""
    said = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(said["vocab"]).replace("<|end|>", "<|endoftext|>"))
    merges = [" ".join(merge) for merge in said["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))


def test_a_vocabulary_and_its_merges(tmp_path: Path, home: Path) -> None:
    folder = save_tiny(tmp_path / "base", "gpt2", "AutoModelForCausalLM", activation_function="gelu")
    whole = read(folder, home)
    write_byte_pairs(folder)
    only(folder, "vocab.json", "merges.txt")
    assert read(folder, home)[:3] == whole[:3]


@pytest.mark.parametrize(("left", "missing"), [("vocab.json", "merges.txt"), ("merges.txt", "vocab.json")])
def test_half_of_them_is_no_tokenizer(copy: Path, home: Path, left: str, missing: str) -> None:
    write_byte_pairs(copy)
    only(copy, left, "tokenizer_config.json")
    with pytest.raises(BaseError, match=f"holds no {missing}: {left} alone is no tokenizer"):
        load_base(str(copy), home)


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "tents", "and", "stoves", "for", "two", "the", "shop", "sells"]


def bert(folder: Path, words: list[str]) -> Path:
    save_tiny(folder, "bert", "AutoModel")
    (folder / "vocab.txt").write_text("\n".join([*words, "t", "##e", "##n", "2", "."]))
    only(folder, "vocab.txt")
    return folder


def test_words_in_lower_case_alone(tmp_path: Path, home: Path) -> None:
    folder = bert(tmp_path / "bert", WORDS)
    plain = PlainTokenizer.of(load_base(str(folder), home).tokenizer)
    assert plain.encode("Tents and stoves for TWO") == (2, 5, 6, 7, 8, 9, 3)


def test_words_with_capitals_need_to_say_whether_they_count(tmp_path: Path, home: Path) -> None:
    folder = bert(tmp_path / "bert", [*WORDS, "Tents"])
    with pytest.raises(BaseError, match=r"holds no tokenizer_config\.json: vocab\.txt has capital letters"):
        load_base(str(folder), home)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": False})
    )
    plain = PlainTokenizer.of(load_base(str(folder), home).tokenizer)
    assert plain.encode("Tents and") == (2, len(WORDS), 6, 3)


def sentencepiece_model(kind: str, family: str) -> bytes:
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=written,
        vocab_size=380,
        model_type=kind,
        byte_fallback=kind == "bpe",
        hard_vocab_limit=False,
        pad_id=3 if family == "gemma" else -1,
        add_dummy_prefix=family != "gemma",
        minloglevel=2,
    )
    return written.getvalue()


@pytest.mark.parametrize(
    ("kind", "family", "name"),
    [
        ("bpe", "llama", "tokenizer.model"),
        ("bpe", "mistral", "tokenizer.model"),
        ("bpe", "gemma", "tokenizer.model"),
        ("unigram", "xlm-roberta", "sentencepiece.bpe.model"),
    ],
)
@pytest.mark.parametrize("said", [None, {}])
def test_a_sentencepiece_model_alone(
    tmp_path: Path, home: Path, kind: str, family: str, name: str, said: dict[str, Any] | None
) -> None:
    from sentencepiece import SentencePieceProcessor

    content = sentencepiece_model(kind, family)
    loader = "AutoModel" if "roberta" in family else "AutoModelForCausalLM"
    folder = save_tiny(tmp_path / "base", family, loader, eos_token_id=2, bos_token_id=1)
    only(folder)
    (folder / name).write_bytes(content)
    if said is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(said))
    tokenizer = load_base(str(folder), home).tokenizer
    plain, theirs = PlainTokenizer.of(tokenizer), SentencePieceProcessor(model_proto=content)
    for text in ("Tents and stoves for two", "the shop", "2 for two"):
        pieces = tokenizer.convert_ids_to_tokens(plain.encode(text, special=False))
        assert pieces == theirs.encode(text, out_type=str), text


def test_a_sentencepiece_model_that_transformers_reads_otherwise(tmp_path: Path, home: Path) -> None:
    folder = save_tiny(tmp_path / "base", "llama", "AutoModelForCausalLM", eos_token_id=2, bos_token_id=1)
    only(folder)
    (folder / "tokenizer.model").write_bytes(sentencepiece_model("unigram", "llama"))
    with pytest.raises(BaseError, match=r"does not read tokenizer\.model as sentencepiece itself does"):
        load_base(str(folder), home)


def test_a_sentencepiece_model_that_is_none(tmp_path: Path, home: Path) -> None:
    folder = save_tiny(tmp_path / "base", "llama", "AutoModelForCausalLM")
    only(folder)
    (folder / "tokenizer.model").write_bytes(b"\x00\x01 no model")
    with pytest.raises(BaseError, match=r"cannot be loaded|as sentencepiece"):
        load_base(str(folder), home)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("qwen.tiktoken", b"IQ== 0\nIg== 1\n"),
        ("tiktoken.model", b"IQ== 0\nIg== 1\n"),
        ("tokenizer.model", b"IQ== 0\nIg== 1\n"),
        ("tekken.json", b"{}"),
    ],
)
def test_a_tokenizer_of_tiktokens_kind(copy: Path, home: Path, name: str, content: bytes) -> None:
    only(copy, "tokenizer_config.json")
    (copy / name).write_bytes(content)
    with pytest.raises(BaseError, match=rf"holds no tokenizer\.json: its tokenizer, {name}, is tiktoken's"):
        load_base(str(copy), home)


def test_marians_pair_of_models(copy: Path, home: Path) -> None:
    only(copy)
    for name in ("source.spm", "target.spm"):
        (copy / name).write_bytes(b"model")
    (copy / "vocab.json").write_text("{}")
    with pytest.raises(BaseError, match=r"holds no tokenizer.json: source.spm and target.spm are a pair"):
        load_base(str(copy), home)


def test_no_tokenizer_at_all(copy: Path, home: Path) -> None:
    only(copy, "tokenizer_config.json")
    with pytest.raises(BaseError, match="holds no tokenizer"):
        load_base(str(copy), home)


def change(path: Path, said: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | said))


def test_which_side_is_filled_up_by_default_does_not_matter(copy: Path, home: Path) -> None:
    whole = read(copy, home)
    change(copy / "tokenizer_config.json", {"padding_side": "left", "truncation_side": "left", "model_max_length": 4})
    said = json.loads((copy / "tokenizer.json").read_text())
    said["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<|end|>",
    }
    said["truncation"] = {"direction": "Left", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    (copy / "tokenizer.json").write_text(json.dumps(said))
    assert read(copy, home) == whole


def test_without_a_padding_token_another_one_fills_up_and_nothing_grows(copy: Path, home: Path) -> None:
    change(copy / "config.json", {"pad_token_id": None, "bos_token_id": None})
    change(copy / "tokenizer_config.json", {"pad_token": None, "bos_token": None})
    base = load_base(str(copy), home)
    assert base.tokenizer.pad_token_id == base.tokenizer.eos_token_id == 0
    assert len(base.model.get_input_embeddings().weight) == base.model.config.vocab_size


def test_a_padding_token_behind_the_embedding_is_replaced(copy: Path, home: Path) -> None:
    rows = add_token(copy, special=True)
    change(copy / "tokenizer_config.json", {"pad_token": "<|more|>"})
    base = load_base(str(copy), home)
    assert base.tokenizer.pad_token_id == 0
    assert len(base.model.get_input_embeddings().weight) == rows


def add_token(folder: Path, *, special: bool, content: str = "<|more|>") -> int:
    """Give a tokenizer one token more than its model has rows."""
    said = json.loads((folder / "tokenizer.json").read_text())
    rows: int = json.loads((folder / "config.json").read_text())["vocab_size"]
    said["added_tokens"].append(said["added_tokens"][0] | {"id": rows, "content": content, "special": special})
    (folder / "tokenizer.json").write_text(json.dumps(said))
    return rows


def test_a_token_behind_the_embedding_that_no_text_makes(copy: Path, home: Path) -> None:
    rows = add_token(copy, special=True)
    plain = PlainTokenizer.of(load_base(str(copy), home).tokenizer)
    assert max(plain.encode("what is <|more|> than <|end|>?")) < rows


@pytest.mark.parametrize("how", ["text", "end", "template"])
def test_a_token_behind_the_embedding_that_may_be_met(copy: Path, home: Path, how: str) -> None:
    rows = add_token(copy, special=how != "text", content="more" if how == "text" else "<|more|>")
    match how:
        case "end":
            change(copy / "tokenizer_config.json", {"eos_token": "<|more|>"})
        case "template":
            (copy / "chat_template.jinja").write_text("{% for m in messages %}<|more|>{{ m.content }}{% endfor %}")
    with pytest.raises(BaseError, match=rf"has {rows + 1} tokens, its model {rows} rows: it would make '.*more.*'"):
        load_base(str(copy), home)


def test_fewer_tokens_than_rows(copy: Path, home: Path, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "wide", "llama", "AutoModelForCausalLM", vocab_size=512)
    assert load_base(str(folder), home).model.config.vocab_size == 512
