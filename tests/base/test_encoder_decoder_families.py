"""Tiny random models with an encoder beside their decoder: bare or adapted, alone or beside others, each answers as
transformers and PEFT do with one text in one forward, or is refused by name.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.base.encoder_decoder_table import ENCODER_DECODERS
from tests.base.test_families import (
    LABELS,
    TASKS,
    TEXTS,
    TOKENS,
    asked_together,
    peft_alone,
    recipe_for,
    trained,
    whole,
)
from tests.base.tiny import save_tiny
from tests.base.walks import walk
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter
from shopfit.engine import ChooseRequest, Engine, GenerateRequest, Tenant
from shopfit.engine.decoding import Decoder, GeneratedSequence
from shopfit.engine.detokenizer import IncrementalDetokenizer
from shopfit.errors import BaseError, RecipeError
from shopfit.recipe.schema import Recipe

RIGHT = sorted(kind for kind, family in ENCODER_DECODERS.items() if family.path == "works")
REFUSED = sorted(kind for kind, family in ENCODER_DECODERS.items() if family.path == "refused")


def save(kind: str, folder: Path, **settings: Any) -> Path:
    return save_tiny(folder, kind, "AutoModelForSeq2SeqLM", **(ENCODER_DECODERS[kind].settings | settings))


def load_tiny(kind: str, folder: Path, home: Path, **settings: Any) -> Base:
    return load_base(str(save(kind, folder, **settings)), home)


@pytest.mark.parametrize("kind", walk(RIGHT))
def test_every_answer_is_the_one_that_it_gives_alone(kind: str, tmp_path: Path, home: Path) -> None:
    base = load_tiny(kind, tmp_path / "base", home)
    assert not base.encoder
    assert base.prefix_shape is None
    answer_as_alone(base, tmp_path)


def answer_as_alone(base: Base, folder: Path) -> None:
    choosers, writers = ({None: Tenant("acme", recipe_for(base, task), LABELS.get(task, []))} for task in TASKS)
    for seed, method in enumerate(("lora", "adalora")):
        for task, tenants in zip(TASKS, (choosers, writers), strict=True):
            tenants[method] = Tenant.of(trained(base, task, method, seed, folder / f"{task}-{method}"))
    scores, texts = asked_together(base, choosers, writers)
    for method in choosers:
        with peft_alone(base, choosers[method].bundle) as model:
            for text in TEXTS:
                wanted = plain_probabilities(base, model, choosers[method].recipe, text)
                assert scores[method, text] == pytest.approx(wanted, abs=2e-4), (method, text)
        with peft_alone(base, writers[method].bundle) as model:
            for text in TEXTS:
                assert texts[method, text] == plain_text(base, model, writers[method].recipe, text), (method, text)
    apart = [tuple(round(score, 4) for score in scores[method, TEXTS[0]].values()) for method in choosers]
    assert len(set(apart)) == len(apart)  # adapters that change nothing would prove nothing


def plain_probabilities(base: Base, model: Any, recipe: Recipe, text: str) -> Mapping[str, float]:
    """The probability of each label by the model's plain forward over prompt and label, each in one of its own."""
    prompter = Prompter(recipe, base.tokenizer, scorer=base.scorer)
    prompt, opening = prompter.encode({"text": text}), opening_of(base)
    means = []
    for label in LABELS["choose"]:
        answer = prompter.label(label)
        with torch.inference_mode():
            logs = (
                model(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([(*opening, *answer)]))
                .logits[0]
                .float()
                .log_softmax(-1)
            )
        means.append(sum(logs[len(opening) - 1 + at, token] for at, token in enumerate(answer)) / len(answer))
    shares = torch.stack([torch.as_tensor(mean) for mean in means]).softmax(0)
    return dict(zip(LABELS["choose"], shares.tolist(), strict=True))


def opening_of(base: Base) -> list[int]:
    """What transformers' `generate` begins with: the start, and the token that it is forced to write first."""
    config = base.model.generation_config
    return [token for token in (config.decoder_start_token_id, config.forced_bos_token_id) if token is not None]


def plain_text(base: Base, model: Any, recipe: Recipe, text: str) -> str:
    """What transformers' `generate` writes."""
    prompt = torch.tensor([Prompter(recipe, base.tokenizer, scorer=base.scorer).encode({"input": text})])
    opening = opening_of(base)
    with torch.inference_mode():
        made = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=TOKENS + len(opening) - 1,
            do_sample=False,
            num_beams=1,
            forced_eos_token_id=None,
            pad_token_id=base.tokenizer.pad_token_id,
        )
    assert made[0, : len(opening)].tolist() == opening
    return whole(base.tokenizer.decode(made[0, len(opening) :], skip_special_tokens=True))


def test_what_generation_is_forced_to_begin_with_is_there_before_any_answer(tmp_path: Path, home: Path) -> None:
    folder = save("bart", tmp_path / "base")
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(settings | {"forced_bos_token_id": 7}))
    base = load_base(str(folder), home)
    assert opening_of(base) == [5, 7]
    answer_as_alone(base, tmp_path)


def writes_in_front(folder: Path, token: int) -> None:
    """Let a tokenizer write a token in front of each text, and its end token behind."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    front, end = tokenizer.id_to_token(token), tokenizer.id_to_token(0)
    special = sorted({(front, token), (end, 0)})
    tokenizer.post_processor = TemplateProcessing(f"{front} $A {end}", special_tokens=special)
    tokenizer.save(str(folder / "tokenizer.json"))


def test_what_a_tokenizer_writes_in_front_of_a_text_is_there_before_any_answer(tmp_path: Path, home: Path) -> None:
    folder = save("bart", tmp_path / "base")
    writes_in_front(folder, 0)
    base = load_base(str(folder), home)
    prompter = Prompter(recipe_for(base, "choose"), base.tokenizer, scorer=base.scorer)
    assert base.scorer.opening == (5, 0)  # type: ignore[attr-defined]
    assert prompter.encode({"text": "lovely"})[:: len(prompter.encode({"text": "lovely"})) - 1] == (0, 0)
    assert 0 not in prompter.label("positive")


@pytest.mark.parametrize("said", ["bad_words_ids", "suppress_tokens"])
def test_what_its_settings_rule_out_is_never_written(said: str, tmp_path: Path, home: Path) -> None:
    """As Marian's rule out the token that its decoder starts with."""
    folder = save("marian", tmp_path / "base")
    first = written_first(load_base(str(folder), home))
    settings = json.loads((folder / "generation_config.json").read_text())
    said_of_it = [[first]] if said == "bad_words_ids" else [first]
    (folder / "generation_config.json").write_text(json.dumps(settings | {said: said_of_it}))
    base = load_base(str(folder), home)
    assert written_first(base) != first
    answer_as_alone(base, tmp_path)


def written_first(base: Base) -> int:
    sequence = GeneratedSequence([7, 8, 9], IncrementalDetokenizer(base.tokenizer), 1)
    Decoder(base.model, base.tokenizer, base.scorer, end=frozenset()).join([sequence])
    return int(sequence.detokenizer.tokens[0])


def test_a_start_that_the_tokenizer_writes_too_is_there_once(tmp_path: Path, home: Path) -> None:
    """As in T5Gemma, whose decoder starts with the token that its tokenizer writes in front of a text."""
    folder = save("t5gemma", tmp_path / "base")
    writes_in_front(folder, 5)
    base = load_base(str(folder), home)
    assert base.scorer.opening == (5,)  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", ["decoder_start_token_id", "forced_bos_token_id"])
@pytest.mark.parametrize("value", [10**6, -1, [7], "7", True])
def test_tokens_that_are_none_are_named(key: str, value: object, tmp_path: Path, home: Path) -> None:
    folder = save("bart", tmp_path / "base")
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(settings | {key: value}))
    with pytest.raises(BaseError, match=key):
        load_base(str(folder), home)


def test_sparse_attention_that_is_forgotten_is_refused(tmp_path: Path, home: Path) -> None:
    with pytest.raises(BaseError, match=r"what was asked before \(attention_type; allowed: original_full\)"):
        load_tiny("bigbird_pegasus", tmp_path / "base", home, attention_type="block_sparse")


def test_prompts_and_answers_have_limits_of_their_own(tmp_path: Path, home: Path) -> None:
    lengths = {"max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 32}
    base = load_tiny("led", tmp_path / "base", home, attention_window=[8, 8], **lengths)
    assert (base.max_length, base.scorer.longest_answer) == (64, 32)
    chooser, writer = (Tenant("acme", long_prompts(base, task), tuple(LABELS.get(task, ()))) for task in TASKS)
    with Engine(base) as engine:
        answer = engine.choose([ChooseRequest(chooser, {"text": "lovely " * 300})])[0]
        written = engine.generate([GenerateRequest(writer, {"input": "lovely " * 300}, max_new_tokens=200)])[0]
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert written.written <= 32


def long_prompts(base: Base, task: str) -> Recipe:
    recipe = recipe_for(base, task)
    return recipe.model_copy(update={"prompt": recipe.prompt.model_copy(update={"max_tokens": 64})})


def test_an_answer_is_a_text_of_its_own(tmp_path: Path, home: Path) -> None:
    """A decoder's answer goes on after the prompt's last word, so it begins with a space; this one does not."""
    base = load_tiny("t5", tmp_path / "base", home)
    recipe = recipe_for(base, "choose")
    assert recipe.prompt.answer.startswith(" ")
    prompter = Prompter(recipe, base.tokenizer, scorer=base.scorer)
    assert prompter.label("positive") == prompter.plain.encode("positive", special=False)
    assert Prompter(recipe, base.tokenizer).label("positive") == prompter.plain.encode(" positive", special=False)


@pytest.mark.parametrize("kind", REFUSED)
def test_others_are_refused_by_name(kind: str, tiny_base: Path, tmp_path: Path) -> None:
    """Before anything is built, so that what their weights are does not matter."""
    folder = Path(shutil.copytree(tiny_base, tmp_path / "b"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": kind, "architectures": None}))
    with pytest.raises(BaseError, match=f"of the family {kind} {re.escape(ENCODER_DECODERS[kind].why)}"):
        load_base(str(folder), tmp_path)


def test_the_table_names_every_one_that_reads_text() -> None:
    from transformers.models.auto import modeling_auto as auto

    assert ENCODER_DECODERS.keys() == auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.keys()


def test_a_prefix_is_refused_with_the_reason(tmp_path: Path, home: Path) -> None:
    base = load_tiny("t5", tmp_path / "base", home)
    with pytest.raises(RecipeError, match=r"prefix tuning does not work on .*\(encoder-decoder\): the encoder"):
        trained(base, "choose", "prefix", 0, tmp_path / "adapter")


def test_a_base_that_names_no_first_token_is_refused(tmp_path: Path, home: Path) -> None:
    with pytest.raises(BaseError, match=r"does not say which token its decoder starts with \(allowed: 0"):
        load_tiny("t5", tmp_path / "base", home, decoder_start_token_id=None, bos_token_id=None)
