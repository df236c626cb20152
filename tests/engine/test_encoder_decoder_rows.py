"""Answers of models with an encoder beside their decoder: whatever joins, ends, fails or is paused beside one, it is
the same as alone.
"""

from pathlib import Path

import pytest
from tests.base.test_encoder_decoder_families import load_tiny, recipe_for, trained
from tests.engine.conftest import EXAMPLES, ITEMS, LABELS

from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter
from shopfit.engine import ChooseRequest, Engine, RankRequest, RateRequest, Tenant
from shopfit.engine.decoding import Decoder, GeneratedSequence
from shopfit.engine.detokenizer import IncrementalDetokenizer
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import TrainingSet

PROMPTS = ([7, 8, 9, 10, 11, 12, 13], [30, 31], [50, 51, 52, 53], [90])
LONG = 12


@pytest.fixture(scope="module", params=["t5", "bart"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp(request.param)
    return load_tiny(request.param, folder / "base", folder)


def sequence(base: Base, prompt: list[int], most: int = LONG) -> GeneratedSequence:
    return GeneratedSequence(prompt, IncrementalDetokenizer(base.tokenizer), most)


def decoder_of(base: Base) -> Decoder:
    return Decoder(base.model, base.tokenizer, base.scorer, rows=4, end=frozenset())


def alone(base: Base, prompt: list[int], most: int = LONG) -> list[int]:
    decoder, one = decoder_of(base), sequence(base, prompt, most)
    decoder.join([one])
    while not one.over:
        decoder.step()
    return list(one.detokenizer.tokens)


def test_answers_that_begin_and_end_at_any_time(base: Base) -> None:
    decoder = decoder_of(base)
    first, second, third, fourth = (
        sequence(base, prompt, most) for prompt, most in zip(PROMPTS, (LONG, 5, LONG, 7), strict=True)
    )

    def step(times: int) -> None:
        while times and decoder.sequences:
            decoder.step()
            decoder.take()
            times -= 1

    decoder.join([first, second])
    step(2)
    decoder.join([third, fourth])
    step(1)
    decoder.pause(first)
    step(2)
    decoder.resume(first)
    step(LONG)
    assert not decoder.sequences
    for one in (first, second, third, fourth):
        assert list(one.detokenizer.tokens) == alone(base, list(one.prompt), one.most)
    assert len({tuple(one.detokenizer.tokens) for one in (first, second, third, fourth)}) == 4


def test_a_step_that_fails_for_one_row_fails_for_that_row(base: Base) -> None:
    """Its last token is one that the model has no embedding of, from the third step on."""
    decoder = decoder_of(base)
    good, bad, other = (sequence(base, prompt) for prompt in PROMPTS[:3])
    decoder.join([good, bad, other])
    decoder.step()
    bad.detokenizer.tokens.append(10**6)
    decoder.step()
    assert isinstance(bad.error, Exception)
    decoder.take()
    while decoder.sequences:
        decoder.step()
        decoder.take()
    assert [list(one.detokenizer.tokens) for one in (good, other)] == [alone(base, list(PROMPTS[at])) for at in (0, 2)]


def test_items_are_ranked_and_stars_are_given(base: Base, tmp_path: Path) -> None:
    ranked = Tenant("acme", recipe_for(base, "rank"), (), ITEMS)
    rated = Tenant("acme", recipe_for(base, "rate"), tuple(LABELS["rate"]))
    with Engine(base, slots=2) as engine:
        together = engine.rank([RankRequest(ranked, {"query": "keep warm"}, list(ITEMS)) for _ in range(2)])
        stars = engine.rate([RateRequest(rated, {"text": "lovely crema"})])[0]
    assert together[0] == together[1]
    assert sorted(item.id for item in together[0].items) == sorted(ITEMS)
    assert 1 <= stars.score <= 5


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_a_quantized_base_answers(quantization: str, base: Base, tmp_path: Path) -> None:
    quantized = load_base(str(base.folder), tmp_path, quantization=quantization)
    tenant = Tenant.of(trained(quantized, "choose", "lora", 0, tmp_path / "adapter"))
    with Engine(quantized, slots=2) as engine:
        answer = engine.choose([ChooseRequest(tenant, {"text": "lovely crema"})])[0]
    assert sum(answer.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    "tune", [{"adversarial": 0.5}, {"contrastive": 0.3}, {"gradient_checkpointing": True}, {"optimizer": "adamw"}]
)
def test_every_way_of_training_learns(tune: dict[str, object], base: Base) -> None:
    recipe = recipe_for(base, "choose")
    recipe = recipe.model_copy(update={"tune": recipe.tune.model_copy(update={**tune, "epochs": 12, "lr": 0.01})})
    prompter = Prompter(recipe, base.tokenizer, scorer=base.scorer)
    training_set = TrainingSet(EXAMPLES["choose"], [], LABELS["choose"], prompter)
    tuned = Trainer(base, make_accelerator(recipe)).fit(training_set, recipe)
    tuned.adapter.detach()
    assert tuned.curve[-1].train_loss < tuned.curve[0].train_loss
