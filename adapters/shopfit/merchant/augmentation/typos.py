"""Typing errors."""

from random import Random

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _neighbours() -> dict[str, str]:
    """The keys beside, above and below each letter of a QWERTY keyboard, whose rows are half a key apart."""
    spots = {
        letter: (place + row / 2, row) for row, letters in enumerate(_ROWS) for place, letter in enumerate(letters)
    }
    return {
        letter: "".join(
            other
            for other, (there, line) in spots.items()
            if other != letter and abs(there - at) <= 1 and abs(line - row) <= 1
        )
        for letter, (at, row) in spots.items()
    }


_NEAR = _neighbours()


def misspell(word: str, draw: Random) -> str | None:
    """A word with one typo: a neighbouring key, two letters swapped, a letter dropped or doubled. None if too short."""
    if len(word) < 2:
        return None
    at = draw.randrange(len(word) - 1)
    one, two = word[at], word[at + 1]
    match draw.choice(("neighbour", "swap", "drop", "double")):
        case "neighbour" if near := _NEAR.get(one.lower()):
            other = draw.choice(near)
            return word[:at] + (other.upper() if one.isupper() else other) + word[at + 1 :]
        case "swap" if one != two:
            return word[:at] + two + one + word[at + 2 :]
        case "drop":
            return word[: at + 1] + word[at + 2 :]
        case _:
            return word[: at + 1] + one + word[at + 1 :]
