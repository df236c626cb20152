"""A base's profile: prompts, the floor of its cosines and its languages, by its own files wherever texts are read."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.engine.conftest import recipe_of

from shopfit.base.checkpoint import Checkpoint
from shopfit.base.description import describe
from shopfit.base.embed import Embedder, LateEmbedder
from shopfit.base.fingerprint import fingerprint
from shopfit.base.load import Base, load_base
from shopfit.base.profile import Profile, write_profile
from shopfit.base.prompt import Prompter
from shopfit.base.scoring.dual_encoder import reading_of
from shopfit.base.scoring.questions import Question
from shopfit.errors import BaseError
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.search import CatalogIndex

E5 = {"query": "query: ", "passage": "passage: "}


@pytest.fixture
def folder(tiny_encoder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_encoder, tmp_path / "prompted"))


def write(folder: Path, name: str, said: Any) -> None:
    (folder / name).write_text(json.dumps(said))


def loaded(folder: Path, home: Path, **profile: Any) -> Base:
    write_profile(folder, Profile(**{"query": "query: ", "passage": "passage: ", "floor": 0.5, **profile}))
    return load_base(str(folder), home)


def test_what_is_written_is_read(folder: Path) -> None:
    profile = Profile(query="query: ", passage="passage: ", floor=0.75, languages=("zh", "en"))
    write_profile(folder, profile)
    assert Checkpoint.open(folder).profile == profile


@pytest.mark.parametrize(
    ("prompts", "default", "wanted"),
    [
        ({"query": "q: ", "document": "d: "}, None, ("q: ", "d: ")),
        ({"query": "q: ", "passage": "p: "}, None, ("q: ", "p: ")),
        ({"query": "q: ", "corpus": ""}, None, ("q: ", "")),
        ({"always": "a: "}, "always", ("a: ", "a: ")),
        ({"clustering": "c: "}, None, ("", "")),
        ({}, None, ("", "")),
    ],
)
def test_prompts_as_sentence_transformers_names_them(
    folder: Path, prompts: dict[str, str], default: str | None, wanted: tuple[str, str]
) -> None:
    write(folder, "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": default})
    profile = Checkpoint.open(folder).profile
    assert (profile.query, profile.passage) == wanted


@pytest.mark.parametrize(
    ("name", "said", "problem"),
    [
        ("config_sentence_transformers.json", [], "is no object"),
        ("config_sentence_transformers.json", {"prompts": ["query: "]}, "is no object"),
        ("config_sentence_transformers.json", {"prompts": {"query": 3}}, "has the prompt 'query': 3"),
        ("config_sentence_transformers.json", {"prompts": {"query": "x" * 501}}, "at most 500 characters"),
        ("config_sentence_transformers.json", {"prompts": E5, "default_prompt_name": "x"}, "allowed: query, passage"),
        ("shopfit.json", {"floor": 1.5}, "has the floor 1.5"),
        ("shopfit.json", {"floor": True}, "has the floor True"),
        ("shopfit.json", {"languages": ["zz"]}, "has the languages"),
        ("shopfit.json", {"flor": 0.5}, "has flor"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, name: str, said: Any, problem: str) -> None:
    write(folder, name, said)
    with pytest.raises(BaseError, match=problem):
        Checkpoint.open(folder)


def test_a_pooling_without_the_prompt_is_refused(folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    write(folder, "1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "include_prompt": False})
    Checkpoint.open(folder)
    write(folder, "config_sentence_transformers.json", {"prompts": E5})
    with pytest.raises(BaseError, match="pools without the prompts"):
        Checkpoint.open(folder)


def test_the_fingerprint_tells_what_vectors_depend_on(folder: Path) -> None:
    found = [fingerprint(folder)]
    for change in ({}, {"query": "ask: "}, {"floor": 0.6}):
        write_profile(folder, Profile(**{"query": "query: ", "passage": "passage: ", "floor": 0.5, **change}))
        found.append(fingerprint(folder))
    assert len(set(found)) == 4
    write_profile(folder, Profile(query="query: ", passage="passage: ", floor=0.6, languages=("zh",)))
    assert fingerprint(folder) == found[3]  # the same vectors


def test_a_question_and_an_item_stand_behind_their_prompts(folder: Path, home: Path) -> None:
    base = loaded(folder, home)
    items = Catalog({"a": Item("a", "red tent", {"id": "a", "title": "red tent", "brand": "Nordvik"})})
    prompter = Prompter(recipe_of(base, "rank"), base.tokenizer, items, scorer=base.scorer)

    def read(text: str) -> tuple[int, ...]:
        return prompter.plain.encode(text)

    assert prompter.encode({"query": "tent"}) == read("query: tent")
    assert prompter.item("a") == read("passage: red tent Nordvik")
    assert prompter.asking({"history": ["a"]}) == (read("query: red tent Nordvik"),)
    chooser = Prompter(recipe_of(base, "choose"), base.tokenizer, scorer=base.scorer)
    assert chooser.label("positive") == read("query: positive")


def test_a_prompt_is_never_cut(folder: Path, home: Path) -> None:
    base = loaded(folder, home)
    prompter = Prompter(recipe_of(base, "rank"), base.tokenizer, scorer=base.scorer)
    before = prompter.plain.encode("query: ", special=False)
    tokens = prompter.encode({"query": "warm bag " * 900})
    assert len(tokens) <= prompter.recipe.prompt.max_tokens
    assert tokens[: len(before) - 1] == before[:-1]


def test_an_embedder_asks_and_finds_behind_the_prompts(folder: Path, home: Path) -> None:
    prompted = Embedder(loaded(folder, home))
    plain = Embedder(load_base(str(_without_profile(folder)), home))
    assert np.allclose(prompted(["tent"]), plain(["query: tent"]), atol=1e-6)
    assert np.allclose(prompted.items(["tent"]), plain(["passage: tent"]), atol=1e-6)
    assert np.allclose(prompted.items_once(["tent"]), plain(["passage: tent"]), atol=1e-6)
    late = LateEmbedder(home, str(folder))
    assert np.array_equal(late.items(["tent"]), prompted.items(["tent"]))


def _without_profile(folder: Path) -> Path:
    other = folder.with_name("plain")
    shutil.copytree(folder, other)
    for name in ("config_sentence_transformers.json", "shopfit.json"):
        (other / name).unlink()
    return other


def test_similarities_are_counted_from_the_floor(folder: Path, home: Path) -> None:
    base = loaded(folder, home, floor=0.5)
    one, other = (5, 6, 7), (20, 21)
    plain = load_base(str(_without_profile(folder)), home)
    floor = reading_of(plain.model).profile.floor or 0.0
    (score,) = _scores(base, one, other)
    (cosine,) = (_scores(plain, one, other) * (1 - floor) + 4 * floor) / 4
    assert score == pytest.approx(4 * (cosine - 0.5) / 0.5, abs=1e-5)
    batch = base.scorer.collate([Question(one, (other,))])
    with torch.inference_mode():
        assert batch.forward(base.model).item() == pytest.approx(score, abs=1e-5)


def _scores(base: Base, prompt: tuple[int, ...], answer: tuple[int, ...]) -> Any:
    plan = base.scorer.plan([Question(prompt, (answer,))])
    return plan.scores(base.scorer.compute(base.model, plan.rows))[0]


def test_search_passes_over_what_has_nothing_to_do_with_it(folder: Path, home: Path) -> None:
    embed = Embedder(loaded(folder, home, floor=0.5))
    items = Catalog.of_titles(iter(["red tent", "steel mug"]))
    index = CatalogIndex(items, embed)
    scores = index.scores("tent", [], list(items), {"minilm"}.__contains__)["minilm"]
    wanted = (embed.items(["red tent", "steel mug"]) @ embed(["tent"]).T)[:, 0]
    assert np.allclose(scores, (wanted - 0.5) / 0.5, atol=1e-6)


def test_a_floor_is_measured_where_files_name_prompts_and_no_floor(folder: Path, home: Path) -> None:
    assert reading_of(load_base(str(folder), home).model).profile.similarity(0.3) == 0.3
    write(folder, "config_sentence_transformers.json", {"prompts": E5})
    floor = reading_of(load_base(str(folder), home).model).profile.floor
    assert floor is not None
    assert floor == 0.0 or 0.3 <= floor <= 0.9
    assert round(floor * 20) == pytest.approx(floor * 20)


def test_what_is_known_of_it_is_shown(folder: Path) -> None:
    write_profile(folder, Profile(query="query: ", passage="passage: ", floor=0.5, languages=("zh", "en")))
    known = describe(str(folder), Checkpoint.open(folder))
    assert (known.prompts, known.languages) == (("query: ", "passage: "), ("zh", "en"))


def test_an_embedder_of_another_encoder_is_there_at_once_and_once(folder: Path, home: Path) -> None:
    """Whoever is loading or embedding holds nobody up who asks for another encoder."""
    late = LateEmbedder(home, str(folder))
    with late._lock:
        other = late.called("minilm-l6")
    assert late.called("minilm-l6") is other
    assert other.called(str(folder)) is late
    anew = late.anew()
    assert anew.called("minilm-l6") is not other
    assert anew.called("minilm-l6") is anew.called("minilm-l6")


@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_a_floor_of_zero_is_said_too(folder: Path, floor: float) -> None:
    write_profile(folder, Profile(query="query: ", floor=floor))
    assert Checkpoint.open(folder).profile.floor == floor
