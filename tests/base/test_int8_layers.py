"""int8 on CPUs: a row of a batch is answered as it is alone, gradients are those of the rounded weights."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from shopfit.base.embed import Embedder
from shopfit.base.int8_layers import Int8Linear, computes_int8, to_int8
from shopfit.base.load import Base, load_base

pytestmark = pytest.mark.skipif(not computes_int8(), reason="PyTorch has no products of integers on this processor")
WIDTH, LARGE = 96, 7


class Model(nn.Module):
    """Three layers that read one input, a column of which is large, and a fourth that reads what they say."""

    config: Any = type("Config", (), {"is_encoder_decoder": False})

    def __init__(self, *, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(50, WIDTH)
        self.words.weight.data[:, LARGE] *= 60
        self.q, self.k, self.v = (nn.Linear(WIDTH, out, bias=bias) for out in (32, 48, 64))
        for layer in (self.q, self.k, self.v):
            layer.weight.data[:, LARGE] /= 60
        self.behind = nn.Linear(64, 24, bias=bias)
        self.requires_grad_(False).eval()

    @property
    def base_model(self) -> "Model":
        return self

    def get_input_embeddings(self) -> nn.Embedding:
        return self.words

    def get_output_embeddings(self) -> None:
        return None

    def said(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        q, k, v = self.q(x), self.k(x), self.v(x)
        return q, k, v, self.behind(torch.tanh(v))

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.said(self.words(input_ids))


def rounded(**options: bool) -> Model:
    model = Model(**options)
    to_int8(model)
    assert all(type(layer) is Int8Linear for layer in (model.q, model.k, model.v, model.behind))
    return model


def texts(rows: int) -> torch.Tensor:
    return torch.randint(0, 50, (rows, 5), generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("bias", [True, False])
def test_it_says_about_what_the_plain_layers_say(bias: bool) -> None:
    """Also where one column is so large that alone it would take all the bits."""
    tokens = texts(20)
    with torch.no_grad():
        for got, wanted in zip(rounded(bias=bias)(tokens), Model(bias=bias)(tokens), strict=True):
            assert got.shape == wanted.shape
            assert float((got - wanted).norm() / wanted.norm()) < 0.03


def test_a_row_is_what_it_is_alone_bit_by_bit() -> None:
    model = rounded()
    x = model.words(texts(9)).clone()
    x[3] *= 1e4
    x[5] = float("nan")
    x[6] = 0
    with torch.inference_mode():
        together = model.said(x)
        for row in range(len(x)):
            for whole, alone in zip(together, model.said(x[row : row + 1]), strict=True):
                assert torch.equal(whole[row], alone[0]) or (row == 5 and alone.isnan().all())
    assert torch.equal(together[0][6], model.q.bias.expand(5, -1))


def test_gradients_are_those_of_the_rounded_weights() -> None:
    model, plain = rounded(), Model()
    for layer, other in ((model.q, plain.q), (model.v, plain.v)):
        product = layer.product
        other.weight.data = product.rounded()[layer.first : layer.first + layer.out_features]
    x = plain.words(texts(4)).clone().requires_grad_()
    (got,) = torch.autograd.grad((model.q(x).sum() + model.v(x).square().sum()), x)
    (wanted,) = torch.autograd.grad((plain.q(x).sum() + plain.v(x).square().sum()), x)
    assert float((got - wanted).norm() / wanted.norm()) < 0.03
    assert float(wanted.norm()) > 0


def test_what_was_made_without_gradients_is_not_taken_where_there_are_some() -> None:
    model = rounded()
    x = model.words(texts(2)).clone().requires_grad_()
    with torch.no_grad():
        model.q(x)
    assert model.k(x).requires_grad


def test_a_layer_still_says_its_shape_and_type() -> None:
    layer = rounded().k
    assert (tuple(layer.weight.shape), layer.weight.dtype) == ((48, WIDTH), torch.int8)
    assert layer.weight.device.type == "cpu"
    assert not layer.weight.requires_grad


def test_who_adds_in_place_to_what_a_layer_says_leaves_the_others_alone() -> None:
    """As PEFT's AdaLoRA does, between two layers of which the first one's result is kept for its gradient."""
    model = rounded()
    x = model.words(texts(3)).clone().requires_grad_()
    gate = model.q(x)
    kept = torch.nn.functional.silu(gate)
    up = model.k(x)
    up += 1
    (kept.sum() + up.sum()).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert torch.equal(model.q(x), gate)


def test_what_no_text_reaches_and_what_runs_twice() -> None:
    class Odd(Model):
        def said(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return self.q(x), self.k(x), self.k(x * 2)

    odd = Odd()
    to_int8(odd)
    assert type(odd.v) is type(odd.behind) is nn.Linear
    assert type(odd.q) is type(odd.k) is Int8Linear
    tokens = texts(4)
    with torch.no_grad():
        for got, wanted in zip(odd(tokens), Odd()(tokens), strict=True):
            assert float((got - wanted).norm() / wanted.norm()) < 0.03


def test_any_order_of_layers_and_inputs_is_right() -> None:
    """What is kept for the layers that read the same input is of that input alone."""
    model = rounded()
    one, other = model.words(texts(2)), model.words(texts(3))
    with torch.inference_mode():
        fresh = {name: getattr(rounded(), name)(one.clone()) for name in ("q", "k", "v")}
        model.q(other)
        for name in ("k", "v", "q", "k"):
            assert torch.equal(getattr(model, name)(one), fresh[name])


def test_threads_do_not_meet(encoder: Base, home: Any) -> None:
    base = load_base(str(encoder.folder), home, quantization="int8")
    embed = Embedder(base, remember=False)
    asked = [[f"{word} number {number}" for number in range(3)] for word in ("tent", "bag", "stove", "mug")]
    alone = [embed(some) for some in asked]
    wrong: list[int] = []

    def ask(place: int) -> None:
        wrong.extend(place for _ in range(20) if not np.array_equal(embed(asked[place]), alone[place]))

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_encoder_finds_what_it_found(encoder: Base, home: Any) -> None:
    base = load_base(str(encoder.folder), home, quantization="int8")
    assert (base.quantization, base.fingerprint) == ("int8", encoder.fingerprint)
    some = [f"{thing} for {who}" for thing in ("tent", "lamp", "boots") for who in ("two", "kids", "rain")]
    cosines = (Embedder(base)(some) * Embedder(encoder)(some)).sum(1)
    assert cosines.min() > 0.99
