"""Log-probabilities of answers under a causal language model, each prompt computed once.

The answers of a question branch off its prompt like a tree: they sit behind it in one sequence, at the positions they
would have alone, and a mask keeps them from seeing each other (the tree attention of SpecInfer, arXiv:2305.09781).
Rows are padded on the right, and the head runs only on the positions that predict an answer token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from shopfit.base.prefix import Prefix
from shopfit.base.prompt import Question

_HEAD_ROWS = 512  # positions a head product: bounds the memory of (rows, vocabulary) logits


@dataclass(frozen=True, slots=True)
class Tree:
    """B questions with A answers and Q answer tokens in all, laid out for one forward of T positions.

    Args:
        input_ids: (B, T) tokens.
        branch: (B, T) 0 for a prompt, c > 0 for the c-th answer, -1 for padding.
        position_ids: (B, T) position of each token in its own sequence.
        branched: whether any row holds more than one line of text, so that the mask is needed.
        sources: (P,) distinct flat positions of B * T whose next token is predicted.
        source: (Q,) index into `sources` of each answer token.
        targets: (Q,) the answer tokens.
        answer: (Q,) which of the A answers each belongs to.
        lengths: (A,) tokens of each answer.
        counts: answers of each question, B numbers.
    """

    input_ids: Tensor
    branch: Tensor
    position_ids: Tensor
    branched: bool
    sources: Tensor
    source: Tensor
    targets: Tensor
    answer: Tensor
    lengths: Tensor
    counts: tuple[int, ...]

    def to(self, device: torch.device | str) -> "Tree":
        """The same on `device`."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
        return Tree(**(values | moved))


def plant(questions: Sequence[Question], pad: int) -> Tree:
    """Lay questions out as a tree batch.

    Args:
        questions: B of them.
        pad: token id that fills rows up.
    """
    width = max(question.tokens for question in questions)
    input_ids = torch.full((len(questions), width), pad)
    branch = torch.full((len(questions), width), -1)
    position_ids = torch.zeros((len(questions), width), dtype=torch.long)
    sources: dict[int, int] = {}
    source: list[int] = []
    targets: list[int] = []
    answer: list[int] = []
    lengths: list[int] = []
    branched = False
    for row, question in enumerate(questions):
        stem = len(question.prompt)
        tokens, branches, positions = list(question.prompt), [0] * stem, list(range(stem))
        for number, ids in enumerate(question.answers, start=1):
            # the first answer token is predicted by the prompt's last position, the others by the answer itself
            places = [stem - 1, *range(len(tokens), len(tokens) + len(ids) - 1)]
            source += [sources.setdefault(row * width + place, len(sources)) for place in places]
            targets += ids
            answer += [len(lengths)] * len(ids)
            lengths.append(len(ids))
            tokens += ids[:-1]
            branches += [number] * (len(ids) - 1)
            positions += range(stem, stem + len(ids) - 1)
        input_ids[row, : len(tokens)] = torch.tensor(tokens)
        branch[row, : len(tokens)] = torch.tensor(branches)
        position_ids[row, : len(tokens)] = torch.tensor(positions)
        branched |= sum(len(ids) > 1 for ids in question.answers) > 1
    return Tree(
        input_ids,
        branch,
        position_ids,
        branched,
        sources=torch.tensor(list(sources)),
        source=torch.tensor(source),
        targets=torch.tensor(targets),
        answer=torch.tensor(answer),
        lengths=torch.tensor(lengths),
        counts=tuple(len(question.answers) for question in questions),
    )


def answer_log_probs(model: Any, tree: Tree, prefix: Prefix | None = None) -> Tensor:
    """Sum of the log-probabilities of each answer's tokens.

    Args:
        model: a causal language model of transformers.
        tree: B questions with A answers in all, on the model's device.
        prefix: what stands before each of the B rows, if anything does.

    Returns:
        (A,) float32, 0 or less.
    """
    options: dict[str, Any] = {"use_cache": False}
    if prefix is not None:
        options = {"past_key_values": prefix.cache, "use_cache": True}
    if tree.branched or prefix is not None:
        options["attention_mask"] = _mask(tree.branch, prefix)
        options["position_ids"] = tree.position_ids + (0 if prefix is None else prefix.lengths[:, None])
    hidden = model.base_model(input_ids=tree.input_ids, **options).last_hidden_state  # (B, T, D)
    rows = hidden.flatten(0, 1).index_select(0, tree.sources)  # (P, D)
    log_probs = _token_log_probs(model.get_output_embeddings(), rows, tree.source, tree.targets)  # (Q,)
    return torch.zeros(len(tree.lengths), device=log_probs.device).index_add(0, tree.answer, log_probs)


def _mask(branch: Tensor, prefix: Prefix | None) -> Tensor:
    """(B, 1, T, P + T): whether a position may look at another. Padding looks at itself, so no row is empty."""
    length = branch.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=branch.device).tril()
    kin = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])  # (B, T, T)
    mask = causal & kin
    return (mask if prefix is None else prefix.before(mask))[:, None]


def _token_log_probs(head: Callable[[Tensor], Tensor], rows: Tensor, source: Tensor, targets: Tensor) -> Tensor:
    """(Q,) log-probability of each target after its source row. One (rows, vocabulary) block is alive at a time."""

    def block(rows: Tensor, index: Tensor, targets: Tensor) -> Tensor:
        logits = head(rows).float()  # (chunk, V)
        return logits[index, targets] - logits.logsumexp(-1)[index]

    if len(rows) <= _HEAD_ROWS:
        return block(rows, source, targets)
    parts, order = [], []
    for start in range(0, len(rows), _HEAD_ROWS):
        inside = ((source >= start) & (source < start + _HEAD_ROWS)).nonzero().squeeze(1)
        arguments = rows[start : start + _HEAD_ROWS], source[inside] - start, targets[inside]
        parts.append(
            checkpoint(block, *arguments, use_reentrant=False) if torch.is_grad_enabled() else block(*arguments)
        )
        order.append(inside)
    return torch.cat(parts)[torch.cat(order).argsort()]
