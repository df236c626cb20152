"""What a request was answered with, as rows of the log: docs/reference/events.md says what each column is."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

MOST_PLACES = 200
"""Items of one ranking that are logged, the best first."""


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """What one request was answered with.

    Args:
        merchant: whose adapter answered.
        recipe: of the adapter.
        version: that answered.
        digest: of that version.
        release: why that version: "production", "canary" or "named".
        propensity: the probability with which it was chosen.
        answer: its id.
        user: pseudonym of the merchant's user; None if none was named.
        answers: a kind of question, the prompt's fields and an answer, each.
        at: when, in UTC.
    """

    merchant: str
    recipe: str
    version: str
    digest: str
    release: str
    propensity: float
    answer: str
    user: str | None
    answers: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]]
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def day(self) -> str:
        """In ISO 8601, of UTC."""
        return self.at.date().isoformat()

    @property
    def count(self) -> int:
        """How many rows it becomes."""
        return sum(len(_places(answer)) for kind, _, answer in self.answers)

    def rows(self, *, texts: bool) -> Iterator[dict[str, Any]]:
        """A row a place, without the columns that its folder says.

        Args:
            texts: whether they hold prompts and generated texts.
        """
        same = {
            "at": self.at,
            "answer": self.answer,
            "recipe": self.recipe,
            "version": self.version,
            "digest": self.digest,
            "release": self.release,
            "propensity": self.propensity,
            "user": self.user,
        }
        for question, (kind, fields, answer) in enumerate(self.answers):
            told = {"prompt": json.dumps(fields, default=str), "text": _encodable(answer.get("text"))}
            more = told if texts else dict.fromkeys(told)
            for place, (item, score, share) in enumerate(_places(answer)):
                shown = {"item": _encodable(item), "score": score, "share": share}
                yield {**same, "question": question, "kind": kind, "place": place, **shown, **more}


def _places(answer: Mapping[str, Any]) -> list[tuple[str | None, float | None, float | None]]:
    """The item, score and share in each place of an answer, the first first; none of a vector."""
    if "items" in answer:
        return [(item["id"], item.get("score"), item.get("share")) for item in answer["items"][:MOST_PLACES]]
    if "label" in answer:
        return [(answer["label"], answer["probabilities"][answer["label"]], None)]
    return [] if "vector" in answer else [(None, answer.get("score"), None)]


def _encodable(text: str | None) -> str | None:
    """A text without lone surrogates, which UTF-8 cannot write."""
    return None if text is None else text.encode("utf-8", "replace").decode()
