"""Log-probabilities of answers under a model with an encoder beside its decoder, such as T5 (arXiv:1910.10683).

The encoder reads a prompt once, whatever the number of answers. The first token of each answer is predicted behind the
decoder's opening, once a prompt; then each answer is a row of the decoder. The answers of a question are rows one
after another, equally many a question, so that a slot of a question's adapter is that of each of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from shopfit.base.encoder_decoder import new_cache, put_together, read, repeated, take_apart, write
from shopfit.base.output_head import logits_of
from shopfit.base.prefix import Prefix
from shopfit.base.scoring.causal import AnswerScorer, answer_log_probs, token_log_probs
from shopfit.base.scoring.dual_encoder import fill_up
from shopfit.base.scoring.questions import Question, Tokens
from shopfit.base.scoring.scorer import QuestionBatch, Trial

_READ = 1 << 14  # tokens of prompts that decoder rows read at once: each row has keys and values of all of its prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersBatch(QuestionBatch):
    """B questions with A answers, at most K a question, and Q answer tokens in all.

    Args:
        mask: (B, T) 1 for a token of a prompt, 0 for padding.
        opening: (O,) what the decoder has read before each answer.
        read: (B * K, L) each answer but for its last token, padded on the right; K rows a question.
        source: (Q,) where each answer token is predicted: at the end of the opening of question b, at b; at a flat
            position p of `read`, at B + p.
        targets: (Q,) the answer tokens.
        answer: (Q,) index of the answer, of A, that each belongs to.
    """

    mask: Tensor
    opening: Tensor
    read: Tensor
    source: Tensor
    targets: Tensor
    answer: Tensor

    def forward(self, model: Any, *, classes: Tensor | None = None, prefix: Prefix | None = None) -> Tensor:  # noqa: ARG002 - answers are never classes here, and there is no prefix
        """(A,) float32 sum of the log-probabilities of each answer's tokens, 0 or less."""
        return self.sums(model, kept=not torch.is_grad_enabled())

    def sums(self, model: Any, *, kept: bool) -> Tensor:
        """The same, with the decoder's states of the opening kept for all answers, or computed for each anew.

        Kept states cost no time twice; gradients are checkpointed without them.
        """
        prompts = read(model, self.input_ids, self.mask)  # (B, T, D)
        hidden = self._kept(model, prompts) if kept else self._anew(model, prompts)
        sources, source = torch.unique(self.source, return_inverse=True)
        log_probs = token_log_probs(model, hidden.index_select(0, sources), source, self.targets)  # (Q,)
        return torch.zeros(len(self.lengths), device=log_probs.device).index_add(0, self.answer, log_probs)

    @property
    def _each(self) -> int:
        return len(self.read) // len(self.input_ids)

    @property
    def _together(self) -> int:
        """Answers of each question that the decoder reads in one forward."""
        return min(self._each, max(1, _READ // self.input_ids.numel()))

    def _parts(self) -> list[Tensor]:
        """(B * k, L) of k answers of each question, in their order."""
        rows = self.read.view(len(self.input_ids), self._each, self.read.shape[1])
        return [part.flatten(0, 1) for part in torch.split(rows, self._together, dim=1)]

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        """(B * K * L, D) of (B * k, L, D) each."""
        questions = len(self.input_ids)
        rows = [part.view(questions, len(part) // questions, *part.shape[1:]) for part in parts]
        return torch.cat(rows, dim=1).flatten(0, 2)

    def _kept(self, model: Any, prompts: Tensor) -> Tensor:
        """(B + B * K * L, D) states of the decoder, in the order of `source`."""
        cache = new_cache()
        opened = write(model, self.opening.expand(len(prompts), -1), prompts, self.mask, cache)[:, -1]
        if not self.read.shape[1]:
            return opened
        parts = []
        for part in self._parts():
            copies = len(part) // len(prompts)
            mask = self.mask.repeat_interleave(copies, 0)
            parts.append(write(model, part, None, mask, repeated(cache, copies)))
        return torch.cat((opened, self._joined(parts)))

    def _anew(self, model: Any, prompts: Tensor) -> Tensor:
        """The same. If one forward would read too much, several do, and do it again for their gradients."""

        def written(part: Tensor) -> Tensor:  # (B * k, O + L, D)
            copies = len(part) // len(prompts)
            states, mask = (one.repeat_interleave(copies, 0) for one in (prompts, self.mask))
            return write(model, torch.cat((self.opening.expand(len(part), -1), part), dim=1), states, mask)

        parts, first = self._parts(), len(self.opening)
        if len(parts) == 1:
            states = [written(parts[0])]
        else:
            states = [checkpoint(written, part, use_reentrant=False) for part in parts]
        opened = states[0][:: self._together, first - 1]
        return torch.cat((opened, self._joined([part[:, first:].contiguous() for part in states])))

    def prompt_states(self, model: Any, states: Tensor) -> Tensor:  # noqa: ARG002 - the same on any decoder
        """(B, D) the decoder's state at the end of the opening, which predicts the answer."""
        return states[: len(self.input_ids) * self._together : self._together, len(self.opening) - 1]


def _lay_out(questions: Sequence[Question], pad: int, opening: Tokens) -> AnswersBatch:
    """Make a batch of B questions with one answer each at least, none of which is a class."""
    answers = [question.texts for question in questions]
    each = max(map(len, answers))
    longest = max(len(answer) for row in answers for answer in row) - 1
    input_ids, mask = fill_up([question.prompt for question in questions], pad)
    written = torch.full((len(questions) * each, longest), pad)
    source: list[int] = []
    targets: list[int] = []
    owner: list[int] = []
    lengths: list[int] = []
    for row, texts in enumerate(answers):
        for place, answer in enumerate(texts, start=row * each):
            written[place, : len(answer) - 1] = torch.tensor(answer[:-1])
            begin = len(questions) + place * longest
            source += [row, *range(begin, begin + len(answer) - 1)]
            targets += answer
            owner += [len(lengths)] * len(answer)
            lengths.append(len(answer))
    return AnswersBatch(
        input_ids=input_ids,
        mask=mask,
        opening=torch.tensor(opening),
        read=written,
        source=torch.tensor(source),
        targets=torch.tensor(targets),
        answer=torch.tensor(owner),
        lengths=torch.tensor(lengths),
        counts=tuple(map(len, answers)),
    )


@dataclass(frozen=True, slots=True)
class EncoderDecoderScorer(AnswerScorer):
    """Scores by the mean log-probability of an answer's tokens. A row is a question, or a part of one.

    Args:
        opening: tokens that the decoder has read before an answer.
        most: tokens of an answer at most.
    """

    opening: Tokens
    most: int

    path = "fast"
    peft_task = "SEQ_2_SEQ_LM"
    answers_apart = True

    @property
    def longest_answer(self) -> int:
        """Most tokens of an answer."""
        return self.most

    def collate(self, questions: Sequence[Question]) -> AnswersBatch:
        """Make a batch of B questions."""
        return _lay_out(questions, self.pad, self.opening)

    def apart(self, model: Any, row: Question) -> int:  # noqa: ARG002
        """The number of answers, roughly: each question of a batch has as many rows as the one with the most."""
        return (len(row.answers) - 1).bit_length()

    def _parts(self, question: Question) -> list[Question]:
        return question.parts()

    def trials(self, model: Any, tokens: Sequence[int]) -> list[Trial]:
        """Questions of different lengths in one batch against each alone, both ways; and a step of one token."""
        tokens = tuple(tokens)
        stem, one, two, asked, last = tokens[:5], tokens[5:8], tokens[8:9], tokens[9:11], tokens[11:12]
        lines = [(stem, one), (stem, two), (asked, last)]
        alone = answer_log_probs(
            [self._plain_logits(model, prompt, answer)[len(self.opening) - 1 :] for prompt, answer in lines],
            [((0,), answer) for _, answer in lines],
        )
        batch = self.collate([Question(stem, (one, two)), Question(asked, (last,))]).to(model.device)
        found: list[Trial] = [
            ("log-probabilities of a batch", batch.sums(model, kept=True), alone),
            ("log-probabilities in training", batch.sums(model, kept=False), alone),
        ]
        rows = []
        for prompt in (stem, asked):
            cache, ids = new_cache(), torch.tensor([prompt], device=model.device)
            mask = torch.ones_like(ids)
            write(model, torch.tensor([self.opening], device=model.device), read(model, ids, mask), mask, cache)
            rows.append(take_apart(cache, 0, len(prompt)))
        cache, mask = put_together(rows)
        step = step_logits(model, [one[0], last[0]], cache, mask)
        wanted = [self._plain_logits(model, prompt, answer)[-1] for prompt, answer in ((stem, one[:1]), (asked, last))]
        found.append(("the scores of a step of one token", step, torch.stack(wanted)))
        return found

    def _plain_logits(self, model: Any, prompt: Tokens, answer: Tokens) -> Tensor:
        """(O + L, V) of one answer by the model's plain forward."""
        ids, written = (torch.tensor([each], device=model.device) for each in (prompt, (*self.opening, *answer)))
        logits: Tensor = model(input_ids=ids, decoder_input_ids=written, use_cache=False).logits[0]
        return logits.float()


def step_logits(model: Any, tokens: Sequence[int], cache: Any, mask: Tensor) -> Tensor:
    """(B, V) float32 scores of the token after the next one of B rows.

    Args:
        model: of transformers.
        tokens: the next token of each row.
        cache: of the rows, from `put_together`; it is added to.
        mask: of their prompts, likewise.
    """
    hidden = write(model, torch.tensor(tokens, device=model.device)[:, None], None, mask, cache)
    return logits_of(model, hidden[:, 0])
