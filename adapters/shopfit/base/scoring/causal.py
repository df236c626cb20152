"""Log-probabilities of answers under a causal language model, with one pass over each prompt.

The answers of a question follow its prompt in one sequence, with the position ids they would have alone, and a mask
keeps them from attending to each other (tree attention, SpecInfer, arXiv:2305.09781). Rows are padded on the right, and
the output head runs only on positions that predict an answer token. A question with very many answers takes several
rows, each with the prompt and some of the answers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from shopfit.base.prefix import Prefix, lay_before
from shopfit.base.scoring.questions import ClassIndex, Question, Tokens
from shopfit.base.scoring.scorer import Floats, Plan, QuestionBatch, Scorer

_HEAD_ROWS = 512  # positions that the head is applied to at once: bounds the memory of logits


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeBatch(QuestionBatch):
    """B questions with A answers and Q answer tokens in all, laid out for one forward over R rows of T positions.

    Args:
        branch: (R, T) 0 for a prompt, c > 0 for the c-th answer, -1 for padding.
        position_ids: (R, T) position of each token in its prompt plus answer.
        branched: whether any row has more than one branch, so that the mask is needed.
        sources: (P,) distinct flat positions of R * T whose next token is predicted.
        source: (Q,) index into `sources` of each answer token.
        targets: (Q,) the answer tokens.
        answer: (Q,) index of the answer, of A, that each belongs to.
        firsts: the first row of each question, B numbers.
    """

    branch: Tensor
    position_ids: Tensor
    branched: bool
    sources: Tensor
    source: Tensor
    targets: Tensor
    answer: Tensor
    firsts: tuple[int, ...]

    def forward(self, model: Any, *, prototypes: Tensor | None = None, prefix: Prefix | None = None) -> Tensor:  # noqa: ARG002 - answers are never classes here
        """(A,) float32 sum of the log-probabilities of each answer's tokens, 0 or less."""
        options: dict[str, Any] = {"use_cache": False}
        if prefix is not None:
            options = {"past_key_values": prefix.cache, "use_cache": True}
        if self.branched or prefix is not None:
            options["attention_mask"] = _mask(self.branch, prefix)
            options["position_ids"] = self.position_ids + (0 if prefix is None else prefix.lengths[:, None])
        hidden = model.base_model(input_ids=self.input_ids, **options).last_hidden_state  # (R, T, D)
        rows = hidden.flatten(0, 1).index_select(0, self.sources)  # (P, D)
        log_probs = _token_log_probs(model.get_output_embeddings(), rows, self.source, self.targets)  # (Q,)
        return torch.zeros(len(self.lengths), device=log_probs.device).index_add(0, self.answer, log_probs)

    def prompt_states(self, model: Any, states: Tensor) -> Tensor:  # noqa: ARG002 - the same on any decoder
        """(B, D) the hidden state of the prompt's last token, which predicts the answer."""
        rows = torch.tensor(self.firsts, device=states.device)
        last = (self.branch == 0).sum(1) - 1  # (R,)
        return states[rows, last[rows]]


def _lay_out(parts: Sequence[Sequence[Question]], pad: int) -> TreeBatch:
    """Make a batch of questions that are split into parts, with one row a part.

    Args:
        parts: of B questions with one answer each at least, none of which is a class.
        pad: padding token id.
    """
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
        branched |= len(tokens) > question.longest  # more than one answer has a second token
    return TreeBatch(
        input_ids=input_ids,
        branch=branch,
        position_ids=position_ids,
        branched=branched,
        sources=torch.tensor(list(sources)),
        source=torch.tensor(source),
        targets=torch.tensor(targets),
        answer=torch.tensor(answer),
        lengths=torch.tensor(lengths),
        counts=tuple(sum(len(row.answers) for row in part) for part in parts),
        firsts=tuple(accumulate(map(len, parts[:-1]), initial=0)),
    )


def _mask(branch: Tensor, prefix: Prefix | None) -> Tensor:
    """(R, 1, T, P + T): whether a position attends to another. Padding attends to itself, so no row is empty."""
    length = branch.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=branch.device).tril()
    kin = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])  # (R, T, T)
    mask = causal & kin
    return (mask if prefix is None else prefix.before(mask))[:, None]


def _token_log_probs(head: Callable[[Tensor], Tensor], rows: Tensor, source: Tensor, targets: Tensor) -> Tensor:
    """(Q,) log-probability of each target after its source row. One (rows, vocabulary) block is in memory at a time."""

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
    """Scores by the mean log-probability of an answer's tokens. A row is a question, or a part of one."""

    writes_text = True
    compares_texts = False

    def collate(self, questions: Sequence[Question]) -> TreeBatch:
        """Make a batch of B questions, one row each unless a question's answers have too many tokens for a row."""
        return _lay_out([question.parts(most=len(question.answers)) for question in questions], self.pad)

    def plan(
        self,
        questions: Sequence[Question],
        *,
        prototypes: Floats | None = None,  # noqa: ARG002 - answers are never classes here
        known: Mapping[Tokens, Floats] = {},  # noqa: ARG002 - results of a question are not reused
    ) -> Plan[Question]:
        """The rows of B questions: several for a question with many answers."""
        parts = [question.parts() for question in questions]

        def scores(results: Sequence[Floats]) -> list[Floats]:
            left = iter(results)
            return [np.concatenate([next(left) for _ in part]) for part in parts]

        return Plan([row for part in parts for row in part], scores)

    def compute(self, model: Any, rows: Sequence[Question], prefix: Prefix | None = None) -> list[Floats]:
        """Scores of the answers of each row."""
        tree = _lay_out([[row] for row in rows], self.pad).to(model.device)
        with torch.inference_mode():
            means = (tree.forward(model, prefix=prefix) / tree.lengths).double().cpu()
        return [part.numpy() for part in torch.split(means, list(tree.counts))]

    def trials(self, model: Any, tokens: Sequence[int]) -> list[tuple[str, Tensor, Tensor]]:
        """Backbone and head against the whole model; trees, also after a prefix, against each answer alone."""
        from transformers import DynamicCache

        head, tokens = model.get_output_embeddings(), tuple(tokens)
        before, stem, one, two = tokens[:2], tokens[2:5], tokens[5:7], tokens[7:9]
        asked, last = tokens[9:11], tokens[11:12]
        # each answer alone after its prompt, and after the prefix too
        lines = [(stem, one), (stem, two), (asked, last), (before + stem, one), (before + stem, two)]
        plain = torch.full((len(lines), 7), self.pad)  # padded on the right
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
        behind = tree.forward(model, prefix=lay_before([prefix, None], model.device))
        return [
            ("the logits of head over backbone", over, logits),
            ("log-probabilities of answers side by side", tree.forward(model), torch.stack(sums[:3])),
            ("log-probabilities behind a prefix", behind, torch.stack([*sums[3:], sums[2]])),
        ]
