"""A search tries settings on the merchant's own examples, keeps every trial, and never loses to the recipe's own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.tune.reviews import RECIPE, reviews, training_set

from shopfit.adapter.bundle import Bundle
from shopfit.adapter.initial_weights import Start, start_for
from shopfit.base.load import Base
from shopfit.errors import DataError, ShopfitError
from shopfit.merchant.merchant import Merchant
from shopfit.onboarding import onboard
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.schema import Recipe
from shopfit.settings import Settings
from shopfit.tune.search import Found, Space, changed, check_search, search, study_digest
from shopfit.tune.study import STUDY, Study, opened
from shopfit.tune.trainer import Trainer, make_accelerator

FACTORS = Start("house/r@1", factors={})
PREFIX = Start("house/r@2", prefix=torch.zeros(1))


def with_tune(recipe: Recipe, **tune: Any) -> Recipe:
    return Recipe.model_validate(recipe.model_dump(by_alias=True) | {"tune": recipe.tune.model_dump() | tune})


def find(base: Base, home: Path, trials: int, recipe: Recipe = RECIPE, said: list[str] | None = None) -> Found:
    heard = [] if said is None else said
    return search(
        Trainer(base, make_accelerator(recipe)),
        recipe,
        training_set(base, reviews(12)),
        Start(),
        trials,
        merchant="acme",
        data_digest="d1",
        home=home,
        reporter=lambda _, detail: heard.append(detail),
    )


def study_file(home: Path) -> Path:
    [path] = (home / "studies" / "acme" / "r").glob("*.db")
    return path


def test_it_finds_better_settings_than_bad_ones_and_tries_the_recipe_first(base: Base, home: Path) -> None:
    hopeless = with_tune(RECIPE, lr=1e-6)
    with torch.no_grad():
        before = base.model(torch.tensor([[1, 2, 3]])).logits
    said: list[str] = []
    found = find(base, home, 4, hopeless, said)
    study = found.study
    assert study.trials[0].values == {
        "adapter.method": "lora",
        "adapter.rank": 4,
        "tune.lr": 1e-6,
        "tune.epochs": 2,
    }
    assert study.own == 1
    assert study.best.loss == min(trial.loss for trial in study.trials if trial.loss is not None)
    assert study.facts().loss < (study.facts().own_loss or 0)
    assert found.recipe == changed(hopeless, study.best.values)
    assert found.recipe.tune.lr != 1e-6
    assert len(said) == 6  # what is planned, four trials, what was chosen
    assert Study.model_validate_json(study.to_json()) == study
    with torch.no_grad():
        assert torch.equal(base.model(torch.tensor([[1, 2, 3]])).logits, before)


def test_it_goes_on_where_it_was_interrupted_and_ends_the_same(base: Base, home: Path, tmp_path: Path) -> None:
    quick = with_tune(RECIPE, epochs=1)
    whole = find(base, tmp_path / "other", 3, quick)
    find(base, home, 2, quick)
    with opened(study_file(home), prune=True) as study:
        study.ask()  # what a killed run leaves behind: a trial without an end
    said: list[str] = []
    resumed = find(base, home, 3, quick, said)
    assert resumed.study == whole.study
    assert "2 are kept from before" in said[0]
    assert [line[:8] for line in said[1:-1]] == ["trial 3:"]
    again: list[str] = []
    assert find(base, home, 1, quick, again).study == whole.study
    assert not any(line.startswith("trial") for line in again)
    # the same study under a recipe with other settings of its own: they are tried too
    other = find(base, home, 3, RECIPE)
    assert [trial.number for trial in other.study.trials] == [1, 2, 3, 4]
    assert other.study.own == 4
    assert other.study.trials[3].values["tune.epochs"] == 2


def test_what_is_worse_than_most_is_given_up_but_never_the_recipes_own(base: Base, home: Path) -> None:
    from optuna.trial import create_trial

    find(base, home, 1)
    values = {"adapter.method": "lora", "adapter.rank": 4, "tune.lr": 0.02, "tune.epochs": 2}
    with opened(study_file(home), prune=True) as study:
        own = study.trials[0]
        for number in range(4):
            made = create_trial(
                params=own.params | {"rate": 2.0 + number},
                distributions=own.distributions,
                user_attrs={"values": values, "start": "scratch", "losses": [1e-6] * 3},
                intermediate_values={1: 1e-6, 2: 1e-6, 3: 1e-6},
                value=1e-6,
            )
            study.add_trial(made)
    found = find(base, home, 6, with_tune(RECIPE, epochs=1))
    assert [trial.state for trial in found.study.trials] == ["complete"] * 6
    assert found.study.own == 6
    more = find(base, home, 7)
    assert more.study.trials[6].state == "pruned"
    assert more.study.trials[6].loss is None
    assert len(more.study.trials[6].losses) == 1
    assert more.study.facts().pruned == 1


def test_from_many_examples_on_one_split_is_held_out_and_nothing_is_pruned(base: Base, home: Path) -> None:
    heard: list[str] = []
    found = search(
        Trainer(base, make_accelerator(with_tune(RECIPE, epochs=1))),
        with_tune(RECIPE, epochs=1),
        training_set(base, reviews(92), reviews(8, seed=3)),
        Start(),
        1,
        merchant="acme",
        data_digest="d1",
        home=home,
        reporter=lambda _, detail: heard.append(detail),
    )
    assert found.study.folds == 1
    assert len(found.study.trials[0].losses) == 1
    assert "none is given up early" in heard[0]
    assert found.recipe == with_tune(RECIPE, epochs=1)


def test_a_study_is_known_by_all_that_decides_its_result(base: Base) -> None:
    rows = training_set(base, reviews(12))

    def digest(recipe: Recipe = RECIPE, data: str = "d1", start: Start | None = None) -> str:
        return study_digest(base, recipe, rows, start or Start(), data)

    assert digest(changed(RECIPE, {"adapter.method": "adalora", "adapter.rank": 9, "tune.lr": 0.1})) == digest()
    assert digest(with_tune(RECIPE, epochs=5)) == digest()
    others = {digest(data="d2"), digest(start=FACTORS), digest(with_tune(RECIPE, seed=8)), digest()}
    assert len(others) == 4


def test_methods_that_a_start_or_a_base_does_not_fit(base: Base, encoder: Base) -> None:
    assert Space(RECIPE, Start(), base).methods == ["lora", "adalora", "prefix"]
    assert Space(RECIPE, FACTORS, base).methods == ["lora", "adalora"]
    assert Space(RECIPE, Start(), encoder).methods == ["lora", "adalora"]
    assert Space(RECIPE, Start(), replace(base, prefix_shape=None)).methods == ["lora", "adalora"]
    assert start_for("adalora", FACTORS) is FACTORS
    assert start_for("prefix", FACTORS).scratch
    assert start_for("lora", PREFIX).scratch
    assert start_for("prefix", PREFIX) is PREFIX


def test_a_rank_above_the_initial_one_takes_it_along() -> None:
    recipe = Recipe.model_validate(
        RECIPE.model_dump(by_alias=True) | {"adapter": {"method": "adalora", "rank": 4, "init_rank": 6}}
    )
    assert changed(recipe, {"adapter.rank": 5}).adapter.init_rank == 6
    assert changed(recipe, {"adapter.rank": 8}).adapter.init_rank is None


def test_a_prefix_stands_before_all_blocks() -> None:
    recipe = RECIPE.model_copy(update={"adapter": RECIPE.adapter.model_copy(update={"layers": "last:1"})})
    assert changed(recipe, {"adapter.method": "prefix"}).adapter.layers == "all"
    assert changed(recipe, {"adapter.rank": 4}).adapter.layers == "last:1"


@pytest.mark.parametrize("switch", ["rslora", "dora"])
def test_a_method_without_a_switch_lets_go_of_it(base: Base, switch: str) -> None:
    recipe = Recipe.model_validate(RECIPE.model_dump(by_alias=True) | {"adapter": {switch: True}})
    assert getattr(changed(recipe, {"adapter.rank": 5}).adapter, switch)
    assert not getattr(changed(recipe, {"adapter.method": "adalora"}).adapter, switch)
    rows = training_set(base, reviews(12))
    digests = {study_digest(base, one, rows, Start(), "d1") for one in (recipe, RECIPE)}
    assert len(digests) == 2


def test_what_cannot_be_searched_is_refused(base: Base, home: Path) -> None:
    with pytest.raises(ShopfitError, match="a search of 0 trials"):
        check_search(0, 1)
    with pytest.raises(ShopfitError, match="one process, not in 2"):
        check_search(3, 2)
    with pytest.raises(DataError, match="acme has 5 examples to learn from, too few to search: 3 folds need 6"):
        search(
            Trainer(base, make_accelerator(RECIPE)),
            RECIPE,
            training_set(base, reviews(5)),
            Start(),
            2,
            merchant="acme",
            data_digest="d",
            home=home,
        )
    assert not (home / "studies").exists()
    find(base, home, 1)
    path = study_file(home)
    path.write_text("not a database, but long enough to be taken for one" * 40)
    with pytest.raises(ShopfitError, match=r"cannot be read or written: .*not a database"):
        find(base, home, 1)


def test_losses_that_are_no_numbers_are_failures(base: Base, home: Path) -> None:
    with torch.no_grad():
        base.model.get_output_embeddings().weight.fill_(torch.nan)
    said: list[str] = []
    with pytest.raises(ShopfitError, match="no trial of 1 ended with a finite loss"):
        find(base, home, 1, said=said)
    assert "failed, its training diverged" in said[-1]


def test_the_main_job_keeps_the_study_and_takes_the_winners_settings(
    tmp_path: Path, tiny_base: Path, settings: Settings
) -> None:
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "merchant.yaml").write_text("name: acme\n")
    for part, count in (("reviews", 10), ("reviews.test", 8)):
        rows = reviews(count, seed=len(part))
        lines = [json.dumps({"text": f"{part} {row.fields['text']}", "label": row.label}) for row in rows]
        (folder / f"{part}.jsonl").write_text("\n".join(dict.fromkeys(lines)) + "\n")
    document = RECIPE.model_dump(by_alias=True) | {"name": "sentiment", "base": str(tiny_base)}
    document["data"] |= {"file": "reviews.jsonl", "near_duplicate": 1.0}
    document["tune"] |= {"lr": 0.5}
    document["evaluate"] |= {"resamples": 100}
    (tmp_path / "sentiment.yaml").write_text(yaml.safe_dump(document))
    recipe = load_recipe(str(tmp_path / "sentiment.yaml"))
    with pytest.raises(ShopfitError, match="a search of -1 trials"):
        onboard(Merchant.open(folder), recipe, settings=settings, actor="test", trials=-1)
    done = onboard(Merchant.open(folder), recipe, settings=settings, actor="test", trials=3)
    assert done is not None
    bundle = Bundle.open(done.bundle.folder)
    study = Study.model_validate_json((bundle.folder / STUDY).read_text())
    assert (study.merchant, study.recipe, len(study.trials)) == ("acme", "sentiment", 3)
    snapshot = bundle.manifest.recipe_snapshot
    for key, value in study.best.values.items():
        section, _, name = key.partition(".")
        assert snapshot[section][name] == value
    assert study.winner != study.own
    assert bundle.manifest.method == study.best.values["adapter.method"]
    assert done.report.searched == study.facts()
    card = (bundle.folder / "README.md").read_text()
    assert f"adapter.method {study.best.values['adapter.method']}" in card
    assert "the best of 3 tried in 3-fold cross-validation" in card
