"""What the values of a label column mean, where they are not the recipe's labels: said by a person, else guessed."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from shopfit.merchant.values import as_label
from shopfit.recipe.label_spelling import label_key
from shopfit.recipe.schema import Recipe

LEFT_OUT = ""
"""What a value means whose rows are not wanted."""

_MOST = 12  # values that a person is asked about
_LONGEST = 60  # characters of one
_STARS = ("1", "2", "3", "4", "5")
_YES = {
    "positive", "pos", "positiv", "positivo", "positif", "good", "great", "yes", "y", "true", "t", "1",
    "+1", "like", "liked", "thumbs-up", "👍", "好评", "好", "正面", "正向", "积极", "满意", "喜欢", "推荐", "是", "会",
    "对", "真", "好評", "推薦", "良い", "はい", "긍정", "좋음", "예", "хорошо", "да", "bueno", "sí", "si", "gut", "ja",
    "bon", "oui",
}  # fmt: skip
_NO = {
    "negative", "neg", "negativ", "negativo", "négatif", "bad", "poor", "no", "n", "false", "f", "0",
    "-1", "dislike", "disliked", "thumbs-down", "👎", "差评", "差", "坏", "负面", "负向", "消极", "不满意", "不喜欢",
    "不推荐", "否", "不会", "不", "假", "差評", "負面", "不推薦", "悪い", "いいえ", "부정", "나쁨", "아니요", "плохо",
    "нет", "malo", "schlecht", "nein", "mauvais", "non",
}  # fmt: skip


class LabelValue(NamedTuple):
    """A value of a label column that is none of the recipe's labels.

    Args:
        key: what its spellings share.
        value: as the file has it.
        rows: that have it.
        label: of the recipe; `LEFT_OUT` where such rows are not wanted, None where nobody said.
    """

    key: str
    value: str
    rows: int
    label: str | None


def label_values(
    values: Iterable[Any], recipe: Recipe, said: Mapping[str, str | None] | None = None
) -> tuple[LabelValue, ...]:
    """The values of a label column that are none of the recipe's labels; none if they are too many to ask about.

    Args:
        values: of the column, a row each.
        recipe: whose labels are fixed, or none are returned.
        said: by key, what a person said that a value means; the obvious is guessed for all others.
    """
    labels = recipe.prompt.labels
    if recipe.spec.kind != "label" or not labels:
        return ()
    named, found, spelled = named_labels(recipe), Counter[str](), dict[str, str]()
    for value in values:
        if (label := as_label(value)) is not None:
            key = label_key(label)
            spelled.setdefault(key, label)
            found[key] += 1
    unknown = [key for key in found if key not in named]
    if len(unknown) > _MOST or any(len(spelled[key]) > _LONGEST for key in unknown):
        return ()
    guessed = _guessed(found, labels)
    meant = {key: label for key, label in (said or {}).items() if label in (None, LEFT_OUT, *labels)}
    return tuple(
        LabelValue(key, spelled[key], found[key], meant[key] if key in meant else guessed.get(key))
        for key in sorted(unknown, key=lambda one: (-found[one], one))
    )


def are_stars(values: Iterable[Any]) -> bool:
    """Whether the values of a label column look like ratings from 1 to 5."""
    there = {label for label in map(as_label, values) if label is not None}
    return len(there) > 1 and there <= set(_STARS) and bool(there & {"4", "5"})


def named_labels(recipe: Recipe) -> dict[str, str]:
    """What the recipe calls a label, by what spellings of it share."""
    labels = {label_key(label): label for label in recipe.prompt.labels}
    truths = (("yes", "true", "1", "y"), ("no", "false", "0", "n"))
    for words in truths if all(any(word in labels for word in words[:2]) for words in truths) else ():
        [meaning, *more] = [labels[word] for word in words[:2] if word in labels]
        if not more:
            labels = dict.fromkeys(words, meaning) | labels
    return labels | {label_key(theirs): ours for theirs, ours in recipe.data.label_aliases.items()}


def _guessed(found: Collection[str], labels: Collection[str]) -> dict[str, str]:
    """By key, the label that it obviously means: of two opposites."""
    yes = [label for label in labels if label_key(label) in _YES]
    no = [label for label in labels if label_key(label) in _NO]
    if len(yes) != 1 or len(no) != 1:
        return {}
    if are_stars(found):
        return {"5": yes[0], "4": yes[0], "2": no[0], "1": no[0]}
    if set(found) & set(_STARS[1:]):  # codes, of which 1 says nothing
        return {}
    return {key: yes[0] if key in _YES else no[0] for key in found if key in _YES | _NO}
