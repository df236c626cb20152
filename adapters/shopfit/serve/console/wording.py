"""The catalog of messages: every text of the console, in English and Chinese, side by side in `messages/`."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

LANGUAGES = {"en": "English", "zh": "中文"}
"""Those that the console speaks, each in its own words."""


@cache
def catalog() -> dict[str, dict[str, str]]:
    """Every message: by its key, its text in each language."""
    folder = files(__package__) / "messages"
    found: dict[str, dict[str, str]] = {}
    for file in sorted(one.name for one in folder.iterdir() if one.name.endswith(".json")):
        group = file.removesuffix(".json")
        texts = json.loads((folder / file).read_text(encoding="utf-8"))
        found |= {f"{group}.{key}": text for key, text in texts.items()}
    return found


class Wording:
    """Says messages in one language.

    Args:
        language: one of `LANGUAGES`.
    """

    def __init__(self, language: str) -> None:
        self.language = language

    def __call__(self, key: str, **values: Any) -> str:
        """A message with its values in it.

        Raises:
            KeyError: if there is no such message, or it wants another value.
        """
        return catalog()[key][self.language].format(**values)

    def stage(self, name: str) -> str:
        """The name of a stage of a run, as pages say it; of one that they do not know, as it is."""
        text = catalog().get(f"stage.{name}")
        return name if text is None else text[self.language]


def language_of(chosen: str, accepted: str) -> str:
    """The language of a page.

    Args:
        chosen: by the reader; empty if none was.
        accepted: the header Accept-Language.
    """
    if chosen in LANGUAGES:
        return chosen
    wanted = [part.partition(";")[0].strip().lower().partition("-")[0] for part in accepted.split(",")]
    return next((one for one in wanted if one in LANGUAGES), "en")
