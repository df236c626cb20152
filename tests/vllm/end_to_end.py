"""`make test-vllm`: real adapters on the packaged base, served by two vLLM servers behind Envoy.

It is no part of `make test`: vLLM has an environment of its own, whose binaries SHOPFIT_VLLM_BIN names.
"""

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import REAL_BASES
from tests.vllm.servers import HEADER, Server, envoy, get, post, requests, vllm

from shopfit.adapter.bundle import LORA, NATIVE, BaseIdentity, Bundle, DataIdentity, Manifest, seal
from shopfit.adapter.weight_files import write_served
from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter
from shopfit.engine import ChooseRequest, Engine, GenerateRequest
from shopfit.merchant.examples import Example
from shopfit.recipe.loading import dump_recipe
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry, Version
from shopfit.registry.pinned_name import PinnedName
from shopfit.serve.engines.upstream import UpstreamEngine
from shopfit.settings import Settings
from shopfit.tune.trainer import Trainer, make_accelerator
from shopfit.tune.training_dataset import TrainingSet

BINARIES = Path(os.environ["SHOPFIT_VLLM_BIN"])
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
    """

    servers: Sequence[Server]
    entry: Server
    registry: Registry
    settings: Settings
    names: dict[str, str]
    prompts: dict[str, list[int]]
    texts: dict[tuple[str, str], str]
    labels: list[Any]

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


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
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
        prompts, texts, labels = _embedded(base, settings, versions)
        location = base.folder
        del base
        servers = [stack.enter_context(vllm(BINARIES, location, settings, folder, core)) for core in range(2)]
        entry = stack.enter_context(envoy(BINARIES, servers, folder))
        names = {what: str(PinnedName.of(version)) for what, version in versions.items()}
        yield World(servers, entry, registry, settings, names, prompts, texts, labels)


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
) -> tuple[dict[str, list[int]], dict[tuple[str, str], str], list[Any]]:
    """The tokens of each prompt, and what our own engine answers: texts, and labels."""
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
        return prompts, texts, labels


@pytest.mark.parametrize("what", ["acme", "crema", "adalora", "acme, next"])
def test_an_adapter_answers_as_the_embedded_engine(world: World, what: str) -> None:
    name = world.names[what]
    for server in world.servers:
        for question in QUESTIONS:
            assert world.ask(server, name, question) == (200, world.texts[name, question])


def test_merchants_have_answers_of_their_own(world: World) -> None:
    names = [world.names[what] for what in ("acme", "crema", "adalora")] + ["base"]
    answers = [world.ask(world.entry, name) for name in names]
    assert [status for status, _ in answers] == [200] * 4
    assert len({text for _, text in answers}) == 4
    # many at once, mixed in one batch: nobody gets another's
    asked = [(name, question) for name in names[:3] for question in QUESTIONS] * 3
    with ThreadPoolExecutor(len(asked)) as threads:
        told = list(threads.map(lambda each: world.ask(world.entry, *each), asked))
    assert told == [(200, world.texts[each]) for each in asked]


def test_a_promotion_needs_no_restart(world: World) -> None:
    def production() -> str:
        return str(PinnedName.of(world.registry.resolve("acme/replies")))

    before = production()
    assert before == world.names["acme"]
    first = world.ask(world.entry, before)
    world.registry.promote("acme/replies@2", actor="ada")
    after = production()
    assert after == world.names["acme, next"]
    assert world.ask(world.entry, after) == (200, world.texts[after, QUESTIONS[0]])
    assert world.ask(world.entry, after) != first
    assert world.ask(world.entry, before) == first  # a name never means anything else
    assert post(f"{world.servers[0].url}/v1/completions", {"model": "acme/replies", "prompt": "x"})[0] == 404


def test_the_gateways_engine_asks_them(world: World) -> None:
    """Prompts of our own, calibration and all: what `shopfit serve --upstream` answers with."""
    options = {"quantization": "none", "encoder": None, "queue": 64}
    with UpstreamEngine.load(
        world.entry.url, "smollm2-135m", registry=world.registry, settings=world.settings, **options
    ) as engine:
        for what in ("acme", "crema", "adalora"):
            name = world.names[what].partition(":")[0]
            parts: list[str] = []
            request = GenerateRequest(name, {"input": QUESTIONS[0]}, temperature=0.0)
            answer = engine.submit(request, show=parts.append).result()
            assert answer.text == "".join(parts) == world.texts[world.names[what], QUESTIONS[0]]
        name = world.names["reviews"].partition(":")[0]
        for (text, _), own in zip(REVIEWS, world.labels, strict=True):
            answer = engine.submit(ChooseRequest(name, {"text": text})).result()
            assert answer.label == own.label
            assert answer.probabilities == pytest.approx(own.probabilities, abs=1e-3)
            assert answer.digest == own.digest


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("prefix", "is a prefix (method prefix), which has no plain LoRA form"),
        ("dora", "is DoRA (method lora), which has no plain LoRA form"),
    ],
)
def test_what_has_no_plain_lora_is_refused(world: World, what: str, why: str) -> None:
    server, name = world.servers[0], world.names[what]
    assert world.ask(server, name)[0] == 404
    assert f"{name} is not served" in server.log.read_text()
    assert why in server.log.read_text()


@pytest.mark.parametrize("name", ["acme/replies@1", "acme/replies@production", "../../etc@1:0000000000000000", "x"])
def test_other_names_are_not_the_base(world: World, name: str) -> None:
    before = world.loaded(world.servers[0])
    assert world.ask(world.servers[0], name)[0] == 404
    assert world.loaded(world.servers[0]) == before


def test_one_server_is_killed(world: World) -> None:
    """Envoy gives each name to one server; when that is gone, to the other: what was in flight alone is lost."""
    names = [world.names[what] for what in ("acme", "crema", "adalora", "acme, next", *MANY)]
    stop = threading.Event()
    answers: list[tuple[float, str, int, str]] = []

    def client(place: int) -> None:
        turn = place
        while not stop.is_set():
            name, begun = names[turn % len(names)], time.monotonic()
            answers.append((begun, name, *world.ask(world.entry, name)))
            turn += 1

    def wait_for(count: int) -> None:
        until = len(answers) + count
        while len(answers) < until:
            time.sleep(0.05)

    before = world.served()
    clients = [threading.Thread(target=client, args=(place,)) for place in range(6)]
    for each in clients:
        each.start()
    wait_for(3 * len(names))
    served = [after - before for after, before in zip(world.served(), before, strict=True)]
    killed = max(range(2), key=lambda place: served[place])
    world.servers[killed].kill()
    gone = time.monotonic()
    wait_for(3 * len(names))
    stop.set()
    for each in clients:
        each.join()
    lost = [begun for begun, _, status, _ in answers if status != 200]
    counts = Counter(status for _, _, status, _ in answers)
    print(f"\nserved before the kill: {served}; answers {dict(counts)}, {len(lost)} of them lost in flight")
    assert all(count > 0 for count in served)
    assert all(begun <= gone for begun in lost), counts
    assert len(lost) <= len(clients)
    assert all(text == world.texts[name, QUESTIONS[0]] for _, name, status, text in answers if status == 200)
    for name in names:  # the other server answers for all of them now
        assert world.ask(world.entry, name) == (200, world.texts[name, QUESTIONS[0]])
    assert world.loaded(world.servers[1 - killed]) >= set(names)
