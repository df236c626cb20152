"""`base: auto`: the bases compete on the merchant's examples; and the main job on an encoder."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.tune.reviews import LABELS, reviews

from shopfit.adapter.artifacts import HEAD
from shopfit.base.load import Base
from shopfit.engine import ChooseRequest, Engine, Tenant
from shopfit.errors import DataError
from shopfit.evaluation.evidence import weigh
from shopfit.merchant.merchant import Merchant
from shopfit.onboarding import onboard
from shopfit.recipe.schema import Recipe
from shopfit.settings import Settings
from shopfit.starter import fit_starter
from shopfit.tasks import ChoosePredictions
from shopfit.tune.base_selection import candidates, choose_base, clearly_better
from shopfit.tune.merchant_dataset import MerchantDataset
from shopfit.tune.trainer import make_accelerator


def recipe(base: str, **sections: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "sentiment",
            "task": "choose",
            "base": base,
            "data": {"file": "reviews.jsonl", "near_duplicate": 1.0},
            "prompt": {"template": "Review: {text}\nSentiment:"},
            "adapter": {"rank": 4},
            "tune": {"epochs": 3, "lr": 0.01, "batch_size": 4},
            "evaluate": {"metric": "accuracy", "resamples": 100},
        }
        | sections
    )


def shop(folder: Path, count: int, *, share: bool = False, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    (folder / "merchant.yaml").write_text(f"name: {folder.name}\nshare: {str(share).lower()}\n")
    for name, number, drawn in (("reviews", count, seed), ("reviews.test", 16, seed + 100)):
        rows = [{"text": row.fields["text"], "label": row.label} for row in reviews(number, seed=drawn)]
        rows = list({row["text"]: row for row in rows}.values())
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_base_that_does_best_is_taken(tmp_path: Path, base: Base, encoder: Base) -> None:
    said: list[str] = []
    read = MerchantDataset.read(Merchant.open(shop(tmp_path / "acme", 24)), recipe("auto"))
    bases = {"minilm-l6": encoder, "smollm2-135m": base}
    chosen = choose_base(
        read,
        bases.__getitem__,
        accelerator=make_accelerator(read.recipe),
        reporter=lambda _, detail: said.append(detail),
    )
    reached = {detail.split(":")[0]: float(detail.split("accuracy ")[1].split()[0]) for detail in said}
    assert set(reached) == set(bases)
    best = max(reached.values())
    assert (
        chosen is bases[next(name for name in bases if reached[name] == best)]
    )  # the smaller one where both are as good
    assert not any(weight.requires_grad for one in bases.values() for weight in one.model.parameters())


def test_a_larger_base_must_be_better_by_more_than_chance() -> None:
    gold = np.arange(24) % 2

    def right_on(count: int) -> ChoosePredictions:
        chosen = np.where(np.arange(24) < count, gold, 1 - gold)
        return ChoosePredictions(("no", "yes"), np.where(np.eye(2)[chosen] == 1, 0.8, 0.2), gold)

    small = right_on(18)
    assert [clearly_better(weigh(right_on(count), small, "accuracy")) for count in (17, 18, 19, 21)] == [
        False,
        False,
        False,  # one row of 24
        True,
    ]
    nothing = ChoosePredictions(("no", "yes"), np.full((2, 2), 0.5), np.zeros(2, np.int64))
    assert not clearly_better(weigh(nothing, nothing, "auc"))


def test_only_bases_that_can_compete(tmp_path: Path, base: Base) -> None:
    prefix = recipe("auto", adapter={"method": "prefix"})
    assert candidates(recipe("auto")) == ("minilm-l6", "smollm2-135m")
    assert candidates(prefix) == ("smollm2-135m",)
    few = MerchantDataset.read(Merchant.open(shop(tmp_path / "acme", 4)), recipe("auto"))
    with pytest.raises(DataError, match="too few for bases to compete on: it takes 6"):
        choose_base(few, lambda _: base, accelerator=make_accelerator(few.recipe), reporter=lambda *_: None)


def test_the_main_job_on_an_encoder_with_a_starter(tmp_path: Path, tiny_encoder: Path, settings: Settings) -> None:
    """A starter's head knows labels by name; a newcomer's head begins with it, and the engine serves it."""
    wanted = recipe(str(tiny_encoder), blend=False)
    donors = [shop(tmp_path / name, 24, share=True, seed=number) for number, name in enumerate(("one", "two"))]
    starter = fit_starter(donors, wanted, settings=settings, actor="test")
    assert starter is not None
    assert sum(after - before for before, after in starter.reached.values()) > 0
    folder = shop(tmp_path / "acme", 10, seed=9)
    done = onboard(Merchant.open(folder), wanted, settings=settings, actor="test")
    assert done is not None
    assert (done.bundle.folder / HEAD).is_file()
    assert set(done.report.start_losses) == {"scratch", "house/sentiment@1 as it is", "house/sentiment@1"}
    tenant = Tenant.of(done.bundle)
    assert tenant.labels == tuple(LABELS)
    with Engine.load(str(tiny_encoder), settings=settings) as engine:
        answers = engine.choose(
            [ChooseRequest(done.version.name, {"text": text}) for text in ("arrived cracked", "lovely crema")]
        )
    assert [answer.label for answer in answers] == ["negative", "positive"]
