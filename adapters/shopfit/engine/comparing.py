"""How an encoder's answer comes about: which texts need vectors, and what scores the vectors make.

An item's vector under an adapter is the same for every request, so it is computed once and kept with the adapter: it
goes when the adapter goes, and no other adapter sees it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shopfit.adapter.head import Head
from shopfit.base.prompt import Prompter, Question
from shopfit.engine.answering import Floats, nearest
from shopfit.engine.memory import Loaded, Tokens
from shopfit.merchant.examples import Fields


@dataclass(frozen=True, slots=True)
class Comparison:
    """One question and its answers, as far as their vectors are known.

    Args:
        asked: a vector (D,) for each text that asks, or the tokens that it is to be made of.
        answers: the same for each answer.
        loaded: the adapter, which keeps vectors of texts that come again.
        own: how many of the texts that ask, the first ones, are the request's own and will not come again.
    """

    asked: Sequence[Floats | Tokens]
    answers: Sequence[Floats | Tokens]
    loaded: Loaded
    own: int = 1

    @property
    def questions(self) -> list[Question]:
        """The texts that need vectors, the request's own first."""
        return [Question(text, ()) for text in self._texts()]

    def _texts(self) -> list[Tokens]:
        return list(dict.fromkeys(text for text in (*self.asked, *self.answers) if isinstance(text, tuple)))

    def scores(self, vectors: Sequence[Floats]) -> list[Floats]:
        """Scores of the answers, (A,), as those of one question.

        Args:
            vectors: (D,) each, of `questions`.
        """
        found = dict(zip(self._texts(), vectors, strict=True))
        asked, answers = (
            np.stack([found[text] if isinstance(text, tuple) else text for text in texts])
            for texts in (self.asked, self.answers)
        )
        return [nearest(asked, answers)]


def compare_labels(prompter: Prompter, labels: Sequence[str], fields: Fields, loaded: Loaded) -> Comparison:
    """With each label: with its row of the adapter's head, or with its words."""
    head = None if loaded.weights is None else loaded.weights.head
    rows = {} if head is None else _rows(head)
    answers = [rows[label] if label in rows else _known(loaded, prompter.label(label)) for label in labels]
    return Comparison([prompter.encode(fields)], answers, loaded)


def compare_items(prompter: Prompter, items: Sequence[str], fields: Fields, loaded: Loaded) -> Comparison:
    """With each item's text. A history that asks by its items asks by texts that come again."""
    answers = [_known(loaded, prompter.item(item)) for item in items]
    asking = prompter.asking(fields)
    if prompter.asks_by_items(fields):
        return Comparison([_known(loaded, text) for text in asking], answers, loaded, own=0)
    return Comparison(asking, answers, loaded)


def _rows(head: Head) -> dict[str, Floats]:
    return dict(zip(head.labels, head.rows.double().numpy(), strict=True))


def _known(loaded: Loaded, text: Tokens) -> Floats | Tokens:
    vector = loaded.vectors.get(text)
    return text if vector is None else vector
