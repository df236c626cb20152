"""What a language's list of words does not hold stays in a shrunk base: letters, cases and scripts that shops write."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.base.tiny import tiny_model
from tests.conftest import save_base

from shopfit.base.checkpoint import Checkpoint
from shopfit.base.embed import Embedder
from shopfit.base.encode import PlainTokenizer
from shopfit.base.load import load_base, load_tokenizer
from shopfit.base.shrinking import shrink
from shopfit.errors import ShopfitError

pytest.importorskip("wordfreq")
WRITTEN = {
    "el": "της ΟΔΌΣ Σάμος",
    "de": "groß GROẞ Straße",
    "tr": "İstanbul IŞIK ışık DİYE",
    "sr": "чај ЉУБАВ Његош čaj",
    "hr": "čaj LJUBAV Đakovo",
    "sh": "čaj LJUBAV Đakovo",
}
SIMPLIFIED, TRADITIONAL = "这说龙为价们台", "這說龍為價們臺"
SENTENCES = {
    "zh": "这款龙井多少钱？這款龍井多少錢，臺灣和澳門可以寄嗎？",
    "el": "Ο καφές ήρθε γρήγορα, ΕΥΧΑΡΙΣΤΩ, αλλά ο δίσκος έσπασε.",
    "de": "Die Größe paßt, DIE STRASSE IST SÜSS; GROẞE Tasche für draußen.",
    "tr": "İnce bellı bardak ÇOK ŞIK, IŞIL IŞIL ve İYİ paketlenmiş.",
    "sr": "Чај је ЉУБАВ, џем и ђумбир. Čaj je stigao, džem i đumbir.",
    "ar": "هذا الشَّاي لذيذٌ جدًّا، أُريد استرجاع الطلب.",
    "ro": "Țesătură subțire, ŞOSETE și şnur, CĂȚEL.",
}


def whole(folder: Path, kind: str, words: list[str]) -> Path:
    """An encoder whose pieces are some words, and each of their letters at the start of a word and inside."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted({letter for word in words for letter in word} | set("abcdefghijklmnopqrstuvwxyz"))
    controls = ["[PAD]", "[UNK]"]
    found: Any
    if kind == "unigram":
        pieces = [*controls, "▁", *(f"▁{each}" for each in words), *(f"▁{each}" for each in letters), *letters]
        found = Tokenizer(
            models.Unigram([(each, -float(place)) for place, each in enumerate(dict.fromkeys(pieces))], 1)
        )
        found.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        pieces = [*controls, *words, *letters, *(f"##{each}" for each in letters)]
        table = {each: place for place, each in enumerate(dict.fromkeys(pieces))}
        found = Tokenizer(models.WordPiece(table, unk_token="[UNK]"))
        found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=found, unk_token="[UNK]", pad_token="[PAD]")
    return save_base(folder, tiny_model("bert", "AutoModel", vocab_size=len(tokenizer)), tokenizer)


def same_vectors(one: Path, other: Path, home: Path, text: str) -> bool:
    first, second = (Embedder(load_base(str(each), home)) for each in (one, other))
    return np.array_equal(first(text.split()), second(text.split()))


@pytest.mark.parametrize(
    ("tag", "kind"),
    [*((tag, "unigram") for tag in ("el", "de", "sr", "sh")), *((tag, "word piece") for tag in ("el", "tr", "hr"))],
)
def test_words_are_read_as_shops_write_them(tag: str, kind: str, home: Path, tmp_path: Path) -> None:
    text = WRITTEN[tag]
    base = whole(tmp_path / "base", kind, [*text.split()[:1], *"".join(text.split())])
    shrink(str(base), home, tmp_path / "small", languages=[tag], tokens=1000)
    assert same_vectors(base, tmp_path / "small", home, text)


def test_chinese_is_read_in_both_scripts_unless_the_tag_says_one(home: Path, tmp_path: Path) -> None:
    base = whole(tmp_path / "base", "unigram", [SIMPLIFIED, TRADITIONAL, "我們", "咱们"])
    for tag, both in (("zh", True), ("zh-CN", False)):
        small = tmp_path / tag
        shrink(str(base), home, small, languages=[tag], tokens=1000)
        assert same_vectors(base, small, home, " ".join(SIMPLIFIED))
        assert same_vectors(base, small, home, f"我們 {TRADITIONAL}") == both


def test_too_few_pieces_for_the_letters_of_a_language_are_refused(home: Path, tmp_path: Path) -> None:
    base = whole(tmp_path / "base", "unigram", [chr(place) for place in range(0x4E00, 0x9FA0)])
    with pytest.raises(ShopfitError, match=r"words of zh, \d+\.\d% would be unknown \(\d\.\d% are to the whole base\)"):
        shrink(str(base), home, tmp_path / "small", languages=["zh"], tokens=1000)
    assert not (tmp_path / "small").exists()


@pytest.mark.proof
def test_the_packaged_base_knows_the_letters_of_languages_when_it_is_shrunk(home: Path, tmp_path: Path) -> None:
    name = "e5-small-multilingual"
    shrink(name, home, tmp_path / "small", languages=list(SENTENCES))
    before, after = (load_tokenizer(Checkpoint.open(folder)) for folder in (home / "bases" / name, tmp_path / "small"))
    for text in SENTENCES.values():
        unknown = [PlainTokenizer.of(one).encode(text).count(one.unk_token_id) for one in (before, after)]
        assert unknown[0] == unknown[1], text
