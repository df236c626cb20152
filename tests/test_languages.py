"""A shop that does not speak English, from its folder to an answer; on tiny bases, and on the real one."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from shopfit.adapter.artifacts import needed
from shopfit.base.by_language import encoder_of
from shopfit.engine import ChooseRequest, Engine, RecommendRequest, Tenant
from shopfit.errors import DataError
from shopfit.merchant.merchant import Merchant
from shopfit.onboarding import Onboarded, onboard
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.shipped import sample_folder
from shopfit.registry import Registry
from shopfit.settings import Settings
from tests.cli.conftest import write_rows

GOOD = ("茶香浓郁，回甘明显，下次还会再买", "包装精致，送礼很有面子，老人家喜欢")
BAD = ("有股霉味，根本喝不下去", "碎渣太多，客服还不理人")
SMALL = ("tune.epochs=1", "tune.batch_size=4", "evaluate.resamples=100", "adapter.rank=4", "data.near_duplicate=1")


def shop(folder: Path, **said: Any) -> Merchant:
    folder.mkdir()
    (folder / "merchant.yaml").write_text(yaml.safe_dump({"name": "chaye", **said}))
    rows = [
        {"text": f"第{number}次买，{texts[number % 2]}，已经跟朋友们说过了，大家都知道", "label": label}
        for number in range(12)
        for texts, label in ((GOOD, "positive"), (BAD, "negative"))
    ]
    write_rows(folder / "reviews.jsonl", rows[:16])
    write_rows(folder / "reviews.test.jsonl", rows[16:])
    return Merchant.open(folder)


def made(merchant: Merchant, settings: Settings, recipe: str, *changes: str) -> tuple[Onboarded, list[str]]:
    told: list[str] = []
    done = onboard(
        merchant,
        load_recipe(recipe, overrides=changes),
        settings=settings,
        actor="t",
        reporter=lambda what, detail: told.append(f"{what}: {detail}"),
    )
    assert done is not None
    return done, told


def test_a_bundle_names_the_encoder_that_it_was_made_with(
    tiny_encoder: Path, settings: Settings, tmp_path: Path
) -> None:
    """No packaged base is there to be fetched: whatever is asked for is the tiny one."""
    (settings.home / "bases").unlink(missing_ok=True)
    named = (f"base={tiny_encoder}", f"serve.encoder={tiny_encoder}", "evaluate.baselines=[encoder-logreg]", *SMALL)
    done, told = made(shop(tmp_path / "shop", language="zh"), settings, "review-sentiment", *named)
    assert not [line for line in told if line.startswith("language")]
    assert "encoder-logreg" in [row.name for row in done.report.systems]
    with Registry.open(settings) as registry:
        tenant = Tenant.of(registry.read(done.version, needed, settings.cache), done.version.name)
    assert encoder_of(tenant.recipe) == str(tiny_encoder)
    assert not tenant.recipe.bases
    with Engine.load(str(tiny_encoder), settings=settings) as engine:
        answer = engine.choose([ChooseRequest(done.version.name, {"text": GOOD[0]})])[0]
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert not (settings.home / "bases").exists()


def test_rows_in_another_language_than_the_merchant_says_are_told_of(
    tiny_encoder: Path, settings: Settings, tmp_path: Path
) -> None:
    named = (f"base={tiny_encoder}", f"serve.encoder={tiny_encoder}", "evaluate.baselines=[]", *SMALL)
    _, told = made(shop(tmp_path / "shop", language="en"), settings, "review-sentiment", *named)
    [line] = [line for line in told if line.startswith("language")]
    assert "rows look like zh" in line
    assert "merchant.yaml says en" in line


def test_a_language_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be the tag of a language"):
        shop(tmp_path / "shop", language="zz")


@pytest.mark.slow
@pytest.mark.proof
def test_a_tea_shop_finds_tea(settings: Settings) -> None:
    """The real base: searches in Chinese are answered at once, and MiniLM, which reads English, is far behind."""
    folder = sample_folder("qingcha")
    assert folder is not None
    done, told = made(
        Merchant.open(folder),
        settings,
        "product-recommendation",
        "tune.steps=0",
        "evaluate.baselines=[bm25, encoder-cosine, minilm-cosine]",
        "evaluate.resamples=100",
    )
    reached = {row.name: row.metrics["ndcg@k"].value for row in done.report.systems}
    assert {"e5-cosine", "minilm-cosine", "bm25", "adapter"} <= reached.keys()
    assert reached["adapter"] > reached["minilm-cosine"] + 0.2
    assert reached["bm25"] > 0.3
    assert any("e5-small-multilingual: 118M" in line for line in told)
    with Engine.load("e5-small-multilingual", settings=settings) as engine:
        answer = engine.answer([RecommendRequest(done.version.name, {"query": "龙井"}, 5)])[0]
    assert any("longjing" in one.id for one in answer.items)
