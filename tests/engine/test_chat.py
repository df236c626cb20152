"""Adapters whose prompts are in the base's chat template: trained, evaluated and served alike, or refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.base.chats import CHATML, chat_base
from tests.engine.conftest import EXAMPLES, ITEMS, LABELS, TEMPLATES, recipe_of

from shopfit.adapter.bundle import MANIFEST, Bundle, DataIdentity, seal
from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter
from shopfit.engine import ChooseRequest, Engine, GenerateRequest, RankRequest, RateRequest
from shopfit.engine.detokenizer import AROUND
from shopfit.errors import BaseError, BundleError
from shopfit.recipe.schema import Recipe
from shopfit.tasks.tenant import Tenant
from shopfit.tune.bundle_writer import save
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import TrainingSet

SYSTEM = "You know coffee."


@pytest.fixture(scope="session")
def chatting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_base(tmp_path_factory.mktemp("chats") / "base")


@pytest.fixture
def base(chatting: Path, home: Path) -> Base:
    """A tiny base with a chat template, whose turns end with another token than its texts."""
    return load_base(str(chatting), home)


def chat(task: str, **more: Any) -> dict[str, Any]:
    return {"prompt": {"template": TEMPLATES[task], "format": "chat", "system": SYSTEM} | more}


def asked(base: Base, task: str, fields: dict[str, str], answer: str | None = None) -> list[int]:
    """What transformers makes of the conversation."""
    *_, shown, last = TEMPLATES[task].splitlines()
    user = f"{shown.partition('{')[0]}{next(iter(fields.values()))}\n{last}"
    said = [("system", SYSTEM), ("user", user), *([("assistant", answer)] if answer else [])]
    return base.tokenizer.apply_chat_template(  # type: ignore[no-any-return]
        [{"role": role, "content": text} for role, text in said], add_generation_prompt=not answer, return_dict=False
    )


def scores(base: Base, task: str, fields: dict[str, str], answers: list[str]) -> torch.Tensor:
    """Mean log-probability of each answer's tokens and the token that ends a turn, by the whole model."""
    start = len(asked(base, task, fields))
    found = []
    for answer in answers:
        ids = asked(base, task, fields, answer)[:-1]  # without the line's end behind the turn
        assert ids[-1] == base.tokenizer.convert_tokens_to_ids("<|im_end|>")
        with torch.inference_mode():
            logs = base.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        found.append(logs[torch.arange(start - 1, len(ids) - 1), torch.tensor(ids[start:])].mean())
    return torch.stack(found)


def test_answers_are_those_of_the_model_where_its_assistant_speaks(base: Base) -> None:
    labels = {task: tuple(LABELS.get(task, ())) for task in TEMPLATES}
    tenants = {
        task: Tenant(
            f"bare-{task}", recipe_of(base, task, **chat(task)), labels[task], ITEMS if task == "rank" else None
        )
        for task in TEMPLATES
    }
    plain = Tenant("plain", recipe_of(base, "choose"), labels["choose"])
    review, need = {"text": "lovely crema"}, {"query": "keep warm"}
    with Engine(base) as engine:
        chosen, rated, ranked, written, other = engine.answer(
            [
                ChooseRequest(tenants["choose"], review),
                RateRequest(tenants["rate"], review),
                RankRequest(tenants["rank"], need, ["tent", "bag", "stove"]),
                GenerateRequest(tenants["generate"], {"input": "see at night"}),
                ChooseRequest(plain, review),
            ]
        )
        (alone,) = engine.answer([ChooseRequest(plain, review)])
    shares = scores(base, "choose", review, LABELS["choose"]).softmax(0)
    assert [chosen.probabilities[label] for label in LABELS["choose"]] == pytest.approx(shares.tolist(), abs=1e-4)
    levels = scores(base, "rate", review, LABELS["rate"]).softmax(0)
    assert rated.score == pytest.approx((levels * torch.arange(1.0, 6.0)).sum().item(), abs=1e-3)
    best = scores(base, "rank", need, ["Tent", "Bag", "Stove"])
    assert [item.id for item in ranked.items] == [
        ["tent", "bag", "stove"][place] for place in best.argsort(descending=True)
    ]
    ids = torch.tensor([asked(base, "generate", {"input": "see at night"})])
    ends = [base.tokenizer.eos_token_id, base.tokenizer.convert_tokens_to_ids("<|im_end|>")]
    with torch.inference_mode():
        theirs = base.model.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=ends)[0, ids.shape[1] :]
    assert written.text == base.tokenizer.decode(theirs, skip_special_tokens=True).strip(AROUND)
    assert other.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
    assert other.probabilities != pytest.approx(chosen.probabilities, abs=1e-3)


def trained(base: Base, recipe: Recipe, folder: Path) -> Bundle:
    prompter = Prompter(recipe, base.tokenizer)
    training_set = TrainingSet(EXAMPLES[recipe.task], [], LABELS.get(recipe.task, []), prompter)
    tuned = Trainer(base, make_accelerator(recipe)).fit(training_set, recipe)
    rows = DataIdentity(digest="d", train=["0", "1"], valid=[], test=[])
    labels = LABELS.get(recipe.task, [])
    manifest = save(tuned, base, recipe, folder, merchant="acme", labels=labels, data=rows, share=False)
    return seal(folder, manifest)


def test_what_is_trained_in_a_chat_ends_its_turn(base: Base, tmp_path: Path) -> None:
    """It learns to say the answer and to stop, and both forms of the bundle hold that."""
    recipe = recipe_of(
        base,
        "generate",
        **chat("generate"),
        adapter={"method": "lora", "rank": 4},
        tune={"lr": 0.02, "epochs": 40, "batch_size": 2},
        serve={"max_new_tokens": 16},
    )
    bundle = trained(base, recipe, tmp_path / "made")
    assert bundle.manifest.base.chat_template == Prompter(recipe, base.tokenizer).chat_template != ""
    assert bundle.manifest.recipe_snapshot["prompt"]["system"] == SYSTEM
    schema = {"enum": ["lamp", "lamps"]}
    with Engine(base) as engine:
        asks = [GenerateRequest(bundle, row.fields) for row in EXAMPLES["generate"]]
        answers = engine.generate([*asks, GenerateRequest(bundle, EXAMPLES["generate"][0].fields, logprobs=2)])
        (bound,) = engine.generate([GenerateRequest(bundle, EXAMPLES["generate"][0].fields, json_schema=schema)])
    assert [(answer.text, answer.finish) for answer in answers] == [("lamp", "stop"), ("bag", "stop"), ("lamp", "stop")]
    assert "".join(token.text for token in answers[2].tokens) == "lamp"
    assert bound.output is None
    assert json.loads(bound.text) in {"lamp", "lamps"}


def test_a_constrained_answer_may_end_its_turn_where_it_is_complete(base: Base) -> None:
    """The grammar lets the turn's own end token follow, and it does not where the answer is not complete."""
    from shopfit.engine.constraints import Constraints

    end = base.tokenizer.convert_tokens_to_ids("<|im_end|>")
    constraints = Constraints(base.tokenizer, len(base.tokenizer))

    def allowed(constraint: Any) -> bool:
        bits = torch.zeros(-(-len(base.tokenizer) // 32), dtype=torch.int32)
        constraint.fill(bits)
        return bool((int(bits[end // 32]) >> (end % 32)) & 1)

    for own in (frozenset({end}), frozenset()):
        constraint = constraints.choice(["bag", "bags"], end=own)
        assert not allowed(constraint)
        for token in base.tokenizer.encode("bag", add_special_tokens=False):
            assert not allowed(constraint)
            constraint.add(token)
        assert allowed(constraint) == bool(own)


def test_another_chat_template_is_refused(
    base: Base, chatting: Path, home: Path, quick_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    bundle = quick_bundle("acme", **chat("choose"))
    plain = quick_bundle("rival")
    review = {"text": "lovely crema"}
    with Engine(base) as engine:
        engine.choose([ChooseRequest(bundle, review), ChooseRequest(plain, review)])
    base.tokenizer.chat_template = CHATML.replace("assistant", "model")  # as if its fingerprint were the same
    with Engine(base) as engine:
        with pytest.raises(
            BaseError, match=r"was trained with the chat template [0-9a-f]{12} of its base, and here it is"
        ):
            engine.choose([ChooseRequest(bundle, review)])
        engine.choose([ChooseRequest(plain, review)])
    other = chat_base(tmp_path / "other")
    (other / "chat_template.jinja").write_text(CHATML.replace("assistant", "model"))
    assert load_base(str(other), home).fingerprint != base.fingerprint


@pytest.mark.parametrize(
    ("digest", "error"), [("", BaseError), ("0" * 64, BaseError), ("0" * 63, BundleError), ("x\ny", BundleError)]
)
def test_a_manifest_that_says_otherwise_is_refused(
    base: Base, quick_bundle: Callable[..., Bundle], digest: str, error: type[Exception]
) -> None:
    folder = quick_bundle("acme", **chat("choose")).folder
    document = json.loads((folder / MANIFEST).read_text())
    document["base"]["chat_template"] = digest
    (folder / MANIFEST).write_text(json.dumps(document))
    with Engine(base) as engine, pytest.raises(error, match=r"chat.template"):
        engine.choose([ChooseRequest(Bundle.open(folder), {"text": "lovely"})])


def test_a_bad_template_fails_the_adapter_that_wants_it_alone(base: Base, quick_bundle: Callable[..., Bundle]) -> None:
    bundle, plain = quick_bundle("acme", **chat("choose")), quick_bundle("rival")
    base.tokenizer.chat_template = "{% for i in range(10**9) %}{% endfor %}"
    with Engine(base) as engine:
        with pytest.raises(BaseError, match="cannot be used: Range too big"):
            engine.choose([ChooseRequest(bundle, {"text": "fine"})])
        assert engine.choose([ChooseRequest(plain, {"text": "fine"})])[0].label in LABELS["choose"]
