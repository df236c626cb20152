"""Shortening a prompt to the recipe's limit of tokens: which fields are cut, and how. It renders no prompt."""

from collections.abc import Callable, Collection, Mapping, Sequence

from shopfit.base.encode import CUT, PlainTokenizer
from shopfit.errors import RequestError
from shopfit.recipe.schema import Recipe

_LEAST_WORDS = 8  # words that a field keeps at least when whole words are dropped
_ROUNDS = 8  # rounds of dropping words, before fields are cut by tokens

Parts = Mapping[str, Sequence[str]]
"""What the prompt shows of each field: its text, or titles of a history, the latest last; nothing if it is blank."""


class Shortening:
    """Shortens what a prompt shows until it has at most `prompt.max_tokens` tokens.

    Args:
        recipe: has the limit.
        plain: tokenizes text.
        read: the parts -> tokens of the prompt that shows them.
    """

    def __init__(self, recipe: Recipe, plain: PlainTokenizer, read: Callable[[Parts], tuple[int, ...]]) -> None:
        self._recipe = recipe
        self._plain = plain
        self._read = read

    def shorten(self, parts: Parts, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """The tokens of the shortened prompt.

        Args:
            parts: of the prompt.
            tokens: of the prompt; more than the limit.

        Raises:
            RequestError: if the template alone is longer than the limit.
        """
        return self._by_words(parts, tokens) or self._by_tokens(parts, tokens)

    def _by_words(self, parts: Parts, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """The tokens with items or words dropped; empty if that drops too much, or is not enough."""
        limit = self._recipe.prompt.max_tokens
        for _ in range(_ROUNDS):
            name = self._longest(parts)
            fewer = _fewer(parts[name], limit, len(tokens))
            if fewer is None:
                return ()
            parts = {**parts, name: fewer}
            tokens = self._read(parts)
            if len(tokens) <= limit:
                return tokens if 2 * len(tokens) >= limit else ()
        return ()

    def _by_tokens(self, parts: Parts, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """The tokens with every field above its share of tokens cut between characters."""
        limit, spare = self._recipe.prompt.max_tokens, 0
        while len(tokens) > limit:
            sizes = {name: self._size(texts) for name, texts in parts.items() if texts}
            if all(parts[name] == [CUT.strip()] for name in sizes):
                raise RequestError(
                    f"the template of recipe {self._recipe.name} takes {len(tokens)} tokens without what its fields "
                    f"show, and prompt.max_tokens is {limit}",
                    next_step="shorten prompt.template or prompt.system, or raise prompt.max_tokens",
                )
            around = len(tokens) - sum(sizes.values())
            share = _share(sizes.values(), limit - around - spare)
            cut = {name: self._cut(parts[name], share) for name, size in sizes.items() if size > share}
            parts = {**parts, **cut}
            tokens, spare = self._read(parts), 2 * spare + 1
        return tokens

    def _cut(self, texts: Sequence[str], share: int) -> list[str]:
        """A field cut to about so many tokens: the latest of its items, or the start of its text."""
        kept = list(texts)
        sizes = [self._plain.count(f"; {text}") for text in texts] if len(texts) > 1 else [share + 1]
        while len(kept) > 1 and sum(sizes) > share:
            kept, sizes = kept[1:], sizes[1:]
        if sum(sizes) <= share:
            return kept
        return [self._plain.shortened(kept[-1], max(0, share - self._plain.count(CUT)))]

    def _size(self, texts: Sequence[str]) -> int:
        return self._plain.count("; ".join(texts))

    def _longest(self, parts: Parts) -> str:
        """The field with the most tokens."""
        shown = [name for name, texts in parts.items() if texts]
        return max(shown, key=lambda name: self._size(parts[name])) if len(shown) > 1 else shown[0]


def _share(sizes: Collection[int], room: int) -> int:
    """Tokens that each field may have so that all fit; what small fields do not need, larger ones get."""
    left = sorted(sizes)
    while left and left[0] * len(left) <= room:
        room -= left.pop(0)
    return max(0, room // len(left)) if left else max(sizes) - 1


def _fewer(texts: Sequence[str], limit: int, count: int) -> list[str] | None:
    """A field with items or words dropped in proportion to the excess; None if it has too few words."""
    if len(texts) > 1:
        return list(texts[-max(1, min(len(texts) - 1, len(texts) * limit // count)) :])
    words = texts[0].removesuffix(CUT).split()
    keep = min(len(words) - 1, len(words) * limit // count)
    return [" ".join(words[:keep]) + CUT] if keep >= _LEAST_WORDS else None
