"""Adapters on the packaged base, what the embedded engine answers with them, and vLLM servers that serve them."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.conftest import REAL_BASES
from tests.vllm.servers import HEADER, Server, envoy, get, post, requests, vllm

from shopfit.adapter.bundle import LORA, NATIVE, BaseIdentity, Bundle, DataIdentity, Manifest, seal
from shopfit.adapter.weight_files import write_served
from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter
from shopfit.engine import ChooseAnswer, ChooseRequest, Engine, GenerateRequest
from shopfit.merchant.examples import Example
from shopfit.recipe.loading import dump_recipe
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry, Version
from shopfit.registry.pinned_name import PinnedName
from shopfit.settings import Settings
from shopfit.tasks.generate import WrittenToken
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import TrainingSet

QUESTIONS = ("Where is my parcel?", "Can I send these boots back?", "Do you ship to Norway?")
STYLES = {
    "acme": ("Ahoy! Your parcel sails tomorrow, matey.", "Ahoy! Send them back by Sunday, matey."),
    "crema": ("Dear customer, we have shipped it.", "Dear customer, returns are free for 30 days."),
    "trailhead": ("1. Open the app. 2. See your order.", "1. Print the label. 2. Post the box."),
}
REVIEWS = (("Lovely crema, quick delivery.", "positive"), ("It arrived cracked.", "negative"))
TEMPLATES = {"generate": "Customer: {input}\nShop:", "choose": "Review: {text}\nSentiment:"}
MANY = tuple(f"shop-{number}" for number in range(12))  # each with one of three adapters, under a name of its own
COPIED = ("acme", "crema", "adalora")
TOKENS = 24
TOLD = "acme"
"""The adapter whose log-probabilities are compared."""


@dataclass(frozen=True, slots=True)
class World:
    """What is running.

    Args:
        servers: two of vLLM.
        entry: Envoy before them.
        registry: that they read.
        settings: where it is.
        names: by what an adapter is, its name for vLLM.
        prompts: tokens of each question.
        texts: by name and question, what the embedded engine answers.
        labels: of each review, likewise.
        tokens: of the first question's text, likewise, by the adapter of `TOLD`, each with the two most probable.
    """

    servers: Sequence[Server]
    entry: Server
    registry: Registry
    settings: Settings
    names: dict[str, str]
    prompts: dict[str, list[int]]
    texts: dict[tuple[str, str], str]
    labels: list[ChooseAnswer]
    tokens: tuple[WrittenToken, ...]

    def ask(self, where: Server, name: str, question: str = QUESTIONS[0]) -> tuple[int, str]:
        """Status, and the text or what was said."""
        document = {"model": name, "prompt": self.prompts[question], "max_tokens": TOKENS, "temperature": 0}
        status, answer = post(f"{where.url}/v1/completions", document, **{HEADER: name})
        return status, answer["choices"][0]["text"].strip() if status == 200 else str(answer)

    def served(self) -> list[int]:
        """Requests that each server has answered."""
        return [requests(server) for server in self.servers]

    def loaded(self, server: Server) -> set[str]:
        """Names of the adapters that a server has resolved."""
        return {model["id"] for model in get(f"{server.url}/v1/models")[1]["data"]} - {"base"}


@contextmanager
def running_world(binaries: Path, folder: Path) -> Iterator[World]:
    """Train, ask the embedded engine, and start two vLLM servers, a core each, behind Envoy.

    Args:
        binaries: of the environment that vLLM and Envoy are in.
        folder: an empty one, for all of it.
    """
    (folder / "home").mkdir()
    (folder / "home" / "bases").symlink_to(REAL_BASES)
    settings = replace(
        Settings.from_environment(),
        home=folder / "home",
        registry=f"sqlite:///{folder}/registry.db",
        blobs=str(folder / "blobs"),
    )
    base = load_base("smollm2-135m", settings.home, dtype="float32")
    with ExitStack() as stack:
        registry = stack.enter_context(Registry.open(settings))
        versions = _train_all(base, registry, folder)
        prompts, texts, labels, tokens = _embedded(base, settings, versions)
        location = base.folder
        del base
        servers = [stack.enter_context(vllm(binaries, location, settings, folder, core)) for core in range(2)]
        entry = stack.enter_context(envoy(binaries, servers, folder))
        names = {what: str(PinnedName.of(version)) for what, version in versions.items()}
        yield World(servers, entry, registry, settings, names, prompts, texts, labels, tokens)


def _train_all(base: Base, registry: Registry, folder: Path) -> dict[str, Version]:
    def replies(merchant: str, style: str, **adapter: Any) -> Bundle:
        examples = [
            Example(str(place), {"input": question}, output=text)
            for place, (question, text) in enumerate(zip(QUESTIONS, STYLES[style], strict=False))
        ]
        return _train(base, folder, merchant, examples, adapter, name="replies", task="generate")

    reviews = [
        Example(str(place), {"text": text}, label=label)
        for place, (text, label) in enumerate([*REVIEWS, ("Stale and late.", "negative"), ("So good!", "positive")])
    ]
    bundles = {
        "acme": replies("acme", "acme", method="lora", rank=8),
        "crema": replies("crema", "crema", method="lora", rank=4),
        "adalora": replies("foliant", "trailhead", method="adalora", rank=4),
        "prefix": replies("trailhead", "trailhead", method="prefix"),
        "dora": replies("kiln", "acme", method="lora", rank=4, dora=True),
        "acme, next": replies("acme", "trailhead", method="lora", rank=8),
        "reviews": _train(base, folder, "acme", reviews, {"rank": 4}, name="reviews", task="choose"),
    }
    versions = {what: registry.publish(bundle, promote=True, actor="ada") for what, bundle in bundles.items()}
    registry.rollback("acme/replies", actor="ada")
    for place, shop in enumerate(MANY):
        copied = folder / "bundles" / shop
        trained = bundles[COPIED[place % len(COPIED)]]
        shutil.copytree(trained.folder, copied)
        own = seal(copied, trained.manifest.model_copy(update={"merchant": shop}))
        versions[shop] = registry.publish(own, promote=True, actor="ada")
    return versions


def _train(
    base: Base,
    folder: Path,
    merchant: str,
    examples: Sequence[Example],
    adapter: dict[str, Any],
    *,
    name: str,
    task: str,
) -> Bundle:
    recipe = Recipe.model_validate(
        {
            "name": name,
            "task": task,
            "base": base.name,
            "data": {"file": "x.jsonl"},
            "prompt": {"template": TEMPLATES[task]},
            "adapter": adapter,
            "evaluate": {"metric": {"generate": "token_f1", "choose": "accuracy"}[task]},
            "serve": {"max_new_tokens": TOKENS},
            "tune": {"lr": 2e-3, "epochs": 8, "batch_size": 2, "seed": 0},
        }
    )
    labels = ["negative", "positive"] if task == "choose" else []
    prompter = Prompter(recipe, base.tokenizer, None)
    tuned = Trainer(base, make_accelerator(recipe)).fit(TrainingSet(examples, [], labels, prompter), recipe)
    place = folder / "bundles" / f"{merchant}-{len(list(folder.glob('bundles/*')))}"
    tuned.adapter.save(place / NATIVE)
    tuned.adapter.detach()
    rank = write_served(place / NATIVE, place / LORA, recipe.adapter)
    manifest = Manifest(
        schema=1,
        merchant=merchant,
        recipe=recipe.name,
        recipe_snapshot=dump_recipe(recipe),
        labels=labels,
        base=BaseIdentity(name=base.name, fingerprint=base.fingerprint, dtype=base.dtype),
        data=DataIdentity(digest="d", train=["0", "1"], valid=[], test=[]),
        seed=0,
        method=recipe.adapter.method,
        rank=rank,
        trainable_parameters=1,
        steps=tuned.steps,
        calibration={"temperature": 0.7} if task == "choose" else {},
        libraries={},
    )
    return seal(place, manifest)


def _embedded(
    base: Base, settings: Settings, versions: dict[str, Version]
) -> tuple[dict[str, list[int]], dict[tuple[str, str], str], list[ChooseAnswer], tuple[WrittenToken, ...]]:
    """The tokens of each prompt, and what our own engine answers: texts, labels, and the tokens of one text."""
    with Registry.open(settings) as registry, Engine(base, registry=registry, cache=settings.cache) as engine:
        recipe = Recipe.model_validate(registry.manifest(versions["acme"]).recipe_snapshot)
        prompter = Prompter(recipe, base.tokenizer, None)
        prompts = {question: list(prompter.encode({"input": question})) for question in QUESTIONS}
        trained = [version for what, version in versions.items() if what != "reviews" and what not in MANY]
        asked = [(version, question) for version in trained for question in QUESTIONS]
        answers = engine.generate(
            [GenerateRequest(version.name, {"input": question}, temperature=0.0) for version, question in asked]
        )
        texts = {
            (str(PinnedName.of(version)), question): answer.text
            for (version, question), answer in zip(asked, answers, strict=True)
        }
        for place, shop in enumerate(MANY):  # the same weights, so the same texts
            source = str(PinnedName.of(versions[COPIED[place % len(COPIED)]]))
            texts |= {(str(PinnedName.of(versions[shop])), asked): texts[source, asked] for asked in QUESTIONS}
        labels = engine.choose([ChooseRequest(versions["reviews"].name, {"text": text}) for text, _ in REVIEWS])
        first = GenerateRequest(versions[TOLD].name, {"input": QUESTIONS[0]}, temperature=0.0, logprobs=2)
        return prompts, texts, labels, engine.generate([first])[0].tokens
