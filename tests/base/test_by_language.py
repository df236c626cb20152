"""Which packaged base a merchant's language gets."""

import pytest

from shopfit.base.by_language import cannot_read, encoder_of, packaged_for, settled, short_name
from shopfit.errors import RecipeError
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.shipped import shipped_recipes

E5, MINILM, SMOLLM = "e5-small-multilingual", "minilm-l6", "smollm2-135m"


@pytest.mark.parametrize(
    ("tag", "encoder"), [("en", MINILM), ("en-GB", MINILM), ("zh", E5), ("zh-Hant-TW", E5), ("de", E5), ("kl", E5)]
)
def test_the_smallest_encoder_that_reads_a_language(tag: str, encoder: str) -> None:
    assert packaged_for("encoder", tag) == encoder
    recipe = settled(load_recipe("product-recommendation"), tag)
    assert (recipe.base, recipe.serve.encoder, encoder_of(recipe)) == (encoder, encoder, encoder)


def test_a_recipe_may_name_bases_by_language() -> None:
    named = load_recipe("support-intent", overrides=("bases={zh: ./mine, en: smollm2-135m}",))
    assert settled(named, "cmn").base == "./mine"
    assert settled(named, "en-US").base == SMOLLM
    assert settled(named, "de").base == E5


def test_what_is_named_stays() -> None:
    recipe = load_recipe("support-intent", overrides=("base=minilm-l6", "serve.encoder=./mine"))
    assert (settled(recipe, "zh").base, settled(recipe, "zh").serve.encoder) == (MINILM, "./mine")
    twice = settled(settled(load_recipe("support-intent"), "zh"), "en")
    assert (twice.base, twice.serve.encoder) == (E5, E5)


def test_what_is_written_needs_a_decoder() -> None:
    recipe = load_recipe("user-profile", overrides=("base=auto-language",))
    assert settled(recipe, "zh").base == SMOLLM
    assert "reads en, not zh" in cannot_read(SMOLLM, ("en",), "zh")
    assert cannot_read(SMOLLM, ("en",), "en-GB") == ""
    assert cannot_read("./mine", (), "zh") == ""
    assert cannot_read("./mine", ("zh-Hant",), "zh-Hant") == cannot_read("./mine", ("deu",), "de-AT") == ""


def test_every_shipped_recipe_settles() -> None:
    for entry in shipped_recipes():
        for tag in ("en", "zh", "ar"):
            recipe = settled(load_recipe(entry.path), tag)
            assert recipe.base in {E5, MINILM, SMOLLM}
            assert not recipe.bases


def test_bases_of_no_language() -> None:
    with pytest.raises(RecipeError, match="bases: 'zz' is no language"):
        load_recipe("support-intent", overrides=("bases={zz: minilm-l6}",))


def test_a_base_that_is_named_takes_the_place_of_those_by_language() -> None:
    recipe = load_recipe("review-sentiment", overrides=("base=minilm-l6",))
    assert (settled(recipe, "en").base, settled(recipe, "zh").base) == (MINILM, MINILM)


def test_short_names() -> None:
    assert [short_name(name) for name in (MINILM, E5, "./mine")] == ["minilm", "e5", "encoder"]
