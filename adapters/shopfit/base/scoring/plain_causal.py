"""Log-probabilities of answers under any causal language model, each answer after its prompt in a row of its own.

For bases whose layers take no masks of trees: recurrent and hybrid ones, positions by distance, masks made inside of
the layers. The model's own forward reads each row, padded on the right, with the mask that transformers documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from shopfit.base.layer_states import cache_options, new_cache, put_together, take_apart
from shopfit.base.output_head import backbone_of
from shopfit.base.prefix import Prefix, lay_before
from shopfit.base.scoring.causal import AnswerScorer, answer_log_probs, token_log_probs
from shopfit.base.scoring.questions import Question, Tokens
from shopfit.base.scoring.scorer import QuestionBatch, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class LineBatch(QuestionBatch):
    """B questions with A answers and Q answer tokens in all, laid out for one forward over A rows of T positions.

    Args:
        mask: (A, T) 1 for a token, 0 for padding.
        source: (Q,) flat positions of A * T whose next token is predicted.
        targets: (Q,) the answer tokens.
        answer: (Q,) index of the answer, of A, that each belongs to.
        last: (B,) flat position of the last token of each prompt, in its first row.
    """

    mask: Tensor
    source: Tensor
    targets: Tensor
    answer: Tensor
    last: Tensor

    def forward(self, model: Any, *, classes: Tensor | None = None, prefix: Prefix | None = None) -> Tensor:  # noqa: ARG002 - answers are never classes here
        """(A,) float32 sum of the log-probabilities of each answer's tokens, 0 or less."""
        options: dict[str, Any] = {"use_cache": False, "attention_mask": self.mask}
        if prefix is not None:
            visible, cache = prefix.on_the_right()
            steps = torch.arange(self.mask.shape[1], device=self.mask.device)
            options = cache_options(model, cache, prefix.lengths[:, None] + steps)
            options["attention_mask"] = torch.cat((visible.to(self.mask), self.mask), dim=1)
        hidden = backbone_of(model)(input_ids=self.input_ids, **options).last_hidden_state  # (A, T, D)
        sources, source = torch.unique(self.source, return_inverse=True)
        rows = hidden.flatten(0, 1).index_select(0, sources)  # (P, D)
        log_probs = token_log_probs(model, rows, source, self.targets)  # (Q,)
        return torch.zeros(len(self.lengths), device=log_probs.device).index_add(0, self.answer, log_probs)

    def prompt_states(self, model: Any, states: Tensor) -> Tensor:  # noqa: ARG002 - the same on any decoder
        """(B, D) the hidden state of the prompt's last token, which predicts the answer."""
        return states.flatten(0, 1)[self.last.to(states.device)]


def _lay_out(questions: Sequence[Question], pad: int) -> LineBatch:
    """Make a batch of B questions with one answer each at least, none of which is a class.

    Args:
        questions: B of them.
        pad: padding token id.
    """
    lines = [(question.prompt, answer) for question in questions for answer in question.texts]
    width = max(len(prompt) + len(answer) - 1 for prompt, answer in lines)
    input_ids = torch.full((len(lines), width), pad)
    mask = torch.zeros((len(lines), width), dtype=torch.long)
    source: list[int] = []
    targets: list[int] = []
    answers: list[int] = []
    for row, (prompt, answer) in enumerate(lines):
        read = prompt + answer[:-1]
        input_ids[row, : len(read)] = torch.tensor(read)
        mask[row, : len(read)] = 1
        source += range(row * width + len(prompt) - 1, row * width + len(read))
        targets += answer
        answers += [row] * len(answer)
    counts = tuple(len(question.answers) for question in questions)
    firsts = accumulate(counts[:-1], initial=0)
    return LineBatch(
        input_ids=input_ids,
        mask=mask,
        source=torch.tensor(source),
        targets=torch.tensor(targets),
        answer=torch.tensor(answers),
        lengths=torch.tensor([len(answer) for _, answer in lines]),
        counts=counts,
        last=torch.tensor(
            [row * width + len(question.prompt) - 1 for row, question in zip(firsts, questions, strict=True)]
        ),
    )


class PlainCausalScorer(AnswerScorer):
    """Scores by the mean log-probability of an answer's tokens. A row is a question with one answer."""

    path = "plain"
    takes_prefix = True

    def collate(self, questions: Sequence[Question]) -> LineBatch:
        """Make a batch of B questions, one row an answer."""
        return _lay_out(questions, self.pad)

    def _parts(self, question: Question) -> list[Question]:
        return [replace(question, answers=(answer,)) for answer in question.answers]

    def trials(self, model: Any, tokens: Sequence[int]) -> list[Trial]:
        """Rows of different lengths in one batch against each alone, and a step of one token."""
        tokens = tuple(tokens)
        stem, one, two, asked, last = tokens[:5], tokens[5:8], tokens[8:9], tokens[9:11], tokens[11:12]
        alone = _alone(model, [(stem, one), (stem, two), (asked, last)])
        batch = self.collate([Question(stem, (one, two)), Question(asked, (last,))]).to(model.device)
        found: list[Trial] = [("log-probabilities of a batch", batch.forward(model), alone)]
        rows = []
        for text in (stem, asked):
            cache = new_cache(model)
            model(input_ids=torch.tensor([text], device=model.device), **cache_options(model, cache))
            rows += take_apart(cache, [len(text)])
        cache, mask = put_together(model, rows)
        step = step_logits(model, [one[0], last[0]], [len(stem), len(asked)], cache, mask)
        wanted = [
            model(input_ids=torch.tensor([text], device=model.device), use_cache=False).logits[0, -1].float()
            for text in (stem + one[:1], asked + last)
        ]
        found.append(("the scores of a step of one token", step, torch.stack(wanted)))
        return found

    def prefix_trials(self, model: Any, tokens: Sequence[int], prefix: Tensor) -> list[Trial]:
        """A batch of which one row has a prefix, against each alone."""
        tokens = tuple(tokens)
        before, stem, one, asked, last = tokens[:2], tokens[2:5], tokens[5:7], tokens[9:11], tokens[11:12]
        alone = _alone(model, [(before + stem, one), (asked, last)])
        batch = self.collate([Question(stem, (one,)), Question(asked, (last,))]).to(model.device)
        behind = batch.forward(model, prefix=lay_before([prefix, None], model.device))
        return [("log-probabilities behind a prefix", behind, alone)]


def step_logits(model: Any, tokens: Sequence[int], lengths: Sequence[int], cache: Any, mask: Tensor | None) -> Tensor:
    """(B, V) float32 scores of the token after the next one of B rows.

    Args:
        model: a causal language model.
        tokens: the next token of each row.
        lengths: positions before it.
        cache: of the rows, from `put_together`; it is added to.
        mask: of the rows, likewise.
    """
    options = cache_options(model, cache, torch.tensor(lengths, device=model.device)[:, None])
    if mask is not None:
        options["attention_mask"] = mask
    logits: Tensor = model(input_ids=torch.tensor(tokens, device=model.device)[:, None], **options).logits
    return logits[:, -1].float()


def _alone(model: Any, lines: Sequence[tuple[Tokens, Tokens]]) -> Tensor:
    """(N,) the log-probability of each answer after its prompt, by the model's plain forward of each by itself."""
    texts = [torch.tensor([prompt + answer], device=model.device) for prompt, answer in lines]
    return answer_log_probs([model(input_ids=text, use_cache=False).logits[0] for text in texts], lines)
