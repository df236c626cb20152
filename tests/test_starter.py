"""Starters: fitted from merchants that share, kept with their donors, and used by the next merchant."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from shopfit.base.embed import LateEmbedder
from shopfit.errors import BaseError, BundleError, DataError, RecipeError, UnknownReference
from shopfit.merchant.merchant import Merchant
from shopfit.onboarding import Onboarded, onboard
from shopfit.pipeline import trained_run
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry
from shopfit.settings import Settings
from shopfit.starter import Fitted, fit_starter, starters
from shopfit.tune.run_context import prepare
from shopfit.tune.trainer import make_accelerator

GOOD = ["lovely crema", "would buy again", "quick delivery"]
BAD = ["arrived cracked", "the box was wet", "broken grinder"]
MakeShop = Callable[..., Path]


def rows(count: int, name: str, part: str) -> list[dict[str, str]]:
    draw = random.Random(f"{name}/{part}")
    made = []
    for number in range(count):
        positive = number % 2 == 0
        text = f"{part} {name} {draw.randrange(10**6)}: {draw.choice(GOOD if positive else BAD)}"
        made.append({"text": text, "label": "positive" if positive else "negative"})
    return made


@pytest.fixture
def make_shop(tmp_path: Path) -> MakeShop:
    def make(name: str, *, share: bool = True, count: int = 24) -> Path:
        folder = tmp_path / "shops" / name
        folder.mkdir(parents=True)
        (folder / "merchant.yaml").write_text(f"name: {name}\nshare: {str(share).lower()}\n")
        for part, number in (("reviews", count), ("reviews.test", 20)):
            lines = "".join(json.dumps(row) + "\n" for row in rows(number, name, part))
            (folder / f"{part}.jsonl").write_text(lines)
        return folder

    return make


@pytest.fixture
def recipe(tmp_path: Path, tiny_base: Path) -> Recipe:
    document = {
        "name": "sentiment",
        "task": "choose",
        "base": str(tiny_base),
        "data": {"file": "reviews.jsonl", "near_duplicate": 1.0},
        "prompt": {"template": "Review: {text}\nSentiment:"},
        "adapter": {"rank": 4},
        "tune": {"epochs": 6, "lr": 0.01, "batch_size": 4},
        "evaluate": {"metric": "accuracy", "resamples": 100},
    }
    (tmp_path / "sentiment.yaml").write_text(yaml.safe_dump(document))
    return load_recipe(str(tmp_path / "sentiment.yaml"))


def changed(recipe: Recipe, **sections: object) -> Recipe:
    return Recipe.model_validate(recipe.model_dump(by_alias=True) | sections)


def fit(folders: list[Path], recipe: Recipe, settings: Settings) -> Fitted:
    done = fit_starter(folders, recipe, settings=settings, actor="test")
    assert done is not None
    return done


def make(folder: Path, recipe: Recipe, settings: Settings, said: list[str] | None = None) -> Onboarded:
    heard = [] if said is None else said
    done = onboard(
        Merchant.open(folder),
        recipe,
        settings=settings,
        actor="test",
        reporter=lambda what, detail: heard.append(f"{what} {detail}"),
    )
    assert done is not None
    return done


def test_a_new_merchant_starts_from_what_others_learned(
    make_shop: MakeShop, recipe: Recipe, settings: Settings
) -> None:
    done = fit([make_shop("one"), make_shop("two"), make_shop("three")], recipe, settings)
    assert done.version.name == "house/sentiment@1"
    assert done.promoted
    assert set(done.reached) == {"one", "two", "three"}
    assert all(after > before for before, after in done.reached.values())
    few = changed(recipe, data=recipe.data.model_dump() | {"shots": 10}, tune=recipe.tune.model_dump() | {"epochs": 1})
    few = changed(few, blend=False)  # ten texts like these need no adapter
    said: list[str] = []
    made = make(make_shop("newcomer", share=False), few, settings, said)
    assert made.report.start == made.bundle.manifest.start == "house/sentiment@1"
    assert made.report.start_losses["house/sentiment@1 as it is"] < made.report.start_losses["scratch"]
    assert any("start house/sentiment@1 as it is: " in line for line in said)
    assert made.bundle.manifest.steps == 0
    assert "house/sentiment@1" in (made.bundle.folder / "README.md").read_text()
    scratch = make(make_shop("other", share=False), changed(few, start="scratch"), settings)
    assert scratch.report.start == "scratch"
    assert made.report.adapter.metrics["accuracy"].value > scratch.report.adapter.metrics["accuracy"].value


def test_a_starter_without_training_is_none(make_shop: MakeShop, recipe: Recipe, settings: Settings) -> None:
    untrained = changed(recipe, tune=recipe.tune.model_dump() | {"steps": 0})
    with pytest.raises(RecipeError, match=r"tune\.steps of sentiment is 0"):
        fit([make_shop("one"), make_shop("two")], untrained, settings)


def spoken(folder: Path, language: str) -> Path:
    with (folder / "merchant.yaml").open("a") as file:
        file.write(f"language: {language}\n")
    return folder


def test_of_several_bases_of_which_one_is_not_packaged_none_is_chosen_for_the_donors(
    make_shop: MakeShop, recipe: Recipe, settings: Settings, tiny_base: Path
) -> None:
    named = changed(recipe, base="auto-language", bases={"en": "smollm2-135m", "zh": str(tiny_base)})
    mixed = [spoken(make_shop("one"), "en"), spoken(make_shop("two"), "zh")]
    with pytest.raises(RecipeError, match="smollm2-135m for one") as caught:
        fit(mixed, named, settings)
    assert "--set base=" in caught.value.next_step


def test_donors_in_languages_that_the_base_does_not_read_are_told_of(
    make_shop: MakeShop, recipe: Recipe, settings: Settings, tiny_base: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "english")
    (base / "shopfit.json").write_text(json.dumps({"languages": ["en"]}))
    folders = [spoken(make_shop(name), tag) for name, tag in (("one", "en"), ("two", "zh"), ("three", "zh"))]
    told: list[str] = []
    fit_starter(
        folders,
        changed(recipe, base=str(base), tune=recipe.tune.model_dump() | {"steps": 1}),
        settings=settings,
        actor="test",
        reporter=lambda what, detail: told.append(detail) if what == "language" else None,
    )
    [line] = told
    assert "reads en, not zh" in line


def test_a_starter_that_is_best_as_it_is_serves_at_once_and_alone(
    make_shop: MakeShop, recipe: Recipe, settings: Settings
) -> None:
    fit([make_shop("one"), make_shop("two"), make_shop("three")], recipe, settings)
    few = changed(recipe, data=recipe.data.model_dump() | {"shots": 10}, tune=recipe.tune.model_dump() | {"epochs": 1})
    newcomer, few = Merchant.open(make_shop("newcomer", share=False)), changed(few, blend=False)
    said: list[str] = []
    first: list[Onboarded] = []
    done = onboard(
        newcomer,
        few,
        settings=settings,
        actor="test",
        instant=True,
        reporter=lambda what, detail: said.append(f"{what} {detail}"),
        published=first.append,
    )
    assert first == [done]
    assert done is not None
    assert (done.version.number, done.instant, done.bundle.manifest.start) == (1, None, "house/sentiment@1")
    assert any(
        "house/sentiment@1 is best as it is: no training makes the instant version better" in one for one in said
    )
    accelerator = make_accelerator(few)
    context = prepare(newcomer, few, settings=settings, accelerator=accelerator)
    with Registry.open(settings) as registry:
        for instant, made in (("house/sentiment@1", False), ("scratch", True)):  # another start is another version
            with trained_run(
                context,
                registry,
                settings=settings,
                embed=LateEmbedder(settings.home),
                instant=instant,
            ) as found:
                assert (found is not None) is made


def test_a_starter_that_few_test_rows_speak_for_is_a_candidate(
    make_shop: MakeShop, recipe: Recipe, settings: Settings
) -> None:
    folders = [make_shop("one"), make_shop("two")]
    for folder in folders:
        lines = (folder / "reviews.test.jsonl").read_text().splitlines(keepends=True)
        (folder / "reviews.test.jsonl").write_text("".join(lines[:2]))
    done = fit(folders, recipe, settings)
    assert all(after >= before for before, after in done.reached.values())
    assert (done.promoted, done.candidate) == (False, True)
    assert (done.version.status, done.version.aliases) == ("ready", ("candidate",))
    made = make(make_shop("newcomer", share=False), changed(recipe, blend=False), settings)
    assert made.report.start_losses == {}  # nobody starts from it until it is promoted


@pytest.mark.proof
def test_a_starter_that_never_saw_a_shops_labels_is_trained_further_or_not_taken(
    make_shop: MakeShop, recipe: Recipe, settings: Settings
) -> None:
    fit([make_shop("one"), make_shop("two")], recipe, settings)
    shop = make_shop("newcomer", share=False)
    for file in shop.glob("*.jsonl"):
        file.write_text(file.read_text().replace('"positive"', '"praise"').replace('"negative"', '"complaint"'))
    few = changed(recipe, data=recipe.data.model_dump() | {"shots": 10}, blend=False)
    made = make(shop, few, settings)
    assert set(made.report.start_losses) == {"scratch", "house/sentiment@1"}
    assert made.bundle.manifest.steps > 0


@pytest.mark.proof
def test_the_donors_are_known_when_one_leaves(make_shop: MakeShop, recipe: Recipe, settings: Settings) -> None:
    fit([make_shop("one"), make_shop("two")], recipe, settings)
    fit([make_shop("three"), make_shop("four")], recipe, settings)
    with Registry.open(settings) as registry:
        assert [version.name for version, _ in starters(registry, donor="one")] == ["house/sentiment@1"]
        assert [version.name for version, _ in starters(registry)] == ["house/sentiment@1", "house/sentiment@2"]
        assert starters(registry, donor="on") == []
        manifest = registry.manifest(registry.resolve("house/sentiment@2"))
        assert manifest.donors == ["three", "four"]
        assert manifest.languages == ["en"]
        assert all(row.split("/")[0] in {"three", "four"} for row in manifest.data.train)


@pytest.mark.proof
def test_a_donor_does_not_start_from_the_starter_it_is_in(
    make_shop: MakeShop, recipe: Recipe, settings: Settings
) -> None:
    folders = [make_shop("one"), make_shop("two")]
    fit(folders, recipe, settings)
    made = make(folders[0], recipe, settings)
    assert made.report.start == "scratch"
    assert made.report.start_losses == {}


@pytest.mark.proof
def test_only_merchants_that_share_become_donors_of_others(
    make_shop: MakeShop, recipe: Recipe, settings: Settings
) -> None:
    make(make_shop("open"), recipe, settings)
    make(make_shop("closed", share=False), recipe, settings)
    made = make(make_shop("newcomer"), recipe, settings)
    assert set(made.report.start_losses) == {"scratch", "open/sentiment@1"}
    with Registry.open(settings) as registry:
        closed = registry.manifest(registry.resolve("closed/sentiment"))
        shared = registry.manifest(registry.resolve("open/sentiment"))
    assert not closed.share
    assert closed.vector == []
    assert len(shared.vector) == 384
    assert shared.encoder == LateEmbedder(settings.home).fingerprint


def test_what_cannot_donate_is_refused_all_at_once(make_shop: MakeShop, recipe: Recipe, settings: Settings) -> None:
    good, private, broken = make_shop("good"), make_shop("private", share=False), make_shop("broken")
    (broken / "reviews.jsonl").write_text('{"text": "x", "label": "positive"}\nnot json\n')
    with pytest.raises(DataError) as caught:
        fit([good, private, broken, good, good.parent / "nowhere"], recipe, settings)
    message = str(caught.value)
    for part in ("private does not share", "reviews.jsonl:2", "good is named twice", "nowhere"):
        assert part in message
    with pytest.raises(DataError, match="at least two"):
        fit([good], recipe, settings)
    with Registry.open(settings) as registry:
        assert registry.versions() == []


def test_no_merchant_is_called_house(make_shop: MakeShop, recipe: Recipe, settings: Settings) -> None:
    with pytest.raises(DataError, match="starters are kept"):
        make(make_shop("house"), recipe, settings)


@pytest.mark.proof
def test_a_named_start_must_be_there_and_fit(
    make_shop: MakeShop, recipe: Recipe, settings: Settings, other_base: Path
) -> None:
    with pytest.raises(UnknownReference):
        make(make_shop("acme"), changed(recipe, start="house/sentiment@7"), settings)
    fit([make_shop("one"), make_shop("two")], recipe, settings)
    named = changed(recipe, start="house/sentiment@1", tune=recipe.tune.model_dump() | {"epochs": 1})
    assert make(make_shop("beta"), named, settings).report.start == "house/sentiment@1"
    with pytest.raises(RecipeError, match="cannot start one of prefix"):
        make(make_shop("gamma"), changed(named, adapter={"method": "prefix"}), settings)
    with pytest.raises(BaseError, match="trained on"):
        make(make_shop("delta"), changed(named, base=str(other_base)), settings)
    other = make(make_shop("omega"), changed(recipe, base=str(other_base)), settings)
    assert other.report.start == "scratch"  # auto passes over what does not fit


@pytest.mark.proof
@pytest.mark.parametrize("method", ["adalora", "prefix"])
def test_every_method_has_starters(make_shop: MakeShop, recipe: Recipe, settings: Settings, method: str) -> None:
    lr = {"adalora": 0.02, "prefix": 0.05}[method]
    mine = changed(
        recipe, adapter={"method": method, "rank": 4}, tune=recipe.tune.model_dump() | {"lr": lr, "epochs": 10}
    )
    fit([make_shop("one"), make_shop("two")], mine, settings)
    with Registry.open(settings) as registry:  # how well it does is not asked here
        registry.promote("house/sentiment@1", actor="test", force=True)
    made = make(make_shop("newcomer", share=False, count=10), mine, settings)
    assert "house/sentiment@1" in made.report.start_losses


@pytest.mark.proof
def test_dora_starts_from_what_others_learned_and_nothing_starts_from_dora(
    make_shop: MakeShop, recipe: Recipe, settings: Settings
) -> None:
    folders = [make_shop("one"), make_shop("two")]
    dora = changed(recipe, adapter={"rank": 4, "dora": True}, blend=False)
    with pytest.raises(RecipeError, match=r"(?s)adapter\.dora: .*--set adapter\.dora=false"):
        fit(folders, dora, settings)
    fit(folders, recipe, settings)
    few = changed(dora, data=recipe.data.model_dump() | {"shots": 10}, tune=recipe.tune.model_dump() | {"epochs": 1})
    said: list[str] = []
    made = make(make_shop("newcomer"), few, settings, said)
    assert made.bundle.lora is None
    assert made.bundle.manifest.start == "house/sentiment@1"
    assert any("adapter lora, rank 4 on all-linear, DoRA; " in line and "vLLM" in line for line in said)
    with Registry.open(settings) as registry:
        registry.promote("newcomer/sentiment@1", actor="test", force=True)
    other = make(make_shop("other"), changed(recipe, blend=False), settings)
    assert all("newcomer" not in name for name in other.report.start_losses)
    with pytest.raises(BundleError, match="newcomer/sentiment@1 is DoRA"):
        make(make_shop("third"), changed(recipe, start="newcomer/sentiment@1"), settings)
