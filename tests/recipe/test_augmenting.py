from typing import Any

import pytest

from shopfit.errors import RecipeError
from shopfit.recipe.augmenting import BackTranslation, Typos
from shopfit.recipe.loading import dump_recipe, load_recipe, parse_recipe

STEPS = "typos, word-dropout, catalog-swap, synonyms, back-translation, paraphrase"


def problem(*overrides: str, recipe: str = "review-sentiment") -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, overrides=overrides)
    [problem] = caught.value.problems
    return str(problem).removeprefix("--set ")


def test_steps_load_and_round_trip() -> None:
    steps = "[{step: typos, share: 0.2}, {step: back-translation, through: French, model: x/y, chance: 1}]"
    recipe = load_recipe("review-sentiment", overrides=[f"data.augment={steps}"])
    assert recipe.data.augment == [
        Typos(step="typos", share=0.2),
        BackTranslation(step="back-translation", through="French", model="x/y", chance=1),
    ]
    assert parse_recipe(dump_recipe(recipe)) == recipe
    assert load_recipe("review-sentiment").data.augment == []


@pytest.mark.parametrize(
    ("steps", "line"),
    [
        ("[{step: typo}]", f"data.augment.0.step: 'typo' is not accepted; did you mean 'typos'? (allowed: {STEPS})"),
        ("[{share: 0.1}]", f"data.augment.0.step: is missing (allowed: {STEPS})"),
        (
            "[typos]",
            f"data.augment.0: 'typos' is not accepted (allowed: keys with values below it, `step` "
            f"being one of {STEPS})",
        ),
        (
            "[{step: synonyms}, {step: typos, shar: 0.1}]",
            "data.augment.1.shar: is not a key; did you mean 'share'? (allowed: step, chance, share)",
        ),
        (
            "[{step: typos, share: 2}]",
            "data.augment.0.share: 2 is out of range (allowed: a number, above 0, at most 1)",
        ),
        (
            "[{step: paraphrase, model: x, prompt: hello}]",
            "data.augment.0.prompt: 'hello' must hold {text}, where the text to rewrite goes",
        ),
        ("[{step: typos}, {step: typos}]", "data.augment: typos is there 2 times (allowed: each step once)"),
        (
            "[{step: catalog-swap}]",
            "data.augment: catalog-swap takes items from a catalog (allowed: with data.catalog)",
        ),
    ],
)
def test_mistakes_name_the_key_and_what_is_allowed(steps: str, line: str) -> None:
    assert problem(f"data.augment={steps}") == line


@pytest.mark.parametrize("key", ["label_smoothing", "contrastive"])
def test_some_objectives_are_for_choose_only(key: str) -> None:
    load_recipe("review-sentiment", overrides=[f"tune.{key}=0.1"])
    found = problem(f"tune.{key}=0.1", recipe="product-recommendation")
    assert found == f"tune.{key}: only for task choose, not rank (allowed: 0)"


def test_a_path_says_which_step_lacks_what() -> None:
    steps: list[dict[str, Any]] = [{"step": "paraphrase"}]
    snapshot = dump_recipe(load_recipe("review-sentiment"))
    snapshot["data"]["augment"] = steps
    with pytest.raises(RecipeError, match=r"data\.augment\.0\.model: is missing \(allowed: text; who writes"):
        parse_recipe(snapshot)
