"""Vectors are pooled as the base's own files ask for, wherever they are made; what else they ask for is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tests.base.random_bundles import bundle_on
from tests.base.tiny import save_tiny
from tests.engine.conftest import recipe_of
from tests.solo import wearing
from torch import Tensor
from torch.nn.functional import normalize

from shopfit.adapter.head import HeadOpening
from shopfit.adapter.trainable import attach
from shopfit.base.checkpoint import Checkpoint
from shopfit.base.embed import Embedder
from shopfit.base.fingerprint import identify
from shopfit.base.load import Base, load_base
from shopfit.base.pooling import Mode, Pooling
from shopfit.base.prompt import Prompter
from shopfit.base.scoring.questions import Question, Text
from shopfit.engine import EmbedRequest, Engine, Tenant
from shopfit.errors import BaseError, RecipeError
from shopfit.recipe.adapter_section import Adapter
from shopfit.tune.contrastive import HiddenStateCapture

MODES = get_args(Mode)
TEXTS = [(5, 6, 7, 8, 9, 10), (20, 21, 22), (30,)]


def by_hand(mode: Mode, states: Tensor) -> Tensor:
    """(D,) of the (T, D) states of one text."""
    rows = list(states)
    match mode:
        case "cls":
            return rows[0]
        case "lasttoken":
            return rows[-1]
        case "max":
            return torch.stack([column.max() for column in states.T])
        case "mean":
            return states.sum(0) / len(rows)
        case "mean_sqrt_len_tokens":
            return states.sum(0) / len(rows) ** 0.5
        case "weightedmean":
            weighted = [row * place for place, row in enumerate(rows, start=1)]
            return torch.stack(weighted).sum(0) / sum(range(1, len(rows) + 1))


@pytest.mark.parametrize("mode", MODES)
def test_padding_is_not_pooled(mode: Mode) -> None:
    torch.manual_seed(0)
    states = torch.randn(3, 6, 8)
    mask = torch.tensor([[1] * length + [0] * (6 - length) for length in (6, 3, 1)])
    got = Pooling(mode).pool(states, mask)
    wanted = torch.stack([by_hand(mode, row[: int(shown.sum())]) for row, shown in zip(states, mask, strict=True)])
    torch.testing.assert_close(got, wanted)


Write = Callable[..., Path]


@pytest.fixture
def pooled(tiny_encoder: Path, tmp_path: Path) -> Write:
    """A copy of the tiny encoder with files of sentence-transformers."""

    def write(config: Any = None, modules: Any = None, place: str = "1_Pooling", source: Path = tiny_encoder) -> Path:
        folder = Path(shutil.copytree(source, tmp_path / f"base{len(list(tmp_path.iterdir()))}"))
        if config is not None:
            (folder / place).mkdir()
            (folder / place / "config.json").write_text(json.dumps(config))
        if modules is not None:
            (folder / "modules.json").write_text(json.dumps(modules))
        return folder

    return write


def modules(*kinds: str, model: str = "", pooling: str = "1_Pooling") -> list[dict[str, Any]]:
    places = {"Transformer": model, "Pooling": pooling}
    return [
        {"idx": place, "name": str(place), "path": places.get(kind, f"{place}_{kind}"), "type": f"st.models.{kind}"}
        for place, kind in enumerate(kinds)
    ]


FLAGS = dict.fromkeys(
    ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"), False
)


def flags(*on: str, **others: Any) -> dict[str, Any]:
    return {f"pooling_mode_{key}": key in on for key in FLAGS} | {"word_embedding_dimension": 64} | others


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        (None, None),
        ({"word_embedding_dimension": 64}, "mean"),
        (flags("mean_tokens"), "mean"),
        (flags(), "mean"),
        (flags("cls_token"), "cls"),
        (flags("max_tokens"), "max"),
        (flags("mean_sqrt_len_tokens"), "mean_sqrt_len_tokens"),
        (flags("weightedmean_tokens"), "weightedmean"),
        (flags("lasttoken", include_prompt=True), "lasttoken"),
        ({"embedding_dimension": 64, "pooling_mode": "lasttoken", "include_prompt": True}, "lasttoken"),
        ({"pooling_mode": "CLS"}, "cls"),
        ({"pooling_mode": ["max"]}, "max"),
        (flags("mean_tokens", pooling_mode="cls"), "cls"),  # the name counts, as in sentence-transformers
    ],
)
def test_both_ways_of_saving_it_are_read(config: Any, mode: Mode | None, pooled: Write) -> None:
    said = Checkpoint.open(pooled(config)).profile.saved_pooling
    assert said == (None if mode is None else Pooling(mode))
    if config is not None:
        kinds = modules("Transformer", "Pooling", "Normalize", pooling="behind")
        assert Checkpoint.open(pooled(config, kinds, "behind")).profile.saved_pooling == said


@pytest.mark.parametrize(
    ("config", "what", "why"),
    [
        (flags("mean_tokens", "cls_token"), None, "pools by cls and mean"),
        ({"pooling_mode": ["cls", "max"]}, None, "pools by cls and max"),
        ({"pooling_mode": []}, None, "pools by"),
        ({"pooling_mode": "attention"}, None, "pools by attention"),
        ({"pooling_mode": 7}, None, "pools by 7"),
        ({"pooling_mode_whitening": True}, None, "pools by pooling_mode_whitening"),
        ({"pooling_mode_cls_token": 1}, None, "pooling_mode_cls_token 1"),
        (["cls"], None, "is no object"),
        (flags("cls_token"), {"0": "Transformer"}, "no list of modules"),
        (flags("cls_token"), ["Transformer"], "no list of modules"),
        (flags("cls_token"), [], "names nothing"),
        (flags("cls_token"), modules("Transformer", "Pooling", "Dense", "Normalize"), "has Dense"),
        (flags("cls_token"), modules("Transformer", "WordWeights", "Pooling"), "has WordWeights"),
        (flags("cls_token"), modules("Transformer"), "names Transformer"),
        (flags("cls_token"), modules("Pooling", "Transformer"), "names Pooling, Transformer"),
        (flags("cls_token"), modules("Transformer", "Pooling", "Pooling"), "names Transformer, Pooling, Pooling"),
        (flags("cls_token"), modules("Transformer", "Pooling", model="0_Transformer"), "0_Transformer"),
        (None, modules("Transformer", "Pooling"), "1_Pooling.*holds no config.json"),
        (flags("cls_token"), modules("Transformer", "Pooling", pooling="../elsewhere"), "holds no config.json"),
        (flags("cls_token"), modules("Transformer", "Pooling", pooling="\0"), "holds no config.json"),
    ],
)
def test_what_is_not_done_here_is_refused(config: Any, what: Any, why: str, pooled: Write) -> None:
    with pytest.raises(BaseError, match=why):
        Checkpoint.open(pooled(config, what))


def test_a_pooling_out_of_the_folder_is_not_read(pooled: Write, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "config.json").write_text(json.dumps(flags("cls_token")))
    with pytest.raises(BaseError, match="leads out of its folder"):
        Checkpoint.open(pooled(None, modules("Transformer", "Pooling", pooling="../elsewhere")))


def test_another_pooling_is_another_base(tiny_encoder: Path, pooled: Write) -> None:
    plain = identify(Checkpoint.open(tiny_encoder))
    kinds = modules("Transformer", "Pooling", "Normalize")
    assert identify(Checkpoint.open(pooled(flags("mean_tokens"), kinds))) == plain
    others = [identify(Checkpoint.open(pooled({"pooling_mode": mode}, kinds))) for mode in MODES if mode != "mean"]
    assert len({plain.fingerprint, *(other.fingerprint for other in others)}) == len(MODES)
    assert {other.legacy for other in others} == {""}  # by the legacy rule, an adapter of the mean would fit
    assert identify(Checkpoint.open(pooled(flags("cls_token")))).fingerprint == others[0].fingerprint


def vector(model: Any, mode: Mode, text: tuple[int, ...]) -> Tensor:
    with torch.inference_mode():
        return normalize(by_hand(mode, model(input_ids=torch.tensor([text])).last_hidden_state[0]), dim=0)


@pytest.mark.parametrize("mode", MODES)
def test_whoever_makes_vectors_makes_the_same(mode: Mode, pooled: Write, home: Path, tmp_path: Path) -> None:
    """Evaluation, training, a head's start, the sentence encoder, and the engine with adapters beside the bare base."""
    base = load_base(str(pooled({"pooling_mode": mode})), home)
    wanted = torch.stack([vector(base.model, mode, text) for text in TEXTS])
    computed = base.scorer.compute(base.model, [Text(text) for text in TEXTS])
    torch.testing.assert_close(torch.stack([torch.from_numpy(row).float() for row in computed]), wanted)
    words = {str(text): text for text in TEXTS}
    torch.testing.assert_close(HeadOpening(base.model, base.scorer.pad, words, {}).prototypes().prototypes, wanted)
    asked = base.scorer.collate([Question(TEXTS[0], tuple(TEXTS[1:])), Question(TEXTS[2], (TEXTS[1],))])
    with torch.inference_mode():
        scores = asked.forward(base.model) / 4
    cosines = wanted @ wanted.T
    torch.testing.assert_close(scores, torch.stack([cosines[0, 1], cosines[0, 2], cosines[2, 1]]))
    queries = ["keep warm", "where is my parcel, it was to be here by now"]
    bundles = [bundle_on(base, tmp_path / f"bundle{seed}", seed) for seed in (1, 2)]
    tenants = [*map(Tenant.of, bundles), Tenant("bare", recipe_of(base, "rank"))]
    with Engine(base) as engine:
        pairs = [(tenant, query) for query in queries for tenant in tenants]
        answers = engine.embed([EmbedRequest(tenant, {"query": query}) for tenant, query in pairs])
    for (tenant, query), answer in zip(pairs, answers, strict=True):
        ids = Prompter(tenant.recipe, base.tokenizer, tenant.catalog, scorer=base.scorer).encode({"query": query})
        with wearing(base, tenant.bundle) as worn:  # type: ignore[arg-type] # these bundles lie in folders
            assert list(answer.vector) == pytest.approx(vector(worn.model, mode, ids).tolist(), abs=1e-4)
    embedded = torch.from_numpy(Embedder(base)(queries))
    ids = [tuple(base.tokenizer(query)["input_ids"]) for query in queries]
    torch.testing.assert_close(embedded, torch.stack([vector(base.model, mode, text) for text in ids]))


@pytest.mark.parametrize("kind", ["bert", "fnet"])
@pytest.mark.parametrize("mode", ["cls", "max"])
def test_the_contrastive_term_is_of_pooled_states_too(
    kind: str, mode: Mode, pooled: Write, home: Path, tmp_path: Path
) -> None:
    """On the plain path they come from several forwards."""
    folder = save_tiny(tmp_path / "source", kind, "AutoModel")
    base = load_base(str(pooled({"pooling_mode": mode}, source=folder)), home)
    asked = base.scorer.collate([Question(text, (TEXTS[1],)) for text in TEXTS])
    captured = HiddenStateCapture(base.model.base_model)
    with torch.inference_mode(), captured.open():
        asked.forward(base.model)
        states = captured.take()
        found = normalize(asked.prompt_states(base.model, states), dim=-1)
    torch.testing.assert_close(found, torch.stack([vector(base.model, mode, text) for text in TEXTS]))


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3_text", "gpt2"])
@pytest.mark.parametrize("loader", ["AutoModel", "AutoModelForCausalLM"])
def test_a_decoder_that_was_saved_to_embed_is_an_encoder(
    kind: str, loader: str, pooled: Write, home: Path, tmp_path: Path
) -> None:
    windows = {"sliding_window": 8} if kind == "gemma3_text" else {}
    folder = save_tiny(tmp_path / "source", kind, loader, vocab_size=416, **windows)
    kinds = modules("Transformer", "Pooling", "Normalize")
    base = load_base(str(pooled({"pooling_mode": "lasttoken"}, kinds, source=folder)), home)
    assert base.encoder
    bundles = [bundle_on(base, tmp_path / f"bundle{seed}", seed) for seed in (1, 2)]
    tenants = [*map(Tenant.of, bundles), Tenant("bare", recipe_of(base, "rank"))]
    queries = ["keep warm", "where is my parcel, it was to be here by now"]
    pairs = [(tenant, query) for query in queries for tenant in tenants]
    with Engine(base) as engine:
        answers = engine.embed([EmbedRequest(tenant, {"query": query}) for tenant, query in pairs])
    for (tenant, query), answer in zip(pairs, answers, strict=True):
        ids = tuple(base.tokenizer(query)["input_ids"])
        with wearing(base, tenant.bundle) as worn:  # type: ignore[arg-type] # these bundles lie in folders
            assert list(answer.vector) == pytest.approx(vector(worn.model, "lasttoken", ids).tolist(), abs=1e-4)
    with pytest.raises(RecipeError, match="prefix tuning does not work on the base"):
        attach(base, Adapter(method="prefix"), total_steps=1, opening=(5,))


def test_without_files_that_say_so_a_decoder_stays_one(base: Base) -> None:
    assert not base.encoder
    assert Checkpoint.open(base.folder).profile.saved_pooling is None
