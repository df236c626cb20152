"""A base's profile: how an encoder reads texts, what its cosines mean, and which languages a base reads.

Read from the files of sentence-transformers (Sentence-BERT, arXiv:1908.10084) where they are there: pooling, and the
words that were written before texts in training (`prompts` of config_sentence_transformers.json). What no file of
theirs says stands in `shopfit.json`, which packaged bases and shrunk ones are written with, and which may be added to
any folder.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopfit.base.pooling import MEAN, Pooling, saved_pooling
from shopfit.errors import BaseError
from shopfit.recipe.languages import is_tag

PROMPTS, OWN = "config_sentence_transformers.json", "shopfit.json"
_AGAIN = "bring the file again"
_MOST_PROMPT = 500  # characters
_MOST_FLOOR = 0.95
_OF_PASSAGES = ("document", "passage", "corpus")  # as folders name the prompt of what is found


@dataclass(frozen=True, slots=True)
class Profile:
    """How a base reads.

    Args:
        saved_pooling: how an encoder's token states become a vector; None if no file says it.
        query: written before a text that asks, such as `query: `.
        passage: written before a text that is found.
        floor: the cosine of texts that have nothing to do with each other, 0 to 0.95; None if no file says it: then it
            is 0, or measured where there are prompts. Similarities are counted from it: (cosine - floor) / (1 - floor).
        languages: that it reads, BCP 47; empty if no file says it.
    """

    saved_pooling: Pooling | None = None
    query: str = ""
    passage: str = ""
    floor: float | None = None
    languages: tuple[str, ...] = ()

    @property
    def pooling(self) -> Pooling:
        """How token states become a vector: by the mean, unless a file says otherwise."""
        return self.saved_pooling or MEAN

    def similarity(self, cosine: Any) -> Any:
        """Cosines as similarities: 0 for texts that have nothing to do with each other, 1 for equal ones."""
        floor = self.floor or 0.0
        return (cosine - floor) / (1 - floor)


PLAIN = Profile()
"""Of a base whose files say nothing."""


def saved_profile(folder: Path, read: Callable[[str], Any]) -> Profile:
    """The profile that a base's files give.

    Args:
        folder: of the base, for messages.
        read: content of a JSON file of that folder by its name, None if there is none.

    Raises:
        BaseError: if a file says what cannot be, or what is not done here.
    """
    pooling = saved_pooling(folder, read)
    said = _object(folder / PROMPTS, read(PROMPTS))
    query, passage = _prompts(folder / PROMPTS, said)
    if (query or passage) and pooling is not None and not pooling.with_prompt:
        raise BaseError(
            f"{folder} pools without the prompts of {PROMPTS}, which is not done here (allowed: include_prompt true)",
            next_step="take another encoder, such as minilm-l6",
        )
    own = _object(folder / OWN, read(OWN))
    if unknown := sorted(set(own) - {"floor", "languages"}):
        raise BaseError(f"{folder / OWN} has {', '.join(unknown)[:200]} (allowed: floor, languages)", next_step=_AGAIN)
    floor = own.get("floor")
    if floor is not None and (
        isinstance(floor, bool) or not isinstance(floor, int | float) or not 0 <= floor <= _MOST_FLOOR
    ):
        raise BaseError(f"{folder / OWN} has the floor {floor!r:.80} (allowed: 0 to {_MOST_FLOOR})", next_step=_AGAIN)
    languages = own.get("languages", [])
    if not isinstance(languages, list) or not all(isinstance(each, str) and is_tag(each) for each in languages):
        raise BaseError(
            f"{folder / OWN} has the languages {languages!r:.80} (allowed: a list of tags such as en or zh)",
            next_step=_AGAIN,
        )
    return Profile(pooling, query, passage, floor, tuple(languages))


def write_profile(folder: Path, profile: Profile, *, languages: Sequence[str] | None = None) -> None:
    """Write the files that `saved_profile` reads.

    Args:
        folder: of the base.
        profile: of it.
        languages: that it reads, if they are others than the profile's.
    """
    own = {"floor": profile.floor, "languages": list(profile.languages if languages is None else languages)}
    files: dict[str, Any] = {OWN: {key: value for key, value in own.items() if value not in (None, [])}}
    if profile.query or profile.passage:
        prompts = {"query": profile.query, "passage": profile.passage}
        files[PROMPTS] = {"prompts": prompts, "default_prompt_name": None}
    if profile.saved_pooling is not None:
        (folder / "1_Pooling").mkdir(exist_ok=True)
        files["1_Pooling/config.json"] = {"pooling_mode": profile.pooling.mode}
    for name, said in files.items():
        (folder / name).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def _object(where: Path, said: Any) -> Mapping[str, Any]:
    if said is not None and not isinstance(said, dict):
        raise BaseError(f"{where} is no object", next_step=_AGAIN)
    return said or {}


def _prompts(where: Path, said: Mapping[str, Any]) -> tuple[str, str]:
    """What is written before a text that asks, and before one that is found."""
    prompts = _object(where, said.get("prompts"))
    wrong = [name for name, prompt in prompts.items() if not isinstance(prompt, str) or len(prompt) > _MOST_PROMPT]
    if wrong:
        raise BaseError(
            f"{where} has the prompt {wrong[0]!r:.80}: {prompts[wrong[0]]!r:.80} "
            f"(allowed: a text of at most {_MOST_PROMPT} characters)",
            next_step=_AGAIN,
        )
    usual = said.get("default_prompt_name")
    if usual is not None and usual not in prompts:
        raise BaseError(
            f"{where} has default_prompt_name {usual!r:.80} (allowed: {', '.join(prompts) or 'null'})", next_step=_AGAIN
        )
    fallback = "" if usual is None else prompts[usual]
    passage = next((prompts[name] for name in _OF_PASSAGES if name in prompts), fallback)
    return prompts.get("query", fallback), passage
