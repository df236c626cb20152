"""Regular expressions on module names, as in PEFT's rank_pattern, matched in linear time whatever the pattern.

PEFT uses Python's `re`, which takes exponential time for some. So only a subset is supported here: names, `.`, `\\.`,
`\\d`, sets such as `[0-9]`, each repeated by `*`, `+` or `?`, flat groups such as `(0|1)`, `^` and `$`.
"""

import re
from functools import lru_cache
from itertools import islice, product

LONGEST = 500  # characters of a pattern
_MOST = 1000  # alternatives of a pattern with groups
_GROUP = re.compile(r"\((?:\?:)?([^()]*)\)")
_STRANGE = re.compile(r"\\[^.d]|\\$|\[[^\]]*[()|]|\)[*+?{]")  # other escapes, groups in sets, repeated groups
_ATOM = re.compile(r"([\w-]|\.|\\\.|\\d|\[(?:\w-\w|\w)+\])(?:([*+?])\??)?", re.ASCII)


def matches(pattern: str, module: str) -> bool:
    r"""Whether `re.match(rf"(.*\.)?({pattern})$", module)` finds anything.

    Args:
        pattern: of at most `LONGEST` characters.
        module: a name without line breaks.

    Raises:
        ValueError: if the pattern is invalid, or uses anything but what is listed above.
    """
    return any(alternative.ends(module) for alternative in _alternatives(pattern))


class _Alternative:
    """A pattern without groups, as an NFA. Bit n of a state: atom n may match next; the last bit: all have matched."""

    def __init__(self, pattern: str) -> None:
        self._anywhere = not pattern.startswith("^")
        pattern = pattern.removeprefix("^").removesuffix("$")
        self._atoms: list[re.Pattern[str]] = []
        self._again = self._skipped = at = 0
        while at < len(pattern):
            atom = _ATOM.match(pattern, at)
            if atom is None:
                raise ValueError("it uses more than names, '.', sets, flat groups, '*', '+' and '?'")
            bit, at = 1 << len(self._atoms), atom.end()
            try:
                self._atoms.append(re.compile(atom[1]))
            except re.error as error:
                raise ValueError(str(error)) from None
            self._again |= bit if atom[2] in {"*", "+"} else 0
            self._skipped |= bit if atom[2] in {"*", "?"} else 0
        self._fits: dict[str, int] = {}
        self._start = self._with_skipped(1)

    def ends(self, module: str) -> bool:
        """Whether it matches the end of a name, starting after a dot or at the beginning."""
        state = self._start
        for letter in module:
            fits = self._fits.get(letter)
            if fits is None:
                fits = sum(1 << place for place, atom in enumerate(self._atoms) if atom.fullmatch(letter))
                self._fits[letter] = fits
            hit = state & fits
            state = self._with_skipped(hit << 1 | hit & self._again)
            if letter == "." and self._anywhere:
                state |= self._start
        return bool(state >> len(self._atoms))

    def _with_skipped(self, state: int) -> int:
        while more := (state & self._skipped) << 1 & ~state:
            state |= more
        return state


@lru_cache(maxsize=1024)
def _alternatives(pattern: str) -> tuple[_Alternative, ...]:
    if len(pattern) > LONGEST:
        raise ValueError(f"it has {len(pattern)} characters (allowed: {LONGEST})")
    if _STRANGE.search(pattern):
        raise ValueError("it uses more than names, '.', sets, flat groups, '*', '+' and '?'")
    parts = _GROUP.split(pattern)  # groups are at odd indices
    choices = [part.split("|") if place % 2 else [part] for place, part in enumerate(parts)]
    texts = ["".join(choice) for choice in islice(product(*choices), _MOST + 1)]
    texts = list(dict.fromkeys(alternative for text in texts for alternative in text.split("|")))
    if len(texts) > _MOST:
        raise ValueError(f"its groups have more than {_MOST} ways to be read")
    return tuple(map(_Alternative, texts))
