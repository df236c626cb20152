"""Log-probabilities of answers under a causal language model, each prompt computed once.

The answers of a question branch off its prompt like a tree: they sit behind it in one sequence, at the positions they
would have alone, and a mask keeps them from seeing each other (the tree attention of SpecInfer, arXiv:2305.09781).
Rows are padded on the right, and the head runs only on the positions that predict an answer token. A question with very
many answers takes several rows, each with the prompt before some of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from shopfit.base.prefix import Prefix, lay_before
from shopfit.base.scoring.questions import ClassIndex, Question, Tokens
from shopfit.base.scoring.scorer import Floats, Scorer

_HEAD_ROWS = 512  # positions a head product: bounds the memory of (rows, vocabulary) logits


@dataclass(frozen=True, slots=True)
class TreeBatch:
    """B questions with A answers and Q answer tokens in all, laid out for one forward over R rows of T positions.

    Args:
        input_ids: (R, T) tokens.
        branch: (R, T) 0 for a prompt, c > 0 for the c-th answer, -1 for padding.
        position_ids: (R, T) position of each token in its own sequence.
        branched: whether any row holds more than one line of text, so that the mask is needed.
        sources: (P,) distinct flat positions of R * T whose next token is predicted.
        source: (Q,) index into `sources` of each answer token.
        targets: (Q,) the answer tokens.
        answer: (Q,) which of the A answers each belongs to.
        lengths: (A,) tokens of each answer.
        counts: answers of each question, B numbers.
        firsts: the first row of each question, B numbers.
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
    firsts: tuple[int, ...]

    def to(self, device: torch.device | str) -> "TreeBatch":
        """The same on `device`."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
        return TreeBatch(**(values | moved))

    def forward(self, model: Any, *, prototypes: Tensor | None = None, prefix: Prefix | None = None) -> Tensor:  # noqa: ARG002 - answers are never classes here
        """(A,) float32 sum of the log-probabilities of each answer's tokens, as `answer_log_probs` has it."""
        return answer_log_probs(model, self, prefix)

    def prompt_states(self, states: Tensor) -> Tensor:
        """(B, D) the state that predicts the answer: it has seen the whole prompt and nothing more."""
        rows = torch.tensor(self.firsts, device=states.device)
        last = (self.branch == 0).sum(1) - 1  # (R,)
        return states[rows, last[rows]]


def collate(questions: Sequence[Question], pad: int) -> TreeBatch:
    """Lay questions out as a tree batch.

    Args:
        questions: B of them, with one answer each at least, none of which is a class.
        pad: token id that fills rows up.
    """
    return _lay_out([question.parts() for question in questions], pad)


def _lay_out(parts: Sequence[Sequence[Question]], pad: int) -> TreeBatch:
    """The same for questions that are in parts already, a row each."""
    rows = [row for part in parts for row in part]
    width = max(row.tokens for row in rows)
    input_ids = torch.full((len(rows), width), pad)
    branch = torch.full((len(rows), width), -1)
    position_ids = torch.zeros((len(rows), width), dtype=torch.long)
    sources: dict[int, int] = {}
    source: list[int] = []
    targets: list[int] = []
    answer: list[int] = []
    lengths: list[int] = []
    branched = False
    for row, question in enumerate(rows):
        stem = len(question.prompt)
        tokens, branches, positions = list(question.prompt), [0] * stem, list(range(stem))
        for number, ids in enumerate(question.answers, start=1):
            assert not isinstance(ids, ClassIndex), "no decoder has learned classes"
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
        branched |= len(tokens) > question.longest  # more than one answer goes on behind its first token
    return TreeBatch(
        input_ids,
        branch,
        position_ids,
        branched,
        sources=torch.tensor(list(sources)),
        source=torch.tensor(source),
        targets=torch.tensor(targets),
        answer=torch.tensor(answer),
        lengths=torch.tensor(lengths),
        counts=tuple(sum(len(row.answers) for row in part) for part in parts),
        firsts=tuple(accumulate(map(len, parts[:-1]), initial=0)),
    )


def answer_log_probs(model: Any, tree: TreeBatch, prefix: Prefix | None = None) -> Tensor:
    """Sum of the log-probabilities of each answer's tokens.

    Args:
        model: a causal language model of transformers.
        tree: B questions with A answers in all, on the model's device.
        prefix: what stands before each of its R rows, if anything does.

    Returns:
        (A,) float32, 0 or less.
    """
    options: dict[str, Any] = {"use_cache": False}
    if prefix is not None:
        options = {"past_key_values": prefix.cache, "use_cache": True}
    if tree.branched or prefix is not None:
        options["attention_mask"] = _mask(tree.branch, prefix)
        options["position_ids"] = tree.position_ids + (0 if prefix is None else prefix.lengths[:, None])
    hidden = model.base_model(input_ids=tree.input_ids, **options).last_hidden_state  # (R, T, D)
    rows = hidden.flatten(0, 1).index_select(0, tree.sources)  # (P, D)
    log_probs = _token_log_probs(model.get_output_embeddings(), rows, tree.source, tree.targets)  # (Q,)
    return torch.zeros(len(tree.lengths), device=log_probs.device).index_add(0, tree.answer, log_probs)


def _mask(branch: Tensor, prefix: Prefix | None) -> Tensor:
    """(R, 1, T, P + T): whether a position may look at another. Padding looks at itself, so no row is empty."""
    length = branch.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=branch.device).tril()
    kin = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])  # (R, T, T)
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


class CausalScorer(Scorer[Question]):
    """Scores by the mean log-probability of an answer's tokens. A row is a question with not too many answers."""

    writes_text = True
    compares_texts = False

    def collate(self, questions: Sequence[Question]) -> TreeBatch:
        """Lay B questions out as trees."""
        return collate(questions, self.pad)

    def plan(
        self,
        questions: Sequence[Question],
        *,
        prototypes: Floats | None = None,  # noqa: ARG002 - answers are never classes here
        known: Mapping[Tokens, Floats] = {},  # noqa: ARG002 - what a question gives is nobody else's
    ) -> "TreePlan":
        """The rows of B questions, as many a question as its answers take."""
        parts = [question.parts() for question in questions]
        return TreePlan([row for part in parts for row in part], [len(part) for part in parts])

    def compute(self, model: Any, rows: Sequence[Question], prefix: Prefix | None = None) -> list[Floats]:
        """Scores of the answers of each row."""
        tree = _lay_out([[row] for row in rows], self.pad).to(model.device)
        with torch.inference_mode():
            means = (answer_log_probs(model, tree, prefix) / tree.lengths).double().cpu()
        return [part.numpy() for part in torch.split(means, list(tree.counts))]

    def trials(self, model: Any, tokens: Sequence[int]) -> list[tuple[str, Tensor, Tensor]]:
        """Backbone and head against the whole model; trees, also behind a prefix, against each answer alone."""
        from transformers import DynamicCache

        head, tokens = model.get_output_embeddings(), tuple(tokens)
        before, stem, one, two = tokens[:2], tokens[2:5], tokens[5:7], tokens[7:9]
        asked, last = tokens[9:11], tokens[11:12]
        # each answer alone behind its prompt, and behind the prefix too
        lines = [(stem, one), (stem, two), (asked, last), (before + stem, one), (before + stem, two)]
        plain = torch.full((len(lines), 7), self.pad)  # what fills up comes behind
        for row, (prompt, answer) in enumerate(lines):
            plain[row, : len(prompt + answer)] = torch.tensor(prompt + answer)
        plain = plain.to(model.device)
        logits = model(input_ids=plain, use_cache=False).logits.float()  # (5, 7, V)
        over = head(model.base_model(input_ids=plain, use_cache=False).last_hidden_state).float()
        logs = logits.log_softmax(-1)
        sums = [
            sum((logs[row, len(prompt) - 1 + at, token] for at, token in enumerate(answer)), logs.new_zeros(()))
            for row, (prompt, answer) in enumerate(lines)
        ]
        cache = DynamicCache()
        model.base_model(input_ids=plain[3:4, : len(before)], past_key_values=cache, use_cache=True)
        prefix = torch.stack([torch.stack((layer.keys[0], layer.values[0])) for layer in cache.layers])
        tree = self.collate([Question(stem, (one, two)), Question(asked, (last,))]).to(model.device)
        behind = answer_log_probs(model, tree, lay_before([prefix, None], model.device))
        return [
            ("the logits of head over backbone", over, logits),
            ("log-probabilities of answers side by side", answer_log_probs(model, tree), torch.stack(sums[:3])),
            ("log-probabilities behind a prefix", behind, torch.stack([*sums[3:], sums[2]])),
        ]


@dataclass(frozen=True, slots=True)
class TreePlan:
    """Questions in rows of bounded length.

    Args:
        rows: of all questions, one after the other.
        counts: how many of them each question has.
    """

    rows: Sequence[Question]
    counts: Sequence[int]

    def scores(self, results: Sequence[Floats]) -> list[Floats]:
        """Scores of each question's answers, from those of its rows."""
        left = iter(results)
        return [np.concatenate([next(left) for _ in range(count)]) for count in self.counts]
