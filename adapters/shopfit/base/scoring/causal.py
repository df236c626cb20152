"""Log-probabilities of answers under a causal language model, with one pass over each prompt.

The answers of a question follow its prompt in one sequence, with the position ids they would have alone, and a mask
keeps them from attending to each other (tree attention, SpecInfer, arXiv:2305.09781). Rows are padded on the right, and
the output head runs only on positions that predict an answer token. A question with very many answers takes several
rows, each with the prompt and some of the answers.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from shopfit.base.attention import Attention
from shopfit.base.output_head import backbone_of, logits_of
from shopfit.base.placement import block_devices
from shopfit.base.prefix import Prefix, lay_before
from shopfit.base.scoring.questions import Question, Tokens
from shopfit.base.scoring.scorer import Floats, Plan, QuestionBatch, Scorer, Trial, keys_of

_HEAD_ROWS = 512  # positions that the head is applied to at once: bounds the memory of logits
_NARROW = 4  # positions of a window, in a trial: fewer than its texts have


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
        attention: of the model.
    """

    branch: Tensor
    position_ids: Tensor
    branched: bool
    sources: Tensor
    source: Tensor
    targets: Tensor
    answer: Tensor
    firsts: tuple[int, ...]
    attention: Attention

    def forward(self, model: Any, *, classes: Tensor | None = None, prefix: Prefix | None = None) -> Tensor:  # noqa: ARG002 - answers are never classes here
        """(A,) float32 sum of the log-probabilities of each answer's tokens, 0 or less."""
        options: dict[str, Any] = {"use_cache": False}
        if prefix is not None:
            options = {"past_key_values": prefix.cache, "use_cache": True}
        if self.branched or prefix is not None:
            options["attention_mask"] = self._mask(prefix)
            options["position_ids"] = self.position_ids + (0 if prefix is None else prefix.lengths[:, None])
        hidden = backbone_of(model)(input_ids=self.input_ids, **options).last_hidden_state  # (R, T, D)
        rows = hidden.flatten(0, 1).index_select(0, self.sources)  # (P, D)
        log_probs = token_log_probs(model, rows, self.source, self.targets)  # (Q,)
        return torch.zeros(len(self.lengths), device=log_probs.device).index_add(0, self.answer, log_probs)

    def _mask(self, prefix: Prefix | None) -> Any:
        """What each position attends to. Padding attends to itself, so no row is empty."""
        length = self.branch.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=self.branch.device).tril()
        kin = (self.branch[:, None, :] == 0) | (self.branch[:, None, :] == self.branch[:, :, None])  # (R, T, T)
        places = self.position_ids
        if prefix is None:
            return self.attention.mask(causal & kin, places, places)
        before = torch.arange(prefix.width, device=places.device).expand(len(places), -1)
        places = places + prefix.lengths[:, None]
        return self.attention.mask(prefix.before(causal & kin), places, torch.cat((before, places), dim=1))

    def row_keys(self, model: Any) -> list[tuple[bytes, int]]:  # noqa: ARG002 - the same on any decoder
        """The tokens of each row, and the branches that they are of."""
        return keys_of(self.branch != -1, self.input_ids, self.branch)

    def prompt_states(self, model: Any, states: Tensor) -> Tensor:  # noqa: ARG002 - the same on any decoder
        """(B, D) the hidden state of the prompt's last token, which predicts the answer."""
        rows = torch.tensor(self.firsts, device=states.device)
        last = (self.branch == 0).sum(1) - 1  # (R,)
        return states[rows, last[rows]]


def _lay_out(parts: Sequence[Sequence[Question]], pad: int, attention: Attention) -> TreeBatch:
    """Make a batch of questions that are split into parts, with one row a part.

    Args:
        parts: of B questions with one answer each at least, none of which is a class.
        pad: padding token id.
        attention: of the model.
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
        for number, ids in enumerate(question.texts, start=1):
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
        attention=attention,
    )


def token_log_probs(model: Any, rows: Tensor, source: Tensor, targets: Tensor) -> Tensor:
    """(Q,) log-probability of each target after its source row. One (rows, vocabulary) block is in memory at a time.

    Args:
        model: a causal language model.
        rows: (P, D) hidden states of its backbone.
        source: (Q,) index into `rows` of each target.
        targets: (Q,) tokens.
    """

    def block(rows: Tensor, index: Tensor, targets: Tensor) -> Tensor:
        logits = logits_of(model, rows)  # (chunk, V)
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


class AnswerScorer(Scorer[Question]):
    """Scores answers that are texts. A row is a question with some of its answers, which `collate` lays out."""

    writes_text = True
    peft_task = "CAUSAL_LM"
    compares_texts = False

    @abstractmethod
    def _parts(self, question: Question) -> list[Question]:
        """The rows of a question, in the order of its answers."""

    def plan(
        self,
        questions: Sequence[Question],
        *,
        classes: Floats | None = None,  # noqa: ARG002 - answers are never classes here
        known: Mapping[Tokens, Floats] = {},  # noqa: ARG002 - results of a question are not reused
    ) -> Plan[Question]:
        """The rows of B questions."""
        parts = [self._parts(question) for question in questions]

        def scores(results: Sequence[Floats]) -> list[Floats]:
            left = iter(results)
            return [np.concatenate([next(left) for _ in part]) for part in parts]

        return Plan([row for part in parts for row in part], scores)

    def compute(self, model: Any, rows: Sequence[Question], prefix: Prefix | None = None) -> list[Floats]:
        """Scores of the answers of each row."""
        batch = self.collate(rows).to(model.device)
        with torch.inference_mode():
            means = (batch.forward(model, prefix=prefix) / batch.lengths).double().cpu()
        return [part.numpy() for part in torch.split(means, list(batch.counts))]


@dataclass(frozen=True, slots=True)
class CausalScorer(AnswerScorer):
    """Scores by the mean log-probability of an answer's tokens. A row is a question, or a part of one.

    Args:
        attention: of the model.
    """

    attention: Attention = field(default_factory=Attention)

    path = "fast"
    takes_prefix = True

    def _parts(self, question: Question) -> list[Question]:
        return question.parts()

    def collate(self, questions: Sequence[Question]) -> TreeBatch:
        """Make a batch of B questions, one row each unless a question's answers have too many tokens for a row."""
        return _lay_out(
            [question.parts(most=len(question.answers)) for question in questions], self.pad, self.attention
        )

    def trials(self, model: Any, tokens: Sequence[int]) -> list[Trial]:
        """Trees against each answer alone, and a step of one token; where layers have windows, in narrow ones too."""
        return self._in_windows(model, lambda scorer: scorer._trials(model, tuple(tokens)))

    def prefix_trials(self, model: Any, tokens: Sequence[int], prefix: Tensor) -> list[Trial]:
        """Trees of which one is behind a prefix; where layers have windows, in narrow ones too."""
        return self._in_windows(model, lambda scorer: scorer._prefix_trials(model, tuple(tokens), prefix))

    def _in_windows(self, model: Any, trials: Callable[["CausalScorer"], list[Trial]]) -> list[Trial]:
        found = trials(self)
        if self.attention.window is not None:
            with self.attention.narrowed(model, _NARROW) as narrow:
                found += trials(replace(self, attention=narrow))
        return found

    def _trials(self, model: Any, tokens: Tokens) -> list[Trial]:
        stem, one, two, asked, last = tokens[2:5], tokens[5:7], tokens[7:9], tokens[9:11], tokens[11:12]
        tree = self.collate([Question(stem, (one, two)), Question(asked, (last,))]).to(model.device)
        lines = [(stem, one), (stem, two), (asked, last)]
        long, short = tokens[:6], tokens[6:11]
        logits = self._plain_logits(model, [*(prompt + answer for prompt, answer in lines), long, short])
        alone = answer_log_probs([*logits[: len(lines)]], lines)
        wanted = torch.stack([logits[3, len(long) - 1], logits[4, len(short) - 1]])
        return [
            ("log-probabilities of answers side by side", tree.forward(model), alone),
            ("the scores of a step of one token", self._step(model, long, short), wanted),
        ]

    def _plain_logits(self, model: Any, texts: Sequence[Tokens]) -> Tensor:
        """(N, T, V) of N texts by one plain forward. What stands behind a text changes nothing before it."""
        ids = torch.full((len(texts), max(map(len, texts))), self.pad)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)
        logits: Tensor = model(input_ids=ids.to(model.device), use_cache=False).logits
        return logits.float()

    def _step(self, model: Any, long: Tokens, short: Tokens) -> Tensor:
        """(2, V) scores after two texts of which the last token is read in a step, after a cache padded on the right.

        Args:
            model: of transformers.
            long: n tokens.
            short: n - 1 tokens.
        """
        from transformers import DynamicCache

        cache, length = DynamicCache(), len(long)
        before = torch.tensor([long[:-1], (*short[:-1], self.pad)], device=model.device)
        backbone_of(model)(input_ids=before, past_key_values=cache, use_cache=True)
        places = torch.tensor([[length - 1], [length - 2]], device=model.device)
        read = torch.arange(length, device=model.device).repeat(2, 1)
        allowed = torch.ones(2, 1, length, dtype=torch.bool, device=model.device)
        allowed[1, 0, -2], read[1, -1] = False, length - 2
        hidden = backbone_of(model)(
            input_ids=torch.tensor([long[-1:], short[-1:]], device=model.device),
            attention_mask=self.attention.mask(allowed, places, read),
            position_ids=places,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return logits_of(model, hidden[:, 0])

    def _prefix_trials(self, model: Any, tokens: Tokens, prefix: Tensor) -> list[Trial]:
        before, stem, one, two = tokens[:2], tokens[2:5], tokens[5:7], tokens[7:9]
        asked, last = tokens[9:11], tokens[11:12]
        lines = [(before + stem, one), (before + stem, two), (asked, last)]
        alone = answer_log_probs([*self._plain_logits(model, [prompt + answer for prompt, answer in lines])], lines)
        tree = self.collate([Question(stem, (one, two)), Question(asked, (last,))]).to(model.device)
        behind = tree.forward(model, prefix=lay_before([prefix, None], model.device, block_devices(model)))
        return [("log-probabilities behind a prefix", behind, alone)]


def answer_log_probs(logits: Sequence[Tensor], lines: Sequence[tuple[Tokens, Tokens]]) -> Tensor:
    """(N,) the log-probability of each answer after its prompt.

    Args:
        logits: (T, V) of each of N texts of prompt and answer.
        lines: the N prompts and answers.
    """
    sums = []
    for scores, (prompt, answer) in zip(logits, lines, strict=True):
        logs = scores.float().log_softmax(-1)
        sums.append(sum((logs[len(prompt) - 1 + at, token] for at, token in enumerate(answer)), logs.new_zeros(())))
    return torch.stack(sums)
