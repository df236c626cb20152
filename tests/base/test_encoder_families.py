"""Tiny random encoders of every family: vectors are those of transformers and PEFT alone, or it is refused."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.base.encoder_table import ENCODER_TABLE
from tests.base.random_bundles import TEXTS, bundle_on
from tests.base.tiny import save_tiny, tiny_model
from tests.base.walks import walk
from tests.engine.conftest import recipe_of
from tests.solo import wearing
from torch import Tensor
from torch.nn.functional import normalize

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter
from shopfit.base.scoring.architectures import scorer_of
from shopfit.base.scoring.dual_encoder import fill_up, reading_of, text_vectors
from shopfit.base.self_test import prove
from shopfit.engine import EmbedRequest, Engine, Tenant
from shopfit.errors import BaseError

RIGHT = sorted(kind for kind, family in ENCODER_TABLE.items() if family.path != "refused")
REFUSED = sorted(kind for kind, family in ENCODER_TABLE.items() if family.path == "refused")
QUERIES = ["keep warm", "where is my parcel, it was to be here by now", "x"]


def save(folder: Path, kind: str, loader: str = "AutoModel") -> Path:
    family = ENCODER_TABLE[kind]
    return save_tiny(folder, kind, loader, **family.settings)


@pytest.fixture(scope="module", params=walk(RIGHT))
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Base]:
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, load_base(str(save(folder / "b", request.param)), folder)


def alone(model: Any, texts: Sequence[Sequence[int]]) -> Tensor:
    """(R, D) the mean of the last hidden states of each text by itself."""
    with torch.inference_mode():
        means = [model(input_ids=torch.tensor([list(text)])).last_hidden_state[0].mean(0) for text in texts]
        return normalize(torch.stack(means), dim=-1)


def test_vectors_are_those_of_transformers_alone(loaded: tuple[str, Base]) -> None:
    from transformers import AutoModel

    kind, base = loaded
    assert base.encoder
    assert reading_of(base.model).plain == (ENCODER_TABLE[kind].path == "plain path")
    plain = AutoModel.from_pretrained(base.folder).eval()
    longest = tuple((torch.arange(base.max_length) % 300 + 5).tolist())
    texts = [*TEXTS, longest, longest[: base.max_length // 2]]
    with torch.inference_mode():
        together = text_vectors(base.model, *fill_up(texts, base.tokenizer.pad_token_id))
    torch.testing.assert_close(together, alone(plain, texts), rtol=1e-4, atol=1e-4)


def test_a_checkpoint_with_a_training_head_gives_the_same_vectors(loaded: tuple[str, Base], tmp_path: Path) -> None:
    from transformers import AutoModel

    kind, _ = loaded
    folder = save(tmp_path / "b", kind, ENCODER_TABLE[kind].trained)
    base = load_base(str(folder), tmp_path)
    plain = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        together = text_vectors(base.model, *fill_up(TEXTS, base.tokenizer.pad_token_id))
    torch.testing.assert_close(together, alone(plain, TEXTS), rtol=1e-4, atol=1e-4)


def test_mixed_adapters_answer_as_peft_alone(loaded: tuple[str, Base], tmp_path: Path) -> None:
    _, base = loaded
    methods: list[dict[str, Any]] = [{}, {"method": "adalora"}, {"dora": True}]
    bundles = [bundle_on(base, tmp_path / str(seed), seed, **method) for seed, method in enumerate(methods)]
    tenants = [*map(Tenant.of, bundles), Tenant("bare", recipe_of(base, "rank"))]
    asked = [(tenant, query) for query in QUERIES for tenant in tenants]
    with Engine(base, slots=3) as engine:
        mixed = engine.embed([EmbedRequest(tenant, {"query": query}) for tenant, query in asked])
        by_one = [engine.embed([EmbedRequest(tenant, {"query": query})])[0] for tenant, query in asked]
    differing = set()
    for (tenant, query), together, one in zip(asked, mixed, by_one, strict=True):
        ids = Prompter(tenant.recipe, base.tokenizer, tenant.catalog, scorer=base.scorer).encode({"query": query})
        assert isinstance(tenant.bundle, Bundle | None)
        with wearing(base, tenant.bundle) as worn:
            wanted = alone(worn.model, [ids])[0].tolist()
        assert together.vector == pytest.approx(wanted, abs=2e-4)
        assert one.vector == pytest.approx(wanted, abs=2e-4)
        differing.add(tuple(round(number, 3) for number in wanted))
    assert len(differing) == len(asked)


def test_the_table_names_every_encoder_that_transformers_knows() -> None:
    from transformers.models.auto import modeling_auto as auto

    known = {*auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, *auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES}
    known &= auto.MODEL_MAPPING_NAMES.keys()
    others = {*auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, *auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    assert known - others - ENCODER_TABLE.keys() == set()


@pytest.mark.parametrize("kind", ["bert", "convbert", "fnet"])
def test_the_proof_takes_the_plain_path_where_no_list_does(kind: str) -> None:
    model = tiny_model(kind, "AutoModel")
    prove(kind, model, scorer_of("encoder", 0))
    assert reading_of(model).plain == (ENCODER_TABLE[kind].path == "plain path")


def test_the_proof_refuses_what_no_list_knows() -> None:
    with pytest.raises(BaseError, match=r"plain forward|cannot be run"):
        prove("funnel", tiny_model("funnel", "AutoModel", **ENCODER_TABLE["funnel"].settings), scorer_of("encoder", 0))


@pytest.mark.parametrize("kind", REFUSED)
def test_others_are_refused_by_name(kind: str, tiny_encoder: Path, tmp_path: Path) -> None:
    """Before anything is built, so that what their weights are does not matter."""
    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "b"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": kind, "architectures": None}))
    with pytest.raises(BaseError, match=f"of the family {kind} {re.escape(ENCODER_TABLE[kind].why)}"):
        load_base(str(folder), tmp_path)


def test_a_model_that_runs_in_float32_alone_says_so(tmp_path: Path) -> None:
    folder = save(tmp_path / "b", "fnet")
    with pytest.raises(BaseError, match=r"(?s)cannot be run as it is here.*set `dtype` to float32"):
        load_base(str(folder), tmp_path, device="cpu", dtype="bfloat16")


def test_sparse_attention_that_is_forgotten_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "b", "big_bird", "AutoModel")
    with pytest.raises(BaseError, match=r"what was asked before \(attention_type; allowed: original_full\)"):
        load_base(str(folder), tmp_path)
