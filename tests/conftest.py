"""What every test may use: an empty home, and tiny random bases with a real tokenizer."""

import gc
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from shopfit.settings import Settings
from tests.forks import Forks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

    from shopfit.base.load import Base

REAL_BASES = Settings.from_environment().home / "bases"
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for a hub is wrong
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):  # each has its share of the cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

# no test depends on how fast the machine is; SHOPFIT_FUZZ_CASES is how many a property is tried on without a number
CASES = {"max_examples": int(os.environ["SHOPFIT_FUZZ_CASES"])} if os.environ.get("SHOPFIT_FUZZ_CASES") else {}
hypothesis.settings.register_profile("shopfit", deadline=None, **CASES)
hypothesis.settings.load_profile("shopfit")

pytest_plugins = ["tests.postgresql"]


LONG = (
    "tests/cli/test_adapter.py",
    "tests/cli/test_containers.py",
    "tests/registry/test_processes.py",
    "tests/serve/",
    "tests/test_rate.py",
    "tests/test_starter.py",
    "tests/tune/",
    "tests/warm_start/",
)
"""Files that take a minute or more, or start gateways."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, and a file stays in one process, but for the pages of the docs."""
    for item in items:
        file = item.nodeid.split("::")[0]
        page = item.get_closest_marker("slow") is not None and file.endswith("test_docs.py")
        item.add_marker(pytest.mark.xdist_group(item.nodeid if page else file))
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, not item.nodeid.startswith(LONG)))


def pytest_collection_finish() -> None:
    _keep_what_stays()


def pytest_runtest_logfinish() -> None:
    _keep_what_stays()


_modules = 0


def _keep_what_stays() -> None:
    """What was imported and collected stays: each training looks for garbage, and need not look through all of that."""
    global _modules
    if len(sys.modules) > _modules + 50:
        _modules = len(sys.modules)
        gc.collect()
        gc.freeze()


CORPUS = [
    "Review: The grinder arrived cracked and the box was wet.\nSentiment: negative",
    "Review: Lovely crema, quick delivery, would buy again!\nSentiment: positive",
    "Recently viewed: Ridge 2 tent; Down bag\nSearch: tent for two people\nProduct: Ridge 2 tent",
    'Shopper: buys books on birds\nProfile: {"interests": ["nature"], "level": "expert", "budget": "low"}',
    "Customer: where is my parcel?\nThis message is about order status, refund, return",
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty SHOPFIT_HOME, in which only the packaged bases are there already."""
    home = tmp_path / "shopfit-home"
    home.mkdir()
    if REAL_BASES.is_dir():
        (home / "bases").symlink_to(REAL_BASES)
    monkeypatch.setenv("SHOPFIT_HOME", str(home))
    monkeypatch.delenv("SHOPFIT_REGISTRY", raising=False)
    monkeypatch.delenv("SHOPFIT_BLOBS", raising=False)
    return home


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.from_environment()


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """What runs commands without starting Python anew."""
    with Forks(tmp_path_factory.mktemp("f")) as forks:
        yield forks


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with random weights, as a local folder."""
    return make_tiny_base(tmp_path_factory.mktemp("tiny") / "base", seed=0)


@pytest.fixture(scope="session")
def other_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, of the same shape."""
    return make_tiny_base(tmp_path_factory.mktemp("other") / "base", seed=1)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights, as a local folder."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder") / "base"
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=0.2,
    )
    return save_base(folder, BertModel(config), tokenizer)


@pytest.fixture
def encoder(tiny_encoder: Path, home: Path) -> "Base":
    """The tiny encoder, loaded."""
    from shopfit.base.load import load_base

    return load_base(str(tiny_encoder), home)


def tiny_tokenizer() -> "PreTrainedTokenizerFast":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="<|end|>", pad_token="<|end|>")


def save_base(folder: Path, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tiny_base(
    folder: Path, seed: int, tokenizer: "PreTrainedTokenizerFast | None" = None, *, tied: bool = True
) -> Path:
    """A Llama of two layers with random weights, as a local folder; its head is the embedding's table if it is tied."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer or tiny_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return save_base(folder, LlamaForCausalLM(config), tokenizer)


@pytest.fixture
def base(tiny_base: Path, home: Path) -> "Base":
    """The tiny base, loaded."""
    from shopfit.base.load import load_base

    return load_base(str(tiny_base), home)


def write_intents(folder: Path, labels: Sequence[str]) -> None:
    """Five examples of each label and twenty to test, whose texts name it."""
    for part, count in (("intents", 5), ("intents.test", 20)):
        rows = [
            {"text": f"{part} {row} it is about {label} {label} {label}", "label": label}
            for row in range(count)
            for label in labels
        ]
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
