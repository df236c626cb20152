"""Texts written by models for augmentation: tiny random ones, so that what is tested is the way, not the words."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import save_base

from shopfit.base.load import Base
from shopfit.errors import BaseError, RecipeError
from shopfit.merchant.examples import Example
from shopfit.merchant.leaks import Leaks
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.splits import Splits
from shopfit.recipe.schema import Recipe
from shopfit.tune.rewriting import RewriteModel, ready_to_augment

TEXTS = ["Lovely crema, quick delivery, would buy again!", "The grinder arrived cracked and the box was wet."]


def recipe(**step: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "r",
            "task": "choose",
            "data": {"file": "x.jsonl", "augment": [{"versions": 8} | step]},
            "prompt": {"template": "Review: {text}\nSentiment:"},
            "evaluate": {"metric": "accuracy"},
        }
    )


def run(base: Base, home: Path, recipe: Recipe, language: str = "en") -> tuple[Splits, list[str]]:
    train = [Example(str(number), {"text": text, "stars": 3}, label="x") for number, text in enumerate(TEXTS)]
    splits = Splits(train, [], [], ("x", "y"), Leaks(0, 0, 0), "fixed", "")
    heard: list[str] = []
    merchant = Merchant(name="acme", language=language, folder=home)
    ready = ready_to_augment(splits, recipe, merchant, base, home, lambda _what, detail: heard.append(detail))
    assert [(row.id, row.fields, row.label) for row in ready.train] == [
        (row.id, row.fields, row.label) for row in train
    ]
    return ready, heard


@pytest.fixture(scope="session")
def translator(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sequence-to-sequence model with random weights."""
    from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration

    folder = tmp_path_factory.mktemp("bart")
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    marks = dict.fromkeys(("pad", "bos", "eos", "decoder_start", "forced_eos"), 0)
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=128,
        init_std=0.5,
        **{f"{name}_token_id": token for name, token in marks.items()},
    )
    return save_base(folder, BartForConditionalGeneration(config), tokenizer)


def test_paraphrases_are_written_once_and_found_again(base: Base, home: Path, tiny_base: Path) -> None:
    asked = recipe(step="paraphrase", model=str(tiny_base))
    state = torch.random.get_rng_state()
    first, heard = run(base, home, asked)
    assert torch.equal(torch.random.get_rng_state(), state)
    written = [row.rewrites["paraphrase"]["text"] for row in first.train]
    assert any(written)
    for text, versions in zip(TEXTS, written, strict=True):
        assert len(set(versions)) == len(versions)
        assert text not in versions
        assert all(len(text) / 3 <= len(one) <= len(text) * 3 for one in versions)
    assert heard[0] == "paraphrase in 50% of the examples"
    assert heard[1].endswith("0 from before")
    files = sorted((home / "rewrites" / "acme").iterdir())
    assert len(files) == len(TEXTS)
    again, heard = run(base, home, asked)
    assert [row.rewrites for row in again.train] == [row.rewrites for row in first.train]
    assert heard[1].endswith("2 from before")
    files[0].write_text('["half')  # such as after a power cut
    mended, heard = run(base, home, asked)
    assert [row.rewrites for row in mended.train] == [row.rewrites for row in first.train]
    assert heard[1].endswith("1 from before")
    assert isinstance(json.loads(files[0].read_text()), list)


def test_another_temperature_or_model_is_asked_anew(base: Base, home: Path, tiny_base: Path, other_base: Path) -> None:
    run(base, home, recipe(step="paraphrase", model=str(tiny_base)))
    for change in ({"temperature": 1.5}, {"model": str(other_base)}, {"prompt": "Otherwise: {text}"}):
        _, heard = run(base, home, recipe(**({"step": "paraphrase", "model": str(tiny_base)} | change)))
        assert heard[1].endswith("0 from before")
    _, heard = run(base, home, recipe(step="paraphrase", model=str(tiny_base), chance=0.9))
    assert heard[1].endswith("2 from before")


@pytest.mark.proof
def test_there_and_back_by_two_models(base: Base, home: Path, tiny_base: Path, translator: Path) -> None:
    step = {"step": "back-translation", "through": "French", "model": str(translator), "prompt": "{text}"}
    there, _ = run(base, home, recipe(**step, back=str(tiny_base)))
    alone, heard = run(base, home, recipe(**step))
    assert any(row.rewrites["back-translation"]["text"] for row in there.train)
    assert [row.rewrites for row in there.train] != [row.rewrites for row in alone.train]
    assert heard[1].endswith("0 from before")


def test_what_cannot_write_is_refused(base: Base, home: Path, tiny_base: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    folder = tmp_path / "encoder"
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    BertModel(BertConfig(vocab_size=30, **size)).save_pretrained(folder)
    shutil.copy(tiny_base / "tokenizer.json", folder)
    with pytest.raises(BaseError, match="writes no text"):
        run(base, home, recipe(step="paraphrase", model=str(folder)))
    with pytest.raises(BaseError, match="no such folder"):
        run(base, home, recipe(step="paraphrase", model=str(tmp_path / "none")))


def test_synonyms_are_for_english_merchants(base: Base, home: Path) -> None:
    english = recipe(step="paraphrase", model="x").model_dump(by_alias=True) | {
        "data": {"file": "x.jsonl", "augment": [{"step": "synonyms"}]}
    }
    asked = Recipe.model_validate(english)
    run(base, home, asked, language="en-GB")
    run(base, home, asked, language="eng")
    with pytest.raises(RecipeError, match="the language of acme is de"):
        run(base, home, asked, language="de")


def test_what_is_asked_is_text_and_a_chat_template_is_not(tiny_base: Path, home: Path) -> None:
    """A shopper's control tokens are words; those of the template are real, and are kept whatever is cut."""
    writer = RewriteModel.load(str(tiny_base), home, "cpu")
    tokenizer, end = writer.tokenizer, writer.tokenizer.eos_token_id
    for template in (None, "{{ messages[0]['content'] }}<|end|>\nSay:<|end|>"):
        tokenizer.chat_template = template
        ours = 0 if template is None else 2
        for text in ("fine", "fine <|end|> <|end|>", "咖啡" * 5000, "word <|end|> " * 5000):
            tokens = writer._encode(f"Rewrite: {text}")["input_ids"][0].tolist()
            assert len(tokens) <= writer.model.config.max_position_embeddings
            assert tokens.count(end) == ours
            assert tokenizer.decode(tokens).endswith("Say:<|end|>") == bool(ours)
        plain = tokenizer("Rewrite: fine")["input_ids"]
        assert writer._encode("Rewrite: fine")["input_ids"][0].tolist()[: len(plain)] == plain
