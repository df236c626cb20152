"""A base that was saved in another dtype than it is loaded in has the numbers that transformers gives it."""

from pathlib import Path

import pytest
import torch
import transformers
from tests.base.encoder_decoder_table import ENCODER_DECODERS
from tests.base.encoder_table import ENCODER_TABLE
from tests.base.families import DECODERS
from tests.base.tiny import tiny_model
from tests.base.walks import USUAL
from tests.conftest import make_tiny_base, save_base, tiny_tokenizer
from torch.nn.functional import mse_loss

from shopfit.adapter.trainable import attach
from shopfit.base.checkpoint import Checkpoint
from shopfit.base.load import load_base, load_pretrained
from shopfit.base.prepack import PackedLinear, PrepackedLinear, count_weights
from shopfit.recipe.adapter_section import Adapter

DTYPES = [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16), (torch.float16, torch.float32)]
FAMILIES = [
    *((kind, "AutoModelForCausalLM", family.settings) for kind, family in DECODERS.items() if family.path != "refused"),
    *(
        (kind, "AutoModelForSeq2SeqLM", family.settings)
        for kind, family in ENCODER_DECODERS.items()
        if family.path != "refused"
    ),
    *((kind, "AutoModel", family.settings) for kind, family in ENCODER_TABLE.items() if family.path != "refused"),
]


@pytest.mark.parametrize(
    ("kind", "loader", "settings"),
    [
        pytest.param(*one, id=f"{one[0]}-{one[1]}", marks=[] if one[0] in USUAL else [pytest.mark.proof])
        for one in FAMILIES
    ],
)
def test_every_family_is_converted_as_transformers_does_it(
    kind: str, loader: str, settings: dict[str, object], tmp_path: Path
) -> None:
    auto = getattr(transformers, loader)
    for saved, dtype in DTYPES[:2]:
        folder = save_base(tmp_path / str(saved), tiny_model(kind, loader, **settings).to(saved), tiny_tokenizer())
        ours, _ = load_pretrained("tiny", Checkpoint.open(folder), auto, kind=None, dtype=dtype)
        theirs = auto.from_pretrained(folder, dtype=dtype)
        for mine, their in ((ours.parameters, theirs.parameters), (ours.buffers, theirs.buffers)):
            for one, other in zip(mine(), their(), strict=True):
                assert one.dtype == other.dtype
                assert torch.equal(one, other)
        assert ours.dtype == theirs.dtype == ours.config.dtype


@pytest.mark.parametrize(("saved", "dtype"), DTYPES)
def test_a_converted_base_has_its_weights_once(
    saved: torch.dtype, dtype: torch.dtype, tmp_path: Path, home: Path
) -> None:
    folder = make_tiny_base(tmp_path / "plain", seed=3)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=saved)
    plain.save_pretrained(folder)
    base = load_base(str(folder), home, device="cpu", dtype=str(dtype).removeprefix("torch."))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    layers = [module for module in base.model.modules() if isinstance(module, torch.nn.Linear)]
    head = base.model.get_output_embeddings()
    if dtype == torch.float32:
        assert all(type(layer) is PackedLinear for layer in layers if layer is not head)
    assert count_weights(base.model) == sum(weight.numel() for weight in theirs.parameters())
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(base.model(ids).logits, theirs(ids).logits, rtol=1e-4, atol=1e-4)


def test_dropped_weights_come_back_for_the_backward_pass_and_for_files(tmp_path: Path, home: Path) -> None:
    folder = make_tiny_base(tmp_path / "plain", seed=3)
    transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    base = load_base(str(folder), home, device="cpu")
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).requires_grad_(False)
    states = [torch.randn(2, 4, plain.config.hidden_size, generator=torch.Generator().manual_seed(0)) for _ in "ab"]
    states[1].copy_(states[0])
    for model, state in zip((base.model, plain), states, strict=True):
        state.requires_grad_()
        mse_loss(model(inputs_embeds=state).logits, torch.zeros(())).backward()
    torch.testing.assert_close(states[0].grad, states[1].grad, rtol=1e-4, atol=1e-6)
    layer = base.model.get_submodule("model.layers.0.mlp.up_proj")
    assert type(layer) is PrepackedLinear
    theirs = plain.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in base.model.state_dict().items())
    assert base.model.state_dict().keys() == theirs.keys()


@pytest.mark.parametrize(
    ("kind", "loader"), [("t5", "AutoModelForSeq2SeqLM"), ("mamba", "AutoModelForCausalLM"), ("bert", "AutoModel")]
)
def test_a_base_saved_in_half_precision_can_be_trained(kind: str, loader: str, tmp_path: Path, home: Path) -> None:
    """Some families' forwards read weights, also in the proof without gradients that loading runs."""
    settings = {} if kind == "bert" else (ENCODER_DECODERS | DECODERS)[kind].settings
    model = tiny_model(kind, loader, **settings).to(torch.bfloat16)
    base = load_base(str(save_base(tmp_path, model, tiny_tokenizer())), home, device="cpu")
    adapter = attach(base, Adapter(rank=2), total_steps=1, opening=[5])
    ids = torch.tensor([[5, 6, 7, 8]])
    more = {"decoder_input_ids": ids} if kind == "t5" else {}
    output = adapter.peft(input_ids=ids, **more)
    (output.last_hidden_state if kind == "bert" else output.logits).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in adapter.parameters())
    adapter.detach()
