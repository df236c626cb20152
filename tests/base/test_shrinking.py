"""A smaller base reads the texts that it was made for as the whole one does, to the last bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import save_base

from shopfit.base.checkpoint import Checkpoint
from shopfit.base.description import describe
from shopfit.base.embed import Embedder
from shopfit.base.fingerprint import fingerprint
from shopfit.base.load import load_base
from shopfit.base.profile import Profile, write_profile
from shopfit.base.shrinking import shrink
from shopfit.errors import BaseError, ShopfitError

WORDS = ["tea", "tent", "green", "warm", "龙井", "茶", "好", "喝", "schön", "ness", "ly", "чай"]
TEXTS = ["green tea", "龙井茶好喝", "warm tent"]


def unigram() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    letters = sorted({letter for word in WORDS for letter in word} | set("▁0123456789abcdefghijklmnopqrstuvwxyz!?"))
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *letters, *(f"▁{word}" for word in WORDS), *WORDS]
    table = [(piece, 0.0 if place < 4 else -float(place)) for place, piece in enumerate(dict.fromkeys(pieces))]
    found = Tokenizer(models.Unigram([*table, ("<mask>", 0.0)], unk_id=3))
    found.pre_tokenizer = pre_tokenizers.Metaspace()
    found.decoder = decoders.Metaspace()
    found.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return found


def word_piece() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters = sorted({letter for word in WORDS for letter in word} | set("abcdefghijklmnopqrstuvwxyz"))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), *WORDS]
    table = {piece: place for place, piece in enumerate(dict.fromkeys(pieces))}
    found = Tokenizer(models.WordPiece(table, unk_token="[UNK]"))
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return found


@pytest.fixture(params=["unigram", "word piece"])
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A BERT of two layers with a tokenizer of its kind, and e5's prompts."""
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    if request.param == "unigram":
        names = {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "mask_token": "<mask>",
        }
        pieces = unigram()
    else:
        names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]"}
        pieces = word_piece()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, **names)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer) + 5,  # rows that no piece has
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        pad_token_id=tokenizer.pad_token_id,
    )
    folder = save_base(tmp_path / "whole", BertModel(config), tokenizer)
    write_profile(folder, Profile(query="tea ", passage="tent ", floor=0.4, languages=("zh", "en", "de")))
    return folder


def test_texts_keep_their_vectors(whole: Path, home: Path, tmp_path: Path) -> None:
    done = shrink(str(whole), home, tmp_path / "small", corpus=TEXTS)
    assert done.pieces[1] < done.pieces[0]
    assert done.parameters[1] < done.parameters[0]
    small, before = (Embedder(load_base(str(folder), home)) for folder in (done.folder, whole))
    assert np.array_equal(small(TEXTS), before(TEXTS))
    assert np.array_equal(small.items(TEXTS), before.items(TEXTS))
    assert not np.array_equal(small(["schön"]), before(["schön"]))
    assert np.isfinite(small(["schön чай", "?"])).all()


def test_its_profile_goes_with_it(whole: Path, home: Path, tmp_path: Path) -> None:
    shrink(str(whole), home, tmp_path / "small", corpus=TEXTS)
    assert Checkpoint.open(tmp_path / "small").profile.query == "tea "
    assert Checkpoint.open(tmp_path / "small").profile.floor == 0.4
    base = load_base(str(tmp_path / "small"), home)
    assert base.fingerprint != load_base(str(whole), home).fingerprint


def test_the_terms_of_its_weights_go_with_it(whole: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("not a part of it")
    (whole / "COPYING").symlink_to(tmp_path / "elsewhere")
    (whole / "LICENSE.txt").write_text("Our License\n\nEach copy says it.\n")
    (whole / "NOTICE").write_text("By us.\n")
    (whole / "README.md").write_text("---\nlicense: mit\n---\n")
    small = shrink(str(whole), home, tmp_path / "small", corpus=TEXTS).folder
    assert (small / "LICENSE.txt").read_text() == (whole / "LICENSE.txt").read_text()
    assert (small / "NOTICE").read_text() == "By us.\n"
    assert not (small / "COPYING").exists()
    assert describe(str(small), Checkpoint.open(small)).license == "mit"


def test_what_is_random_in_a_loaded_base_is_not_written(whole: Path, home: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, BertConfig, BertModel

    bare = BertModel(BertConfig.from_pretrained(whole), add_pooling_layer=False)
    save_base(tmp_path / "bare", bare, AutoTokenizer.from_pretrained(whole))
    made = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        done = shrink(str(tmp_path / "bare"), home, tmp_path / f"small-{seed}", corpus=TEXTS)
        made.add(fingerprint(done.folder))
    assert len(made) == 1


def test_a_language_keeps_the_pieces_that_its_words_use_most(whole: Path, home: Path, tmp_path: Path) -> None:
    pytest.importorskip("wordfreq")
    shrink(str(whole), home, tmp_path / "small", languages=["en-GB"], tokens=1000)
    small, before = (Embedder(load_base(str(folder), home)) for folder in (tmp_path / "small", whole))
    assert np.array_equal(small(["green tea"]), before(["green tea"]))
    assert not np.array_equal(small(["龙井茶好喝"]), before(["龙井茶好喝"]))
    assert Checkpoint.open(tmp_path / "small").profile.languages == ("en",)


def test_what_cannot_be_shrunk_is_refused(
    whole: Path, tiny_base: Path, tiny_encoder: Path, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("")
    for name, options, problem in (
        (str(tiny_base), {"corpus": TEXTS}, "is of the kind decoder"),
        (str(tiny_encoder), {"corpus": TEXTS}, "of the type BPE"),
        (str(whole), {}, "nothing was given"),
        (str(whole), {"languages": ["zz"]}, "zz is no language"),
        (str(whole), {"languages": ["kl"]}, "no list of words of kl"),
        (str(whole), {"corpus": TEXTS, "tokens": 10}, "--tokens is 10"),
    ):
        with pytest.raises((BaseError, ShopfitError), match=problem):
            shrink(name, home, tmp_path / "small", **options)
        assert not (tmp_path / "small").exists()
    with pytest.raises(ShopfitError, match="not empty"):
        shrink(str(whole), home, tmp_path / "there", corpus=TEXTS)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
