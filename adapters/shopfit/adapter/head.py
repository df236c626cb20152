"""The classifier head of an adapter on an encoder: one prototype vector a label.

It is trained and saved with the adapter; a label's score is the cosine of its prototype with the vector of the text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import normalize

from shopfit.adapter.weight_files import read_tensors
from shopfit.base.scoring.dual_encoder import fill_up, text_vectors
from shopfit.errors import BundleError

_ROWS = "rows"
_WORDS = 1.0  # weight of a label's words, or of its prototype in the start, in examples
_BATCH = 32
_AGAIN = "bring the bundle again, or train it again"


@dataclass(frozen=True, slots=True)
class Head:
    """Labels and their prototypes.

    Args:
        labels: L of them.
        prototypes: (L, D), a vector for each label, of any length.
    """

    labels: tuple[str, ...]
    prototypes: Tensor

    def place(self, label: str) -> int:
        """Index of a label's prototype."""
        return self.labels.index(label)


def open_head(
    model: Any,
    pad: int,
    words: Mapping[str, Sequence[int]],
    examples: Mapping[str, Sequence[Sequence[int]]],
    start: Head | None = None,
) -> Tensor:
    """Initial prototypes: the mean direction of each label's examples and of its words (arXiv:1703.05175).

    Args:
        model: the encoder before training.
        pad: padding token id.
        words: tokens of each of L labels' words.
        examples: tokens of each label's examples; may be empty.
        start: has prototypes of length 1, used in place of a label's words where it has that label.

    Returns:
        (L, D) float32 prototypes of length 1.
    """
    device = next(model.parameters()).device
    known = {} if start is None else dict(zip(start.labels, start.prototypes, strict=True))
    texts = list(dict.fromkeys(tuple(text) for some in ([*words.values()], *examples.values()) for text in some))
    places = {text: place for place, text in enumerate(texts)}
    parts = []
    with torch.inference_mode():
        for first in range(0, len(texts), _BATCH):
            input_ids, mask = fill_up(texts[first : first + _BATCH], pad)
            parts.append(text_vectors(model, input_ids.to(device), mask.to(device)).float())
    vectors = torch.cat(parts).clone()  # (N, D); a copy, so that it may have gradients
    rows = []
    for label, tokens in words.items():
        told = known[label].to(device) if label in known else vectors[places[tuple(tokens)]]
        seen = [vectors[places[tuple(text)]] for text in examples.get(label, ())]
        rows.append(normalize(torch.stack([_WORDS * told, *seen]).sum(0), dim=-1))
    return torch.stack(rows)


def write_head(head: Head) -> bytes:
    """The prototypes as a safetensors file; the labels are in the manifest."""
    return save({_ROWS: head.prototypes.detach().float().cpu().contiguous()})


def read_head(content: bytes, labels: Sequence[str], where: str) -> Head:
    """Read what `write_head` wrote, with prototypes normalised to length 1.

    Raises:
        BundleError: if the file holds anything else.
    """
    tensors = read_tensors(content, where)
    rows = tensors.get(_ROWS)
    if rows is None or rows.dim() != 2 or len(rows) != len(labels) or len(tensors) != 1:
        shown = ", ".join(labels[:10]) + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
        raise BundleError(f"{where} holds no head for the labels {shown}", next_step=_AGAIN)
    if not torch.isfinite(rows.float().square().sum()):
        raise BundleError(f"{where} holds rows that are not finite", next_step=_AGAIN)
    return Head(tuple(labels), normalize(rows.float(), dim=-1))
