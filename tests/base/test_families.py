"""Tiny random decoders of many families: bare or adapted, alone or beside others, each answers as transformers and PEFT
do with one text in one forward, or is refused by name. docs/reference/what-works-on-what.md is made of the same table.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.base.families import DECODERS, PAGE, WINDOWS, Family, written
from tests.base.tiny import save_tiny, tiny_model
from tests.base.walks import walk
from tests.engine.conftest import EXAMPLES, LABELS, recipe_of, seal_as
from torch import Tensor

from shopfit.adapter.bundle import LORA, NATIVE, Bundle
from shopfit.adapter.weight_files import write_served
from shopfit.base.attention import attention_of
from shopfit.base.families import FAST
from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter
from shopfit.base.scoring.causal import CausalScorer
from shopfit.base.scoring.plain_causal import PlainCausalScorer
from shopfit.base.self_test import prove
from shopfit.engine import ChooseRequest, Engine, GenerateRequest, Tenant
from shopfit.errors import BaseError
from shopfit.recipe.schema import Recipe
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import TrainingSet

METHODS = ("lora", "adalora", "prefix")
TEXTS = ["lovely crema, and the delivery was quick", "cracked"]
TOKENS = 5  # of a generated text


@pytest.mark.parametrize("kind", walk(kind for kind, family in DECODERS.items() if family.path != "refused"))
def test_every_answer_is_the_one_that_it_gives_alone(kind: str, tmp_path: Path, home: Path) -> None:
    family = DECODERS[kind]
    base = load_tiny(kind, family, tmp_path / "base", home)
    assert (base.scorer.path, base.prefix_shape is not None) == (family.path, family.prefix)
    methods = [method for method in METHODS if method != "prefix" or family.prefix]
    choosers, writers = ({None: Tenant("acme", recipe_for(base, task), LABELS.get(task, []))} for task in TASKS)
    for seed, method in enumerate(methods):
        for task, tenants in zip(TASKS, (choosers, writers), strict=True):
            tenants[method] = Tenant.of(trained(base, task, method, seed, tmp_path / f"{task}-{method}"))
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


def asked_together(
    base: Base, choosers: Mapping[Any, Tenant], writers: Mapping[Any, Tenant]
) -> tuple[dict[tuple[Any, str], Any], dict[tuple[Any, str], str]]:
    """Probabilities and texts by method and text, of one engine that is asked everything at once."""
    with Engine(base, slots=4, rows=3) as engine:
        chosen = {
            (method, text): engine.submit(ChooseRequest(tenant, {"text": text}))
            for text in TEXTS
            for method, tenant in choosers.items()
        }
        written = {
            (method, text): engine.submit(GenerateRequest(tenant, {"input": text}))
            for text in TEXTS
            for method, tenant in writers.items()
        }
        scores = {asked: answer.result().probabilities for asked, answer in chosen.items()}
        texts = {asked: whole(answer.result().text) for asked, answer in written.items()}
    return scores, texts


TASKS = ("choose", "generate")


def load_tiny(kind: str, family: Family, folder: Path, home: Path) -> Base:
    """The tiny model of a family, loaded."""
    return load_base(str(save_tiny(folder, kind, "AutoModelForCausalLM", **family.settings)), home)


def recipe_for(base: Base, task: str, method: str = "lora", seed: int = 0) -> Recipe:
    return recipe_of(
        base,
        task,
        adapter={"method": method, "rank": 4, "virtual_tokens": 4},
        tune={"lr": 0.05, "epochs": 6, "batch_size": 2, "seed": seed, "temperature": 1.0},
        serve={"max_new_tokens": TOKENS},
    )


def trained(base: Base, task: str, method: str, seed: int, folder: Path) -> Bundle:
    """An adapter after a few steps, which answers otherwise than the bare base."""
    recipe = recipe_for(base, task, method, seed)
    prompter = Prompter(recipe, base.tokenizer, scorer=base.scorer)
    training_set = TrainingSet(EXAMPLES[task], [], LABELS.get(task, []), prompter)
    tuned = Trainer(base, make_accelerator(recipe)).fit(training_set, recipe)
    tuned.adapter.save(folder / NATIVE)
    tuned.adapter.detach()
    rank = write_served(folder / NATIVE, folder / LORA, recipe.adapter)
    return seal_as(folder, base, recipe, f"acme-{method}", method=method, rank=rank, seed=seed)


@contextmanager
def peft_alone(base: Base, bundle: Any) -> Iterator[Any]:
    """PEFT's own model with the adapter as it was trained; the bare one for None."""
    from peft import PeftModel

    if bundle is None:
        yield base.model
        return
    peft = PeftModel.from_pretrained(base.model, bundle.native)
    peft.eval()
    try:
        yield peft
    finally:
        if bundle.manifest.method != "prefix":
            peft.unload()
        base.model.__dict__.pop("peft_config", None)


def plain_probabilities(base: Base, model: Any, recipe: Recipe, text: str) -> Mapping[str, float]:
    """The probability of each label by the model's plain forward over prompt and label, each in one of its own."""
    prompter = Prompter(recipe, base.tokenizer, scorer=base.scorer)
    prompt = prompter.encode({"text": text})
    means = []
    for label in LABELS["choose"]:
        answer = prompter.label(label)
        with torch.inference_mode():
            logs = model(input_ids=torch.tensor([(*prompt, *answer)])).logits[0].float().log_softmax(-1)
        ends = range(len(logs) - len(answer) - 1, len(logs) - 1)  # a prefix may stand before
        means.append(sum(logs[end, token] for end, token in zip(ends, answer, strict=True)) / len(answer))
    shares: Tensor = torch.stack([torch.as_tensor(mean) for mean in means]).softmax(0)
    return dict(zip(LABELS["choose"], shares.tolist(), strict=True))


def plain_text(base: Base, model: Any, recipe: Recipe, text: str) -> str:
    """What transformers' `generate` writes."""
    prompt = torch.tensor([Prompter(recipe, base.tokenizer, scorer=base.scorer).encode({"input": text})])
    with torch.inference_mode():
        made = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=TOKENS,
            do_sample=False,
            pad_token_id=base.tokenizer.pad_token_id,
        )
    return whole(base.tokenizer.decode(made[0, prompt.shape[1] :], skip_special_tokens=True))


def whole(text: str) -> str:
    """A text without characters that a tiny model has begun and not ended, and without white space around."""
    return text.replace("\ufffd", "").strip()


@pytest.mark.parametrize("kind", [kind for kind, family in DECODERS.items() if family.path == "refused"])
def test_some_are_refused_by_name(kind: str, tmp_path: Path, home: Path) -> None:
    with pytest.raises(BaseError, match=f"(?s)^the base .*{DECODERS[kind].why}"):
        load_tiny(kind, DECODERS[kind], tmp_path / "base", home)


def test_every_fast_family_is_in_the_table() -> None:
    assert sorted(FAST) == sorted(kind for kind, family in DECODERS.items() if family.path == "fast")


def test_the_docs_say_what_the_table_says() -> None:
    page = PAGE.read_text()
    assert written(page) == page, "run python -m tests.base.families"


OTHERS: list[tuple[str, str, dict[str, Any], str]] = [
    ("bert", "AutoModelForCausalLM", {"is_decoder": True}, "decoder"),
    ("bert", "AutoModelForSequenceClassification", {}, "BertForSequenceClassification"),
    ("llama", "AutoModel", {}, "LlamaModel"),
    ("gpt2", "AutoModel", {}, "GPT2Model"),
    ("qwen2", "AutoModelForSequenceClassification", {}, "Qwen2ForSequenceClassification"),
    ("bart", "AutoModelForSequenceClassification", {}, "BartForSequenceClassification"),
]


@pytest.mark.parametrize(
    ("kind", "loader", "settings", "why"), OTHERS, ids=lambda each: each if isinstance(each, str) else ""
)
def test_what_writes_no_text_and_is_no_encoder_is_refused_by_name(
    kind: str, loader: str, settings: dict[str, Any], why: str, tmp_path: Path, home: Path
) -> None:
    folder = save_tiny(tmp_path / "b", kind, loader, **settings)
    with pytest.raises(BaseError, match=f"(?s)^the base .*{why}"):
        load_base(str(folder), home)


@pytest.mark.parametrize("kind", ["bloom", "mpt"])
def test_the_proof_finds_what_no_list_knows(kind: str) -> None:
    """The net under the table: on the fast path each of these would be silently wrong, or crash."""
    model = tiny_model(kind, "AutoModelForCausalLM", **DECODERS[kind].settings)
    with pytest.raises(BaseError, match=r"plain forward|cannot be run"):
        prove(kind, model, CausalScorer(0))
    prove(kind, model, PlainCausalScorer(0))


def test_a_window_that_is_not_heeded_is_found() -> None:
    """Windows are wider than the texts of the proof, so these are narrow meanwhile."""
    model = tiny_model("mistral", "AutoModelForCausalLM", sliding_window=64)
    found = attention_of(model)
    assert found is not None
    assert found.window == 64
    prove("mistral", model, CausalScorer(0, found))
    assert model.config.sliding_window == 64
    model = tiny_model("gemma3_text", "AutoModelForCausalLM", **WINDOWS)
    found = attention_of(model)
    assert found is not None
    prove("gemma3_text", model, CausalScorer(0, found))
    with pytest.raises(BaseError, match="plain forward"):  # one mask for every layer, as if all had the window
        prove("gemma3_text", model, CausalScorer(0, replace(found, by_kind=False)))


@pytest.mark.parametrize("rope", ["dynamic", "longrope"])
def test_positions_that_turn_by_length_are_read_up_to_where_they_would(rope: str, tmp_path: Path, home: Path) -> None:
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4} if rope == "longrope" else {}
    said = {"rope_type": rope, "factor": 2.0, "rope_theta": 1e4, "original_max_position_embeddings": 64, **factors}
    folder = save_tiny(tmp_path / "b", "llama", "AutoModelForCausalLM", rope_parameters=said)
    assert load_base(str(folder), home).max_length == 64
