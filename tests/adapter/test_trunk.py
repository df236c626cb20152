"""`adapter.layers: last:N`: only the last blocks are changed, and what lies below reads a text once in a training."""

import random

import pytest
import torch
from tests.conftest import save_base, tiny_tokenizer
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedConfig,
)
from transformers import PreTrainedModel as Model

from shopfit.adapter.adapted_model import answer_sums
from shopfit.adapter.head import Head
from shopfit.adapter.initial_weights import Start
from shopfit.adapter.trainable import TrainableAdapter, attach
from shopfit.base.load import Base, load_base
from shopfit.base.scoring.questions import ClassIndex, Question
from shopfit.errors import RecipeError
from shopfit.recipe.adapter_section import Adapter

WORDS = [Question((5, 6, 7, 8), ((9, 10), (11,))), Question((20, 21), ((22, 23, 24), (25, 26)))]
CLASSES = [Question((5, 6, 7, 8), (ClassIndex(0), ClassIndex(1))), Question((20, 21), (ClassIndex(0), ClassIndex(1)))]


def put_on(base: Base, start: Start | None = None, **settings: object) -> TrainableAdapter:
    torch.manual_seed(3)
    settings = {"rank": 4, "layers": "last:1"} | settings
    adapter = attach(base, Adapter.model_validate(settings), total_steps=4, opening=(5,), start=start)
    if base.encoder:
        adapter.train_head(Head(("a", "b"), torch.randn(2, base.model.config.hidden_size)))
    with torch.no_grad():
        for weight in adapter.parameters():
            weight.normal_(0, 0.1)
    return adapter


def gradients(adapter: TrainableAdapter, questions: list[Question]) -> list[Tensor]:
    adapter.peft.train()
    batch = adapter.base.scorer.collate(questions)
    with adapter.reading(batch):
        (answer_sums(adapter, batch) ** 2).sum().backward()
    found = [weight.grad for weight in adapter.parameters() if weight.grad is not None]
    adapter.peft.zero_grad()
    if adapter.prototypes is not None:
        adapter.prototypes.grad = None
    return found


def counted(base: Base, layer: str) -> list[int]:
    """Rows of each forward of a layer, from now on."""
    rows: list[int] = []
    base.model.get_submodule(layer).register_forward_hook(lambda _, args, __: rows.append(len(args[0])))
    return rows


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_decoder_reads_a_text_below_once_with_the_same_gradients(base: Base, checkpointing: bool) -> None:
    torch.manual_seed(3)
    adapter = put_on(base)
    if checkpointing:
        base.model.activation_checkpointing_enable({"use_reentrant": False})
    below, above = (counted(base, f"model.layers.{place}.mlp.down_proj") for place in (0, 1))
    first, again, mixed = (gradients(adapter, rows) for rows in (WORDS, WORDS, [*WORDS[::-1], WORDS[0]]))
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(first, again, strict=True))
    assert sum(below) == 2, "the lower block read what it had read before"
    assert above.count(3) >= 1
    alone = [gradients(adapter, [rows]) for rows in WORDS]
    assert len(mixed) == len(first) == len(alone[0])
    adapter.detach()


def test_an_encoder_reads_a_text_below_once_with_the_same_gradients(encoder: Base) -> None:
    plain = put_on(encoder, layers="all", targets=["layer.1.intermediate.dense"])
    plain.trunk = None
    for module in encoder.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    wanted = gradients(plain, CLASSES)
    plain.detach()
    adapter = put_on(encoder, targets=["intermediate.dense"])
    below = counted(encoder, "encoder.layer.0.intermediate.dense")
    for questions in (CLASSES, CLASSES, CLASSES[::-1]):
        found = gradients(adapter, questions)
    assert sum(below) == 2
    adapter.detach()
    adapter = put_on(encoder, targets=["intermediate.dense"])
    below.clear()
    found = gradients(adapter, CLASSES)
    assert not below, "another training on the same base reads with what is known"
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(wanted, found, strict=True))
    adapter.detach()


def test_a_row_begins_with_its_own_states_whatever_its_neighbours(base: Base) -> None:
    adapter = put_on(base)
    texts = [WORDS[0], Question((5, 6, 7, 8, 9), ((9, 10), (11,))), Question((5, 6, 7, 8), ((9, 10), (12, 13)))]
    with torch.no_grad():
        wanted = [answer_sums(adapter, base.scorer.collate([text])) for text in texts]
        for rows in ([0], [1], [2], [0, 1, 2], [2, 0], [1, 2]):
            batch = base.scorer.collate([texts[row] for row in rows])
            with adapter.reading(batch):
                adapter.peft.eval()
                found = answer_sums(adapter, batch)
            assert torch.allclose(found, torch.cat([wanted[row] for row in rows]), atol=1e-5), rows
    adapter.detach()


LARGER = {"vocab_size": 400, "intermediate_size": 1536, "num_hidden_layers": 3}
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BERT = BertConfig(hidden_size=384, num_attention_heads=12, **LARGER, **QUIET)
LLAMA = LlamaConfig(hidden_size=576, num_attention_heads=9, **LARGER)


@pytest.mark.parametrize(("kind", "config"), [(BertModel, BERT), (LlamaForCausalLM, LLAMA)], ids=["BERT", "Llama"])
def test_no_bit_depends_on_the_batch_in_which_a_text_was_first_read(
    kind: type[Model], config: PreTrainedConfig, tmp_path, home
) -> None:
    folder = save_base(tmp_path / "base", kind(config), tiny_tokenizer())
    draw, found = random.Random(1), []

    def text(most: int) -> tuple[int, ...]:
        return tuple(draw.randrange(5, 400) for _ in range(draw.randint(1, most)))

    questions = [Question(text(40), ((9, 10), (11,) if row % 2 else (11, 12))) for row in range(12)]
    for each in (1, 4, 12):
        base = load_base(str(folder), home)
        adapter = put_on(base)
        adapter.prototypes = None  # answers are texts on both
        with torch.autocast("cpu", torch.bfloat16):  # as another training may have
            gradients(adapter, questions[-each:])
        for first in range(0, 12, each):
            gradients(adapter, questions[first : first + each])
        found.append(gradients(adapter, questions))
        adapter.detach()
    for other in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(found[0], other, strict=True))


def test_no_more_bytes_are_kept_than_allowed() -> None:
    from shopfit.adapter.trunk import TrunkStates

    states = TrunkStates(most=3 * 4 * 8 * 4)
    for row in range(5):
        states.keep(bytes([row]), torch.full((4, 8), float(row)))
    states.keep(b"large", torch.zeros(100, 8))
    assert [states.of([bytes([row])]) is not None for row in range(5)] == [False, False, True, True, True]
    assert states.of([b"large"]) is None
    assert states.of([bytes([2]), bytes([0])]) is None


def test_only_the_last_blocks_have_weights_and_a_start_keeps_its_own(base: Base) -> None:
    adapter = put_on(base)
    names = {name for name, weight in adapter.peft.named_parameters() if weight.requires_grad}
    assert all("layers.1." in name for name in names)
    assert len(names) == 14
    adapter.detach()
    lower = "model.layers.0.mlp.up_proj"
    start = Start("x", factors={lower: (torch.ones(4, 64), torch.ones(128, 4))})
    adapter = attach(base, Adapter(rank=4, layers="last:1"), total_steps=4, opening=(5,), start=start)
    assert adapter.trunk is None
    assert any(lower in name for name, weight in adapter.peft.named_parameters() if weight.requires_grad)
    adapter.detach()


def test_more_blocks_than_the_base_has_are_refused(base: Base) -> None:
    with pytest.raises(RecipeError, match=r"last:3.*has 2 blocks \(allowed: all, last:1 to last:2\)"):
        put_on(base, layers="last:3")
    put_on(base, layers="last:2").detach()
    with pytest.raises(RecipeError, match="layers is only for methods that change layers"):
        Adapter(method="prefix", layers="last:1")
    for wrong in ("last:0", "first:2", "last:", "last:2.5", "2"):
        with pytest.raises(RecipeError, match="layers"):
            Adapter(layers=wrong)


STILL = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
FAMILIES: list[tuple[str, Model]] = [
    (
        "GPT-2, whose blocks may return tuples",
        GPT2LMHeadModel(
            GPT2Config(
                vocab_size=400, n_embd=32, n_layer=3, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0, **STILL
            )
        ),
    ),
    (
        "Mamba, which has no attention",
        MambaForCausalLM(MambaConfig(vocab_size=400, hidden_size=32, num_hidden_layers=3, state_size=4)),
    ),
]


@pytest.mark.parametrize("model", [model for _, model in FAMILIES], ids=[name for name, _ in FAMILIES])
def test_gradients_are_the_same_on_other_families(model: Model, tmp_path, home) -> None:
    base = load_base(str(save_base(tmp_path / "base", model, tiny_tokenizer())), home)
    adapter = put_on(base)
    first, again = gradients(adapter, WORDS), gradients(adapter, WORDS)
    assert first
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(first, again, strict=True))
    adapter.detach()


def test_a_base_without_a_row_of_blocks_is_refused(tmp_path, home) -> None:
    config = AlbertConfig(
        vocab_size=400,
        embedding_size=16,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
    )
    base = load_base(str(save_base(tmp_path / "base", AlbertModel(config), tiny_tokenizer())), home)
    with pytest.raises(RecipeError, match="has no single row of blocks"):
        put_on(base)
