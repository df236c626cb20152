"""Vectors of texts: those of the tokens that the tokenizer would make of a batch, of any lengths, and of text alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from shopfit.base.embed import Embedder
from shopfit.base.load import Base
from shopfit.base.scoring.dual_encoder import text_vectors

TEXTS = ["lovely crema", "where is my parcel " * 40, "咖啡" * 200, "", "Ridge 2 tent"]


def test_a_batch_is_cut_and_filled_up_as_by_the_tokenizer(encoder: Base) -> None:
    tokens = encoder.tokenizer(TEXTS[:2], padding=True, truncation=True, max_length=32, return_tensors="pt")
    with torch.inference_mode():
        wanted = text_vectors(encoder.model, tokens["input_ids"], tokens["attention_mask"]).numpy()
    np.testing.assert_allclose(Embedder(encoder, max_tokens=32)(TEXTS[:2]), wanted, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_vectors_do_not_depend_on_the_batch(encoder: Base, batch_size: int) -> None:
    texts = [text for text in TEXTS if text]
    alone = np.concatenate([Embedder(encoder)([text]) for text in texts])
    np.testing.assert_allclose(Embedder(encoder, batch_size=batch_size)(texts), alone, atol=1e-5)


def test_what_vectors_depend_on_says_who_rounded(encoder: Base) -> None:
    form = replace(encoder, quantization="int8")
    assert Embedder(form).identity != Embedder(replace(form, rounding="shopfit")).identity


def test_control_tokens_in_a_text_are_text(encoder: Base) -> None:
    embed = Embedder(encoder)
    one, other = embed(["fine <|end|>", "fine "])
    assert np.isfinite(one).all()
    tokens = encoder.tokenizer(["fine <|end|>"], return_tensors="pt")
    with torch.inference_mode():
        control = text_vectors(encoder.model, tokens["input_ids"], tokens["attention_mask"]).numpy()[0]
    assert not np.allclose(one, control, atol=1e-3)
    assert not np.allclose(one, other, atol=1e-3)
