"""The classifier head of an adapter on an encoder: one prototype vector a label.

It is trained and saved with the adapter; a label's score is the cosine of its prototype with the vector of the text. Of
an adapter without a step of training it is a discriminant (`adapter.discriminant`): weights of any length, and biases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import normalize, pad

from shopfit.adapter.discriminant import WORDS, discriminant, worth_of_words
from shopfit.adapter.weight_files import read_tensors
from shopfit.base.scoring.dual_encoder import read_texts
from shopfit.base.scoring.questions import Tokens
from shopfit.errors import BundleError

_ROWS, _BIASES = "rows", "biases"
KnownTexts = dict[Tokens, Tensor]
"""Vectors (D,) that one model has made of texts."""
_AGAIN = "bring the bundle again, or train it again"


@dataclass(frozen=True, slots=True)
class Head:
    """Labels and their prototypes.

    Args:
        labels: L of them.
        prototypes: (L, D), a vector for each label, of any length.
        biases: (L,) of a discriminant; None where scores are cosines.
    """

    labels: tuple[str, ...]
    prototypes: Tensor
    biases: Tensor | None = None

    def place(self, label: str) -> int:
        """Index of a label's prototype."""
        return self.labels.index(label)

    def of(self, labels: Sequence[str]) -> "Head | None":
        """The same head for some of its labels, in their order; None if it lacks one."""
        if not set(labels) <= set(self.labels):
            return None
        places = [self.place(label) for label in labels]
        return Head(tuple(labels), self.prototypes[places], None if self.biases is None else self.biases[places])

    @property
    def classes(self) -> Tensor:
        """(L, D + 1) weights of a text's vector of length 1, and a bias: their sum is a label's score."""
        if self.biases is None:
            return pad(normalize(self.prototypes, dim=-1), (0, 1))
        return torch.cat((self.prototypes, self.biases[:, None]), dim=1)


class HeadOpening:
    """What is known of labels before training: vectors of their words and of their examples.

    Args:
        model: the encoder before training.
        padding: padding token id.
        words: tokens of each of L labels' words.
        examples: tokens of each label's examples; may be empty.
        start: a head of cosines, whose prototypes are used in place of a label's words where it has that label.
        known: vectors that this model has made of texts; those of new ones are added. None to make all of them.
    """

    def __init__(
        self,
        model: Any,
        padding: int,
        words: Mapping[str, Sequence[int]],
        examples: Mapping[str, Sequence[Sequence[int]]],
        start: Head | None = None,
        known: KnownTexts | None = None,
    ) -> None:
        device = next(model.parameters()).device
        begun = {} if start is None else dict(zip(start.labels, start.prototypes, strict=True))
        vectors = {} if known is None else known
        texts = dict.fromkeys(tuple(text) for some in ([*words.values()], *examples.values()) for text in some)
        if new := [text for text in texts if text not in vectors]:
            with torch.inference_mode():
                read = read_texts(model, new, padding)
            vectors.update(zip(new, read.clone(), strict=True))  # a copy, so that it may have gradients
        self._labels = tuple(words)
        self._words = torch.stack(
            [begun[label].to(device) if label in begun else vectors[tuple(words[label])] for label in words]
        )
        self._examples = [[vectors[tuple(text)] for text in examples.get(label, ())] for label in words]

    def prototypes(self) -> Head:
        """Prototypes of length 1: the mean direction of each label's examples and of its words (arXiv:1703.05175)."""
        rows = [
            normalize(torch.stack([WORDS * told, *seen]).sum(0), dim=-1)
            for told, seen in zip(self._words, self._examples, strict=True)
        ]
        return Head(self._labels, torch.stack(rows))

    def discriminant(self) -> Head:
        """The head in closed form, for an adapter that is not trained."""
        classes = [place for place, seen in enumerate(self._examples) for _ in seen]
        vectors = [vector for seen in self._examples for vector in seen]
        stacked = torch.stack(vectors) if vectors else self._words.new_empty(0, self._words.shape[1])
        known = stacked.cpu(), classes, self._words.cpu()
        return Head(self._labels, *discriminant(*known, worth_of_words(*known)))


def write_head(head: Head) -> bytes:
    """The prototypes as a safetensors file; the labels are in the manifest."""
    biases = {} if head.biases is None else {_BIASES: head.biases.detach().float().cpu().contiguous()}
    return save({_ROWS: head.prototypes.detach().float().cpu().contiguous()} | biases)


def read_head(content: bytes, labels: Sequence[str], where: str) -> Head:
    """Read what `write_head` wrote; prototypes whose scores are cosines are normalised to length 1.

    Raises:
        BundleError: if the file holds anything else.
    """
    tensors = read_tensors(content, where)
    rows, biases = tensors.pop(_ROWS, None), tensors.pop(_BIASES, None)
    fits = rows is not None and rows.dim() == 2 and len(rows) == len(labels) and not tensors
    if not fits or rows is None or (biases is not None and biases.shape != rows.shape[:1]):
        shown = ", ".join(labels[:10]) + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
        raise BundleError(f"{where} holds no head for the labels {shown}", next_step=_AGAIN)
    total = rows.float().square().sum() + (0 if biases is None else biases.float().square().sum())
    if not torch.isfinite(total):
        raise BundleError(f"{where} holds rows that are not finite", next_step=_AGAIN)
    if biases is None:
        return Head(tuple(labels), normalize(rows.float(), dim=-1))
    return Head(tuple(labels), rows.float(), biases.float())
