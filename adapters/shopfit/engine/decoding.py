"""Continuous batching of generation: new sequences join while others are decoded, each with its own adapter."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from shopfit.adapter.finite import not_finite
from shopfit.adapter.stack import Stack
from shopfit.base.scoring.scorer import Scorer
from shopfit.engine.constraints import Constraint, allow
from shopfit.engine.decoding_rows import DecodingRows
from shopfit.engine.detokenizer import IncrementalDetokenizer
from shopfit.engine.logprobs import LogProbs, keep_logprobs
from shopfit.engine.row_kinds import rows_of
from shopfit.engine.sampling import Sampling, penalize, pick

Finish = Literal["stop", "length"]


@dataclass(slots=True, eq=False)
class GeneratedSequence:
    """One answer, from its prompt to its last token.

    Args:
        prompt: token ids, at least one.
        detokenizer: collects its tokens and makes the text.
        most: new tokens at most, at least 1.
        sampling: how tokens are chosen.
        prefix: (layers, 2, heads, n, dim) trained keys and values before the prompt.
        slot: of the stack; 0 for none.
        constraint: grammar that the answer follows.
        logprobs: of its tokens; None if nobody asks for them.
        end: tokens that end it, besides those that end any of the base's.
        finish: "stop" at its end, "length" where it was cut off, None while it is being decoded.
        error: why decoding it failed.
        lifted: what is kept of it, while it is paused.
    """

    prompt: Sequence[int]
    detokenizer: IncrementalDetokenizer
    most: int
    sampling: Sampling = field(default_factory=Sampling)
    prefix: Tensor | None = None
    slot: int = 0
    constraint: Constraint | None = None
    logprobs: LogProbs | None = None
    end: frozenset[int] = frozenset()
    finish: Finish | None = None
    error: Exception | None = None
    lifted: Any = None

    @property
    def over(self) -> bool:
        """Whether it is finished or failed."""
        return self.finish is not None or self.error is not None

    @property
    def tokens(self) -> int:
        """Tokens that the next forward reads for it: its prompt's; one after a pause."""
        return len(self.prompt) if self.lifted is None else 1

    def add(self, token: int | None, end: frozenset[int]) -> None:
        """Append the next token; None where the logits were not finite."""
        try:
            self._add(token, end)
        except Exception as error:  # of the tokenizer or the constraint: only this answer fails
            self.error = error

    def _add(self, token: int | None, end: frozenset[int]) -> None:
        if token is None:
            if self.constraint is not None:
                self.constraint.check()
            raise not_finite()
        if token in end or token in self.end:
            if self.constraint is not None:
                self.constraint.end()
            self.finish = "stop"
            return
        if self.logprobs is not None:
            self.logprobs.add(token, self.detokenizer.length)
        self.detokenizer.add(token)
        if self.constraint is not None:
            self.constraint.add(token)
        if self.detokenizer.stopped or (self.constraint is not None and self.constraint.complete):
            self.finish = "stop"
        elif len(self.detokenizer.tokens) >= self.most:
            self.finish = "length"


class Decoder:
    """Decodes a batch of sequences on one model.

    Args:
        model: a causal language model of transformers.
        tokenizer: its tokenizer.
        scorer: of its base.
        rows: sequences at a time.
        stack: whose slots the sequences name; None where they use none.
        end: tokens that end an answer; those of the tokenizer and the model by default.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        scorer: Scorer[Any],
        *,
        rows: int = 32,
        stack: Stack | None = None,
        end: frozenset[int] | None = None,
    ) -> None:
        self.sequences: list[GeneratedSequence] = []
        self._model = model
        self._end = end_tokens(model, tokenizer) if end is None else end
        self._stack = stack
        self._most, self._scorer = rows, scorer
        self._never = sorted(never_written(model))

    @cached_property
    def _rows(self) -> DecodingRows:
        return rows_of(self._model, self._scorer, self._most)  # an encoder's are never made

    @property
    def free(self) -> int:
        """Free rows: how many sequences may still join."""
        return self._most - len(self.sequences)

    def join(self, sequences: Sequence[GeneratedSequence]) -> None:
        """Prefill the prompts of new sequences and sample the first token of each. If it fails, none has joined.

        Args:
            sequences: at most `free`, at least one.
        """
        with torch.inference_mode():
            joining = self._rows.joining(
                [sequence.prompt for sequence in sequences],
                [sequence.prefix for sequence in sequences],
                lambda which: self._adapted([sequences[row] for row in which], decoding=False),
            )
            with joining as logits:
                tokens = self._tokens(sequences, logits)
            self.sequences += sequences
            self._write(sequences, tokens)

    def step(self) -> None:
        """Decode one token of every sequence. Those that are over must have been taken.

        A forward that fails is retried in halves, until only the sequences that make it fail have an error.
        """
        with torch.inference_mode():
            self._step(0, len(self.sequences))

    def _step(self, first: int, last: int) -> None:
        sequences = self.sequences[first:last]
        read = [sequence.detokenizer.tokens[-1] for sequence in sequences]

        def adapted(which: Sequence[int]) -> AbstractContextManager[None]:
            return self._adapted([sequences[row] for row in which], decoding=True)

        try:
            with self._rows.stepping(first, last, read, adapted) as logits:
                tokens = self._tokens(sequences, logits)
        except Exception as error:
            if len(sequences) == 1:
                sequences[0].error = error
                return
            middle = (first + last) // 2
            self._step(first, middle)
            self._step(middle, last)
            return
        self._write(sequences, tokens)

    def take(self, over: Callable[[GeneratedSequence], bool] = lambda one: one.over) -> list[GeneratedSequence]:
        """Remove sequences.

        Args:
            over: which ones; those that are over by default.

        Returns:
            the removed sequences.
        """
        gone = []
        with torch.inference_mode():
            for row in reversed(range(len(self.sequences))):
                if over(self.sequences[row]):
                    gone.append(self.sequences[row])
                    self._leave(row)
        return gone[::-1]

    def pause(self, sequence: GeneratedSequence) -> None:
        """Remove a sequence before its end, keeping the keys and values that `resume` needs to go on exactly."""
        row = self.sequences.index(sequence)
        with torch.inference_mode():
            sequence.lifted = self._rows.lift(row)
            self._leave(row)

    def resume(self, sequence: GeneratedSequence) -> None:
        """Let a paused sequence go on, in whichever slot it names now."""
        assert sequence.lifted is not None
        with torch.inference_mode():
            self._rows.put_back(sequence.lifted)
        sequence.lifted = None
        self.sequences.append(sequence)

    def _leave(self, row: int) -> None:
        self._rows.leave(row)
        self.sequences[row] = self.sequences[-1]
        self.sequences.pop()

    def _tokens(self, sequences: Sequence[GeneratedSequence], logits: Tensor) -> list[int | None]:
        """The next token of each of B sequences, by the scores (B, V), which are changed."""
        watched = [row for row, sequence in enumerate(sequences) if sequence.logprobs is not None]
        own = logits[watched] if watched else None  # a copy: what follows changes logits in place
        samplings = [sequence.sampling for sequence in sequences]
        logits[:, self._never] = -torch.inf
        penalize(logits, samplings, [sequence.detokenizer.tokens for sequence in sequences])
        allow(logits, [sequence.constraint for sequence in sequences])
        tokens = pick(logits, samplings)
        if own is not None:
            kept = [sequence.logprobs for sequence in sequences if sequence.logprobs is not None]
            keep_logprobs(own, kept, [tokens[row] for row in watched])
        return tokens

    def _write(self, sequences: Sequence[GeneratedSequence], tokens: Sequence[int | None]) -> None:
        for sequence, token in zip(sequences, tokens, strict=True):
            sequence.add(token, self._end)

    def _adapted(self, sequences: Sequence[GeneratedSequence], *, decoding: bool) -> AbstractContextManager[None]:
        slots = [sequence.slot for sequence in sequences]
        return self._stack.rows(slots, decoding=decoding) if self._stack is not None and any(slots) else nullcontext()


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer: the tokenizer's, and those of the model's generation config."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    more = named if isinstance(named, list) else [named]
    return frozenset(token for token in (tokenizer.eos_token_id, *more) if token is not None)


def never_written(model: Any) -> frozenset[int]:
    """Tokens that the model's generation config rules out: `suppress_tokens`, and `bad_words_ids` of one token."""
    config = getattr(model, "generation_config", None)
    alone = [word[0] for word in getattr(config, "bad_words_ids", None) or () if len(word) == 1]
    return frozenset((*(getattr(config, "suppress_tokens", None) or ()), *alone))
